"""What stands before the formats: compressed bodies, plain relays, names of any spelling."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from e2e.answers import TEXT
from e2e.conftest import StartProxy
from e2e.upstream import Received, Reply, Upstream, answering, stream, whole

CHAT: dict[str, Any] = {"model": "gpt-test", "messages": [{"role": "user", "content": "zażółć"}]}
PLAIN = json.dumps(CHAT).encode()
# PLAIN, as the codings' own programs write it.
BROTLI = base64.b64decode(
    "G10AKIzUY60w3Aie39m0v5n6UMq0YpCwXt2/5SRAnHLCBWa1JdeTZQeRe8qKpIrGhH8P4UtmP2p1vorha5HL4bQ4jO2k"
    "IFz+Xj9xaShkBbroSxK3XQ=="
)
ZSTD = base64.b64decode(
    "KLUv/SBetQIA4gQSGXBJdaiQiA1sNVE5Iw5UBVahSF4sk/9/mAGxEE80MBAcVJ9BBKDPnESzbdbQc9wtv1XNHRKynDcd"
    "5l3P8ebtohHpWa7W0NZhBAQBKdiLYrOmKD0="
)
CODINGS = {
    "gzip": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    "br": BROTLI,
    "zstd": ZSTD,
}


def gzip_bomb() -> bytes:
    """200 MiB of one letter."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"a" * (1 << 20)) for _ in range(200)) + packer.flush()


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_compressed_body_is_read_and_goes_on_plain(
    coding: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        headers = {"content-encoding": coding, "content-type": "application/json"}
        got = await http.post("/v1/chat/completions", content=CODINGS[coding], headers=headers)
        assert got.json()["choices"][0]["message"]["content"] == TEXT.text
        assert upstream.last.body == PLAIN
        assert "content-encoding" not in upstream.last.headers

        for broken in (CODINGS[coding][:-20], b"not " + CODINGS[coding], PLAIN, b""):
            got = await http.post("/v1/messages", content=broken, headers=headers)
            assert got.status_code == 400, broken
            assert got.json()["error"]["type"] == "invalid_request_error"
    assert len(upstream.requests) == 1


async def test_a_compressed_bomb_ends_at_the_limit(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_MAX_BODY_BYTES="1000000") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        bomb = gzip_bomb()
        assert len(bomb) < 300_000
        headers = {"content-encoding": "gzip"}
        got = await http.post("/v1/chat/completions", content=bomb, headers=headers)
        assert got.status_code == 413
        unknown = {"content-encoding": "lzma"}
        got = await http.post("/v1/chat/completions", content=PLAIN, headers=unknown)
        assert got.status_code == 400
    assert not upstream.requests


def plain(request: Received) -> Reply:
    if request.json.get("stream"):
        chunks = (
            b'data: {"choices": [{"index": 0, "text": "a", "finish_reason": null}]}\n\n',
            b'data: {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}\n\n',
        )
        return stream([*chunks, b"data: [DONE]\n\n"])
    return whole(b'{"object": "anything",  "usage": {"prompt_tokens": 3}, "data": []}')


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", b'{"input": ["a", "b"], "model": "NAME",  "dimensions": 1.0e1}'),
        ("/v1/completions", b'{"prompt": "a\\u0142", "model":"NAME", "suffix": null}'),
        ("/v1/completions", b'{"stream": true, "model":"NAME", "prompt": "a"}'),
    ],
)
@pytest.mark.parametrize("name", ["some-model", "vendor/some:model"])
async def test_what_needs_no_translation_is_relayed_byte_for_byte(
    path: str, body: bytes, name: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(plain) as upstream,
        start_proxy(upstream, "openai") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        sent = body.replace(b"NAME", f"openai:{name}".encode())
        got = await http.post(path, content=sent)
    assert upstream.last.path == path
    assert upstream.last.body == body.replace(b"NAME", name.encode())
    assert b"".join(step for step in plain(upstream.last).steps if isinstance(step, bytes)) == (
        got.content
    )


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions"])
async def test_a_backend_of_another_kind_is_never_sent_them(
    path: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(plain) as upstream,
        start_proxy(upstream, "anthropic") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        got = await http.post(path, json={"model": "m", "input": "a", "prompt": "a"})
        assert got.status_code == 400 and path[3:] in got.json()["error"]["message"]
    assert not upstream.requests


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/gemini:vendor/some:model:generateContent",
        "/v1beta/models/gemini%3Avendor%2Fsome%3Amodel:generateContent",
        "/v1/models/gemini:vendor/some:model:generateContent?key=any",
        "/v1alpha/models/gemini:vendor/some:model:generateContent",
    ],
)
async def test_a_model_s_name_may_hold_slashes_and_colons(
    path: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "gemini") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        got = await http.post(path, json={"contents": [{"parts": [{"text": "a"}]}]})
        assert got.json()["candidates"][0]["content"]["parts"][0]["text"] == TEXT.text
    assert upstream.last.path == "/v1/models/vendor%2Fsome:model:generateContent"


async def test_both_spellings_of_gemini_s_keys_arrive(start_proxy: StartProxy) -> None:
    camel = {
        "contents": [{"role": "user", "parts": [{"text": "a"}]}],
        "systemInstruction": {"parts": [{"text": "s"}]},
        "generationConfig": {"maxOutputTokens": 7, "stopSequences": ["x"]},
    }
    snake = {
        "contents": camel["contents"],
        "system_instruction": camel["systemInstruction"],
        "generation_config": {"max_output_tokens": 7, "stop_sequences": ["x"]},
    }
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "anthropic") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        for body in (camel, snake):
            await http.post("/v1beta/models/m:generateContent", json=body)
        one, other = (request.json for request in upstream.requests)
    assert one == other
    assert (one["max_tokens"], one["stop_sequences"]) == (7, ["x"])


async def test_anthropic_s_api_is_found_below_its_name_too(start_proxy: StartProxy) -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "anthropic") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        got = await http.post("/anthropic/v1/messages?beta=true", json=body)
        assert got.json()["content"][0]["text"] == TEXT.text
        assert upstream.last.path == "/v1/messages?beta=true"
        got = await http.post("/anthropic/v1/messages/count_tokens", json=body)
        assert got.json()["input_tokens"] > 0
        assert "has_more" in (await http.get("/anthropic/v1/models")).json()
