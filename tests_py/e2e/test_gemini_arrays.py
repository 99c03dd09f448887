"""A Gemini client that does not ask for server-sent events gets one JSON array, piece by piece."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import httpx
import pytest

from e2e.answers import TEXT, chat_stream
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Close, Reply, Step, Upstream, stream

PATH = "/v1beta/models/gemini-test:streamGenerateContent"
ASK = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": [{"text": text}]},
        "index": 0,
    }
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-test", "responseId": "r"}


ARRAY = (
    "["
    + "\n,\r\n".join(json.dumps(c, indent=2) for c in (chunk("a [b"), chunk('"c]', "STOP")))
    + "\n]"
).encode()


async def ask(proxy: Proxy) -> tuple[httpx.Response, bytes, bool]:
    heard, clean = b"", True
    async with (
        httpx.AsyncClient(timeout=20) as http,
        http.stream("POST", proxy.url + PATH, json=ASK) as got,
    ):
        try:
            async for piece in got.aiter_raw():
                heard += piece
        except httpx.RemoteProtocolError:
            clean = False
    return got, heard, clean


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(
        part.get("text", "") for c in chunks for part in c["candidates"][0]["content"]["parts"]
    )


async def test_another_formats_stream_comes_as_an_array(start_proxy: StartProxy) -> None:
    async with (
        Upstream(lambda _: stream(chat_stream(TEXT, usage=True))) as upstream,
        start_proxy(upstream, "openai") as proxy,
    ):
        got, heard, clean = await ask(proxy)
    chunks = json.loads(heard)
    assert clean and got.headers["content-type"] == "application/json"
    assert text_of(chunks) == TEXT.text and len(chunks) > 1
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    assert chunks[-1]["usageMetadata"]["promptTokenCount"] == TEXT.input_tokens


@pytest.mark.parametrize("size", [1, 7, 64, len(ARRAY)])
async def test_a_gemini_array_passes_byte_for_byte(size: int, start_proxy: StartProxy) -> None:
    pieces: list[Step] = [ARRAY[i : i + size] for i in range(0, len(ARRAY), size)]
    async with (
        Upstream(lambda _: Reply(steps=pieces, streamed=True)) as upstream,
        start_proxy(upstream, "gemini") as proxy,
    ):
        got, heard, clean = await ask(proxy)
        assert "alt=" not in upstream.last.path
    assert (got.status_code, heard, clean) == (200, ARRAY, True)


@pytest.mark.parametrize("backend", ["openai", "gemini"])
async def test_a_cut_stream_is_no_finished_array(backend: str, start_proxy: StartProxy) -> None:
    steps: list[Step] = (
        [*list(chat_stream(TEXT))[:5], Close()]
        if backend == "openai"
        else [ARRAY[: len(ARRAY) * 2 // 3], Close()]
    )
    kind = "text/event-stream" if backend == "openai" else "application/json"
    async with (
        Upstream(lambda _: Reply(200, (("content-type", kind),), steps, True)) as upstream,
        start_proxy(upstream, backend) as proxy,
    ):
        got, heard, clean = await ask(proxy)
    assert b"STOP" not in heard
    assert not clean or got.status_code >= 500
    finished = False
    with contextlib.suppress(ValueError):
        finished = "error" not in json.dumps(json.loads(heard))
    assert not finished
