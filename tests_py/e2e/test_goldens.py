"""What the proxy writes for each pair of formats, byte for byte, to provider and client.

`tests_py/goldens/<format>/` holds what is scripted: the client's request, and what a provider of
that format says to it: a whole reply, a stream, an error, a stream that breaks with an error.
`tests_py/goldens/pairs/` holds what the proxy made of them, `tests_py/goldens/own/` what it says to
a client of each format by itself. After a change that is meant to alter
bytes, `./dev goldens` records both anew; review the `git diff` like code.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest

from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Close, Received, Reply, Upstream, Wait, stream, whole
from repo import ROOT

FOLDER = ROOT / "tests_py" / "goldens"
RECORD = os.environ.get("RECORD_GOLDENS") == "1"

# The backend that speaks a format, and the path at which the proxy hears it (whole, streamed).
BACKENDS = {
    "openai_chat": "openai",
    "openai_responses": "openai-responses",
    "anthropic_messages": "anthropic",
    "gemini_generate": "gemini",
}
PATHS = {
    "openai_chat": ("/v1/chat/completions",) * 2,
    "openai_responses": ("/v1/responses",) * 2,
    "anthropic_messages": ("/v1/messages",) * 2,
    "gemini_generate": (
        "/v1beta/models/model-a:generateContent",
        "/v1beta/models/model-a:streamGenerateContent?alt=sse",
    ),
}
PAIRS = [(client, upstream) for client in PATHS for upstream in BACKENDS]


def scripted(folder: str, name: str) -> bytes:
    return (FOLDER / folder / name).read_bytes()


def events(folder: str, name: str) -> list[bytes]:
    return [event + b"\n\n" for event in scripted(folder, name).split(b"\n\n") if event]


def request_of(client: str, streamed: bool) -> bytes:
    body = scripted(client, "request.json")
    if not streamed or client == "gemini_generate":
        return body
    usage = b', "stream_options": {"include_usage": true}' if client == "openai_chat" else b""
    return body.replace(b"{", b'{"stream": true' + usage + b",", 1)


def cut(upstream: str, heard: asyncio.Event) -> Reply:
    """The first two thirds of the stream; then the connection closes amid a chunked body."""
    pieces = events(upstream, "reply.sse")
    return stream([*pieces[: len(pieces) * 2 // 3], Wait(heard), Close()])


def broken(upstream: str, heard: asyncio.Event) -> Reply:
    """An error that comes when the client has heard something, so that nobody else is asked."""
    *pieces, last = events(upstream, "broken.sse")
    return stream([*pieces, Wait(heard), last])


# Whether a stream is asked for, and what the provider says to it.
CASES: dict[str, tuple[bool, Callable[[str, asyncio.Event], Reply]]] = {
    "whole": (False, lambda upstream, _: whole(scripted(upstream, "reply.json"))),
    "streamed": (True, lambda upstream, _: stream(events(upstream, "reply.sse"))),
    "error": (False, lambda upstream, _: whole(scripted(upstream, "error.json"), 400)),
    "error to a stream": (True, lambda upstream, _: whole(scripted(upstream, "error.json"), 400)),
    "error in a stream": (True, broken),
    "cut stream": (True, cut),
}


class Mask:
    """Replaces what differs from run to run: ids that the proxy makes up, and the present time.

    An id that occurs twice gets the same number twice. Nothing that a script holds is touched.
    """

    MADE_UP = re.compile(
        r'\b(?:chatcmpl-|msg_|resp_|rs_|fc_|call_|toolu_)\w{8,}|(?<="responseId":")[0-9a-f]{32}'
    )
    TIME = re.compile(r'("created(?:_at)?": ?)(\d{10}|"[-0-9]{10}T[:0-9]{8}Z")')

    def __init__(self) -> None:
        self.numbers: dict[str, str] = {}
        self.scripts = b"".join(
            path.read_bytes() for format in PATHS for path in (FOLDER / format).iterdir()
        ).decode()

    def __call__(self, text: str) -> str:
        return re.sub(self.TIME, self._time, re.sub(self.MADE_UP, self._id, text))

    def _id(self, found: re.Match[str]) -> str:
        word = found.group()
        if f'"{word}"' in self.scripts:
            return word
        return self.numbers.setdefault(word, f"<id {len(self.numbers) + 1}>")

    def _time(self, found: re.Match[str]) -> str:
        word = found.group(2).strip('"')
        said = (
            float(word)
            if word.isdigit()
            else datetime.fromisoformat(word[:-1] + "+00:00").timestamp()
        )
        return f"{found.group(1)}<now>" if abs(said - time.time()) < 3600 else found.group()


def lines_of(body: bytes) -> list[str]:
    """A body so that a golden file shows it a line a row."""
    return body.decode().splitlines(keepends=True)


async def say(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    body: bytes,
    heard: asyncio.Event | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What a client gets: status, content type and body, and whether the body ended in order."""
    got = bytearray()
    clean = True
    head = {**({"content-type": "application/json"} if body else {}), **(headers or {})}
    async with http.stream(method, path, content=body, headers=head) as reply:
        try:
            async for piece in reply.aiter_raw():
                got += piece
                if heard:
                    heard.set()
        except httpx.RemoteProtocolError:
            clean = False
    return {
        "status": reply.status_code,
        "content-type": reply.headers.get("content-type"),
        "body": lines_of(bytes(got)),
        "ended": "in order" if clean else "cut",
    }


