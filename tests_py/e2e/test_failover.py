"""Failover before the client hears of a failure: alike in all four frontends, raw and translated.

The rules in detail are tested on a virtual clock (tests_cpp/routing, tests_cpp/upstream); here they
are seen from outside. Attempts on one provider are apart by back-offs of a fraction of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import planted
from e2e.answers import (
    Answer,
    chat_stream,
    chat_whole,
    gemini_stream,
    gemini_whole,
    messages_stream,
    messages_whole,
    responses_stream,
    responses_whole,
)
from e2e.conftest import QUIET
from e2e.upstream import Close, Received, Reply, Reset, Upstream, Wait, error, stream, whole
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

Body = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """A wire format as a client uses it, and as a scripted provider answers in it."""

    type: str  # the catalog row of a provider that speaks it
    url: str  # below the proxy's address, for a whole reply
    stream_url: str
    ask: Body
    whole: Callable[[Answer], bytes]
    events: Callable[[Answer], Iterator[bytes]]
    text: Callable[[Any], str]  # of a whole reply
    delta: Callable[[Any], str]  # of one event of a stream


HELLO = [{"role": "user", "content": "Hello"}]
FORMATS = {
    "chat": Format(
        "openai-compatible",
        "/v1/chat/completions",
        "/v1/chat/completions",
        {"messages": HELLO},
        chat_whole,
        lambda answer: chat_stream(answer),
        lambda body: body["choices"][0]["message"]["content"],
        lambda event: "".join(c["delta"].get("content") or "" for c in event.get("choices", [])),
    ),
    "responses": Format(
        "openai-responses",
        "/v1/responses",
        "/v1/responses",
        {"input": "Hello"},
        responses_whole,
        responses_stream,
        lambda body: body["output"][0]["content"][0]["text"],
        lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
    ),
    "messages": Format(
        "anthropic-compatible",
        "/v1/messages",
        "/v1/messages",
        {"messages": HELLO, "max_tokens": 100},
        messages_whole,
        messages_stream,
        lambda body: body["content"][0]["text"],
        lambda event: event.get("delta", {}).get("text", ""),
    ),
    "gemini": Format(
        "gemini-compatible",
        "/v1beta/models/route:generateContent",
        "/v1beta/models/route:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
        gemini_whole,
        gemini_stream,
        lambda body: body["candidates"][0]["content"]["parts"][0]["text"],
        lambda event: "".join(
            part.get("text", "")
            for candidate in event.get("candidates", [])
            for part in candidate.get("content", {}).get("parts", [])
        ),
    ),
}
PRIMARY, FALLBACK = Answer("the answer of the primary"), Answer("the answer of the fallback")


def wants_stream(request: Received) -> bool:
    return "streamGenerateContent" in request.path or bool(request.json.get("stream"))


def giving(answer: Answer, form: Format) -> Callable[[Received], Reply]:
    def reply(request: Received) -> Reply:
        if wants_stream(request):
            return stream(list(form.events(answer)))
        return whole(form.whole(answer))

    return reply


@dataclass
class Heard:
    """What a client got."""

    status: int
    headers: httpx.Headers
    text: str  # output
    error: Any = None
    clean: bool = True


@dataclass
class Setup:
    """A proxy before a primary and a fallback."""

    form: Format
    leg: Format
    primary: Upstream
    fallback: Upstream
    url: str
    streamed: bool

    async def ask(self, begun: asyncio.Event | None = None) -> Heard:
        """`begun` is set as soon as the first output of a stream is here."""
        form = self.form
        body = {**form.ask, "model": "route", **({"stream": True} if self.streamed else {})}
        if form.type == "gemini-compatible":
            body = form.ask
        path = form.stream_url if self.streamed else form.url
        async with httpx.AsyncClient(timeout=8) as http:
            if not self.streamed:
                got = await http.post(self.url + path, json=body)
                said = got.json()
                text = form.text(said) if got.status_code == 200 else ""
                return Heard(got.status_code, got.headers, text, said.get("error"))
            async with http.stream("POST", self.url + path, json=body) as reply:
                heard, clean = b"", True
                try:
                    async for piece in reply.aiter_raw():
                        heard += piece
                        so_far = self.read(heard, Heard(200, reply.headers, ""))
                        if begun is not None and so_far.text:
                            begun.set()
                except httpx.RemoteProtocolError:
                    clean = False
            if reply.status_code != 200:
                return Heard(reply.status_code, reply.headers, "", json.loads(heard)["error"])
            return self.read(heard, Heard(200, reply.headers, "", clean=clean))

    def read(self, heard: bytes, out: Heard) -> Heard:
        for line in heard.decode().replace("\r", "").split("\n\n")[:-1]:
            data = line.rpartition("data: ")[2]
            if data == "[DONE]" or not data.startswith("{"):
                continue
            event = json.loads(data)
            out.error = out.error or event.get("error") or event.get("response", {}).get("error")
            if event.get("type") != "error":
                out.text += self.form.delta(event)
        return out


@asynccontextmanager
async def route(
    client: str, leg: str, streamed: bool, tmp_path: Path, keys: int = 1, **timeouts: float
) -> AsyncIterator[Setup]:
    form, spoken = FORMATS[client], FORMATS[leg]
    async with (
        Upstream(giving(PRIMARY, spoken)) as primary,
        Upstream(giving(FALLBACK, spoken)) as fallback,
    ):
        config = {
            "backends": {
                name: {
                    "type": spoken.type,
                    "api_url": upstream.url,
                    "api_keys": [planted.key(f"{name}-{i}") for i in range(keys)],
                }
                for name, upstream in (("primary", primary), ("fallback", fallback))
            },
            "failover_routes": {"route": {"elements": ["primary:model-a", "fallback:model-b"]}},
            "timeouts": timeouts,
        }
        file = tmp_path / "proxy.yaml"
        file.write_text(json.dumps(config))
        async with make_server(
            snapshot(load(Sources(environment=QUIET, config_file=file)))
        ) as server:
            url = f"http://127.0.0.1:{server.port}"
            yield Setup(form, spoken, primary, fallback, url, streamed)


def always(reply: Reply) -> Callable[[Received], Reply]:
    return lambda _: reply


def first(reply: Reply, then: Callable[[Received], Reply]) -> Callable[[Received], Reply]:
    left = [reply]
    return lambda request: left.pop() if left else then(request)


HTML = whole(b"<html>Please sign in</html>")
EMPTY = whole(b"")
ERROR_IN_200 = whole(
    b'{"error": {"message": "Overloaded", "type": "overloaded_error", "code": 529}}'
)
BROKEN_EVENT = stream([b'data: {"id":"broken","choices":[{"delta":{"conte\n\n'])
RESET = Reply(raw=b"")

# What the primary says for ever, and how often it is asked before the fallback serves.
TO_THE_FALLBACK: dict[str, tuple[Reply, int]] = {
    "401": (error(401, "authentication_error", "Incorrect API key"), 1),
    "402": (error(402, "billing_error", "no credit"), 1),
    "403": (error(403, "permission_error", "not allowed"), 1),
    "404": (error(404, "not_found_error", "no such model"), 1),
    "429 for a minute": (error(429, "rate_limit_error", "slow", ("retry-after", "60")), 1),
    "429 without a time": (error(429, "rate_limit_error", "slow"), 1),
    "a prompt too long": (error(400, "invalid_request_error", "prompt is too long: 9 > 8"), 1),
    "500": (error(500, "api_error", "down"), 3),
    "503": (error(503, "api_error", "down"), 3),
    "a page of HTML": (HTML, 3),
    "an empty body": (EMPTY, 3),
    "an error inside a 200": (ERROR_IN_200, 3),
    "a 200 that holds no answer": (whole(b"{}"), 3),
    "a broken first event": (BROKEN_EVENT, 3),
    "a closed connection": (RESET, 3),
    "silence": (Reply(silent=True), 1),
}
four_clients = pytest.mark.parametrize("client", FORMATS)
both_legs = pytest.mark.parametrize("translated", [False, True], ids=["raw", "translated"])
both_modes = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])


def leg_of(client: str, translated: bool) -> str:
    return ("messages" if client == "chat" else "chat") if translated else client


@four_clients
@both_legs
@both_modes
async def test_the_fallback_answers_whatever_is_wrong_with_the_primary(
    client: str, translated: bool, streamed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def check(name: str, reply: Reply, attempts: int, folder: Path) -> None:
        leg = leg_of(client, translated)
        async with route(client, leg, streamed, folder, first_byte=1.0) as setup:
            setup.primary.handler = always(reply)
            heard = await setup.ask()
            assert (heard.status, heard.text, heard.error) == (200, FALLBACK.text, None), name
            assert len(setup.primary.requests) == attempts, name
            assert len(setup.fallback.requests) == 1, name
            assert heard.headers["x-proxy-backend"] == "fallback", name
            assert heard.headers["x-proxy-attempts"] == str(attempts + 1), name
            sent = setup.fallback.last
            gemini = setup.leg.type == "gemini-compatible"
            assert "model-b" in (sent.path if gemini else sent.json["model"]), name

    await asyncio.gather(
        *(
            check(name, reply, attempts, tmp_path_factory.mktemp("proxy"))
            for name, (reply, attempts) in TO_THE_FALLBACK.items()
        )
    )


@four_clients
@both_legs
@both_modes
async def test_a_request_that_is_wrong_itself_goes_to_nobody_else(
    client: str, translated: bool, streamed: bool, tmp_path: Path
) -> None:
    refused = error(400, "invalid_request_error", "Output blocked by content filtering policy")
    async with route(client, leg_of(client, translated), streamed, tmp_path) as setup:
        setup.primary.handler = first(refused, setup.primary.handler)
        heard = await setup.ask()
        assert heard.status == 400
        assert "content filtering policy" in heard.error["message"]
        assert not setup.fallback.requests
        assert (await setup.ask()).text == PRIMARY.text, "it was nobody's fault"


@four_clients
@both_legs
@both_modes
async def test_a_passing_failure_is_tried_again_where_it_happened(
    client: str, translated: bool, streamed: bool, tmp_path: Path
) -> None:
    async with route(client, leg_of(client, translated), streamed, tmp_path) as setup:
        setup.primary.handler = first(error(500, "api_error", "oops"), setup.primary.handler)
        assert (await setup.ask()).text == PRIMARY.text
        assert len(setup.primary.requests) == 2
        assert not setup.fallback.requests


@four_clients
@both_legs
@both_modes
async def test_when_all_are_limited_the_client_is_told_the_soonest_time(
    client: str, translated: bool, streamed: bool, tmp_path: Path
) -> None:
    def limited(seconds: str) -> Callable[[Received], Reply]:
        return always(error(429, "rate_limit_error", "slow down", ("retry-after", seconds)))

    async with route(client, leg_of(client, translated), streamed, tmp_path, keys=2) as setup:
        setup.primary.handler, setup.fallback.handler = limited("40"), limited("60")
        for _ in range(2):
            heard = await setup.ask()
            assert heard.status == 429
            assert 39 <= int(heard.headers["retry-after"]) <= 40
            assert heard.error["message"]
        for upstream in (setup.primary, setup.fallback):
            assert len(upstream.requests) == 2, "each key once, and none before its time"


@four_clients
@both_legs
@pytest.mark.parametrize("ending", [Reset(), Close(), None], ids=["reset", "closed", "ended"])
async def test_after_the_first_output_nobody_is_asked_again(
    client: str, translated: bool, ending: Reset | Close | None, tmp_path: Path
) -> None:
    leg = leg_of(client, translated)
    # Everything up to the second piece of text, one chunk a step.
    events = list(FORMATS[leg].events(PRIMARY))
    output = [i for i, event in enumerate(events) if b"answer" in event or b"the ans" in event]
    heard_of = asyncio.Event()
    steps = [*events[: output[0] + 1], Wait(heard_of), *([ending] if ending else [])]
    async with route(client, leg, True, tmp_path) as setup:
        setup.primary.handler = always(stream(steps))
        heard = await setup.ask(heard_of)
        assert heard.text
        assert PRIMARY.text.startswith(heard.text)
        assert heard.error is not None
        assert not heard.clean
        assert len(setup.primary.requests) == 1
        assert not setup.fallback.requests


@four_clients
@both_legs
async def test_a_broken_event_in_mid_stream_is_left_out(
    client: str, translated: bool, tmp_path: Path
) -> None:
    leg = leg_of(client, translated)
    events = list(FORMATS[leg].events(PRIMARY))
    middle = len(events) // 2 + 1
    heard_of = asyncio.Event()
    broken = b'data: {"id":"broken","choices":[{"delta":{"conte\n\n'
    async with route(client, leg, True, tmp_path) as setup:
        setup.primary.handler = always(
            stream([*events[:middle], Wait(heard_of), broken, *events[middle:]])
        )
        heard = await setup.ask(heard_of)
        assert (heard.text, heard.error, heard.clean) == (PRIMARY.text, None, True)


async def test_headers_about_the_attempts_can_be_switched_off(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("failure_handling: {reply_headers: false}\n")
    async with (
        make_server(snapshot(load(Sources(environment=QUIET, config_file=file)))) as server,
        httpx.AsyncClient() as http,
    ):
        got = await http.post(
            f"http://127.0.0.1:{server.port}/v1/chat/completions",
            json={"model": "m", "messages": HELLO},
        )
    assert got.status_code == 200
    assert not {name for name in got.headers if name.startswith("x-proxy-")} - {
        "x-proxy-request-id"
    }


FAILED = b'{"type": "response.failed", "sequence_number": 0, "response": {"status": "failed"'
FAILED += b', "error": {"code": "server_error", "message": "broke"}, "output": []}}'
AS_IT_CAME: dict[str, tuple[str, Reply]] = {
    "an error in a 200": ("chat", ERROR_IN_200),
    "an error first in a stream": (
        "chat",
        stream([b'data: {"error": {"message": "Overloaded", "code": 529}}\n\n']),
    ),
    "a response that failed": ("responses", stream([b"data: " + FAILED + b"\n\n"])),
    "a page": ("chat", HTML),
}


@pytest.mark.parametrize("what", AS_IT_CAME)
async def test_with_failure_handling_off_a_client_gets_what_the_provider_said(
    what: str, tmp_path: Path
) -> None:
    spoken, reply = AS_IT_CAME[what]
    form = FORMATS[spoken]
    async with Upstream(always(reply)) as upstream:
        config = {
            "backends": {"up": {"type": form.type, "api_url": upstream.url}},
            "default_backend": "up:m",
            "failure_handling": {"enabled": False},
        }
        file = tmp_path / "proxy.yaml"
        file.write_text(json.dumps(config))
        async with (
            make_server(snapshot(load(Sources(environment=QUIET, config_file=file)))) as server,
            httpx.AsyncClient() as http,
        ):
            url = f"http://127.0.0.1:{server.port}"
            heard = b""
            ask = {**form.ask, "model": "m", "stream": reply.streamed}
            async with http.stream("POST", url + form.url, json=ask) as got:
                with contextlib.suppress(httpx.RemoteProtocolError):
                    async for piece in got.aiter_raw():
                        heard += piece
            said = b"".join(step for step in reply.steps if isinstance(step, bytes))
            assert (got.status_code, heard) == (200, said)
            # Whoever speaks another format is told of the failure in its own.
            other = FORMATS["messages"]
            told = await http.post(url + other.url, json={**other.ask, "model": "m"})
            assert told.status_code >= 400
            assert told.json()["type"] == "error"
            assert len(upstream.requests) == 2