# The headers of a request to a provider that depend on the formats.
TOLD = ("content-type", "accept", "anthropic-version")


def told(request: Received) -> dict[str, Any]:
    headers = {name: request.headers[name] for name in TOLD if name in request.headers}
    return {"path": request.path, **headers, "body": lines_of(request.body)}


def compare(name: str, got: dict[str, Any]) -> None:
    path = FOLDER / f"{name}.json"
    masked = each_line(got, Mask())
    if RECORD:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(masked, ensure_ascii=False, indent=1) + "\n")
        return
    kept = json.loads(path.read_text())
    assert kept.keys() == masked.keys()
    for case, expected in kept.items():
        assert masked[case] == expected, case


def each_line(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [each_line(item, change) for item in value]
    if isinstance(value, dict):
        return {key: each_line(item, change) for key, item in value.items()}
    return value


async def run(client: str, upstream: str, proxy: Proxy, provider: Upstream) -> dict[str, Any]:
    out: dict[str, Any] = {}
    asked: dict[bool, Any] = {}
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as http:
        for case, (streamed, answer) in CASES.items():
            heard = asyncio.Event()
            reply_to_it = answer(upstream, heard)
            provider.requests.clear()
            provider.handler = lambda _, reply=reply_to_it: reply  # type: ignore[misc]
            body = request_of(client, streamed)
            reply = await say(http, "POST", PATHS[client][streamed], body, heard)
            # A GET asks for the provider's models, whenever that is due.
            (request,) = [told(one) for one in provider.requests if one.method == "POST"]
            # The provider is asked the same whatever it will answer: a golden file has it once.
            if streamed not in asked:
                out[case] = {"upstream": request, **reply}
            else:
                assert request == asked[streamed]
                out[case] = reply
            asked[streamed] = request
    port = f"127.0.0.1:{provider.port}"
    masked: dict[str, Any] = each_line(out, lambda line: line.replace(port, "127.0.0.1:<port>"))
    return masked


@pytest.mark.parametrize(("client", "upstream"), PAIRS, ids=["-to-".join(pair) for pair in PAIRS])
async def test_a_pair_writes_what_it_wrote(
    client: str, upstream: str, start_proxy: StartProxy
) -> None:
    async with Upstream() as provider, start_proxy(provider, BACKENDS[upstream]) as proxy:
        compare(f"pairs/{client}-to-{upstream}", await run(client, upstream, proxy, provider))


# What the proxy answers by itself: (what is shown, method, path, body), and the client's headers.
HEADERS = {"anthropic_messages": {"anthropic-version": "2023-06-01"}}
WHERE = {
    "openai_chat": ("/v1/models", None),
    "openai_responses": ("/v1/models", "/v1/responses/input_tokens"),
    "anthropic_messages": ("/v1/models", "/v1/messages/count_tokens"),
    "gemini_generate": ("/v1beta/models", "/v1beta/models/echo:countTokens"),
}


def own_requests(client: str) -> list[tuple[str, str, str, bytes]]:
    models, count = WHERE[client]
    whole, streamed = (path.replace("model-a", "echo") for path in PATHS[client])
    body = request_of(client, False).replace(b'"model-a"', b'"echo"')
    to_stream = request_of(client, True).replace(b'"model-a"', b'"echo"')
    nobody = body.replace(b'"echo"', b'"nobody:model"')
    requests = [
        ("models", "GET", models, b""),
        ("one model", "GET", f"{models}/echo", b""),
        ("unknown model", "GET", f"{models}/unknown", b""),
        ("echo", "POST", whole, body),
        ("echo streamed", "POST", streamed, to_stream),
        ("no JSON", "POST", whole, b'{"model": "echo",'),
        (
            "wrong type",
            "POST",
            whole,
            b'{"model": "echo", "messages": 3, "input": 3, "contents": 3}',
        ),
        ("name that no backend has", "POST", whole.replace("echo", "nobody:model"), nobody),
        ("wrong method", "PUT", whole, body),
        ("nothing there", "POST", f"{whole}/none", body),
    ]
    if count:
        requests.append(("count", "POST", count, body))
        requests.append(("nothing to count", "POST", count, b"[]"))
    return requests


@pytest.mark.parametrize("client", PATHS)
async def test_the_proxy_itself_answers_as_it_did(client: str, start_proxy: StartProxy) -> None:
    headers = HEADERS.get(client)
    async with start_proxy() as proxy, httpx.AsyncClient(base_url=proxy.url, timeout=30) as http:
        said = {
            name: await say(http, method, path, body, headers=headers)
            for name, method, path, body in own_requests(client)
        }
    compare(f"own/{client}", said)
