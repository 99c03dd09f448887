"""FailoverBench's sixteen scenarios, scaled down in time.

Thirteen end in the whole right answer, three in an explicit error: nothing is ever said twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer, chat_stream, chat_whole
from e2e.conftest import QUIET
from e2e.upstream import Close, Received, Reply, Reset, Stall, Step, Upstream, error, stream, whole
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

WORDS = " ".join(f"token{i}" for i in range(60))
FIRST, SECOND = Answer(WORDS, model="model-a"), Answer(WORDS, model="model-b", output_tokens=61)
EVENTS = list(chat_stream(FIRST))
BEGUN = EVENTS[: len(EVENTS) * 2 // 3]


@dataclass
class Heard:
    status: int
    text: str = ""
    model: str = ""
    output_tokens: int | None = None
    error: Any = None
    clean: bool = True
    seconds: float = 0.0


@dataclass
class Bench:
    primary: Upstream
    fallback: Upstream
    url: str
    streamed: bool = True
    times: list[float] = field(default_factory=list)

    async def ask(self, streamed: bool | None = None) -> Heard:
        body: dict[str, Any] = {"model": "route", "messages": [{"role": "user", "content": "Go"}]}
        if streamed if streamed is not None else self.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        began = time.monotonic()
        heard = Heard(0)
        async with (
            httpx.AsyncClient(timeout=20) as http,
            http.stream("POST", self.url + "/v1/chat/completions", json=body) as reply,
        ):
            heard.status = reply.status_code
            received = b""
            try:
                async for piece in reply.aiter_raw():
                    received += piece
            except httpx.HTTPError:
                heard.clean = False
        heard.seconds = time.monotonic() - began
        if "event-stream" not in reply.headers["content-type"]:
            said = json.loads(received)
            heard.error = said.get("error")
            if heard.error is None:
                heard.text = said["choices"][0]["message"]["content"]
                heard.model, usage = said["model"], said["usage"]
                heard.output_tokens = usage["completion_tokens"]
            return heard
        for event in received.split(b"\n\n"):
            data = event.removeprefix(b"data: ")
            if not data.startswith(b"{"):
                continue
            said = json.loads(data)
            heard.error = heard.error or said.get("error")
            heard.model = said.get("model") or heard.model
            for choice in said.get("choices", ()):
                heard.text += choice["delta"].get("content") or ""
            if said.get("usage"):
                heard.output_tokens = said["usage"]["completion_tokens"]
        return heard


def right(answer: Answer) -> Callable[[Received], Reply]:
    def reply(request: Received) -> Reply:
        if request.json.get("stream"):
            return stream(list(chat_stream(answer)))
        return whole(chat_whole(answer))

    return reply


def in_turn(*replies: Reply) -> Callable[[Received], Reply]:
    """Each call gets the next; after the last one, the right answer."""
    left = list(replies)
    return lambda request: left.pop(0) if left else right(FIRST)(request)


def always(reply: Reply) -> Callable[[Received], Reply]:
    return lambda _: reply


@asynccontextmanager
async def bench(
    tmp_path: Path, handler: Callable[[Received], Reply], **config: Any
) -> AsyncIterator[Bench]:
    async with Upstream() as primary, Upstream(right(SECOND)) as fallback:
        times: list[float] = []

        def timed(request: Received) -> Reply:
            times.append(time.monotonic())
            return handler(request)

        primary.handler = timed
        made = {
            "backends": {
                name: {"type": "openai-compatible", "api_url": upstream.url, "api_key": "k"}
                for name, upstream in (("first", primary), ("second", fallback))
            },
            "failover_routes": {"route": {"elements": ["first:model-a", "second:model-b"]}},
            **config,
        }
        file = tmp_path / "proxy.yaml"
        file.write_text(json.dumps(made))
        async with make_server(
            snapshot(load(Sources(environment=QUIET, config_file=file)))
        ) as server:
            yield Bench(primary, fallback, f"http://127.0.0.1:{server.port}", times=times)


def limited(seconds: str = "") -> Reply:
    more = (("retry-after", seconds),) if seconds else ()
    return error(429, "rate_limit_error", "slow down", *more)


DOWN = error(503, "server_error", "down")
TOO_LONG = error(400, "invalid_request_error", "maximum context length is 8192 tokens")
FILTERED = error(400, "content_filter", "the prompt was filtered by the content policy")
NO_DONE = stream(EVENTS[:-1])
BROKEN = stream([*BEGUN, b'data: {"choices": [{"delta": {"conte\n\n', *EVENTS[len(BEGUN) :]])
ALONE = {"failover_routes": {"route": {"elements": ["first:model-a"]}}}


@dataclass(frozen=True)
class Scenario:
    """What the first provider does, and what of it a client may notice."""

    primary: Callable[[], Callable[[Received], Reply]]
    by: str = "first"  # whose whole answer comes; "": an explicit error
    attempts: tuple[int, int] = (1, 1)  # on the first provider: at least, at most
    config: dict[str, Any] = field(default_factory=dict)
    within: float = 4.0


def cut(*end: Step) -> Callable[[], Callable[[Received], Reply]]:
    return lambda: always(stream([*BEGUN, *end]))


SCENARIOS = {
    "S01 a limit with a time": Scenario(
        lambda: in_turn(limited("1")), config=ALONE, attempts=(2, 2)
    ),
    "S02 a limit for ever": Scenario(lambda: always(limited()), "second", (1, 4)),
    "S03 one error": Scenario(lambda: in_turn(error(500, "x", "oops")), attempts=(2, 2)),
    "S04 down for ever": Scenario(lambda: always(DOWN), "second", (1, 6)),
    "S05 a reset before any answer": Scenario(lambda: in_turn(Reply(raw=b"")), attempts=(2, 2)),
    "S06 silence": Scenario(
        lambda: always(Reply(silent=True)), "second", config={"timeouts": {"first_byte": 0.4}}
    ),
    "S07 a slow first token": Scenario(
        lambda: always(stream([EVENTS[0], Stall()])),
        "second",
        config={"timeouts": {"first_token": 0.4}},
    ),
    "S08 a stream cut short": Scenario(cut(Reset()), ""),
    "S09 a stream that stalls": Scenario(
        cut(Stall()), "", config={"timeouts": {"stream_idle": 0.4}}
    ),
    "S10 a broken event": Scenario(lambda: always(BROKEN)),
    "S11 no last word": Scenario(lambda: always(NO_DONE)),
    "S12 a prompt too long": Scenario(lambda: always(TOO_LONG), "second"),
    "S14 a stream closed before its end": Scenario(cut(Close()), ""),
    "S16 down for ever, usage": Scenario(lambda: always(DOWN), "second", (1, 6)),
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_ends_as_a_perfect_proxy_ends_it(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    async with bench(tmp_path, scenario.primary(), **scenario.config) as b:
        heard = await b.ask()
        least, most = scenario.attempts
        assert least <= len(b.primary.requests) <= most
        assert heard.seconds < scenario.within
        if scenario.by:
            answer = FIRST if scenario.by == "first" else SECOND
            assert (heard.status, heard.error, heard.clean) == (200, None, True)
            assert heard.text == answer.text
            assert (heard.model, heard.output_tokens) == (answer.model, answer.output_tokens)
        else:
            assert heard.error is not None and not heard.clean
            assert WORDS.startswith(heard.text) and heard.text != WORDS
        assert len(b.fallback.requests) == (scenario.by == "second")
        if name.startswith("S01"):
            assert b.times[1] - b.times[0] >= 0.9, "the provider named the time"


async def test_s13_a_filtered_prompt_goes_to_nobody_else(tmp_path: Path) -> None:
    async with bench(tmp_path, always(FILTERED)) as b:
        for streamed in (True, False):
            heard = await b.ask(streamed)
            assert heard.status == 400
            assert "content policy" in heard.error["message"]
        assert (len(b.primary.requests), len(b.fallback.requests)) == (2, 0)


async def test_s15_a_provider_that_comes_back_is_found_soon(tmp_path: Path) -> None:
    """The outage lasts until the breaker has opened; its first rest is five seconds."""
    async with bench(tmp_path, always(DOWN)) as b:
        for _ in range(3):
            heard = await b.ask(streamed=False)
            assert (heard.text, heard.model) == (SECOND.text, SECOND.model)
        asked = len(b.primary.requests)
        for _ in range(20):
            assert (await b.ask(streamed=False)).model == SECOND.model
        assert len(b.primary.requests) <= asked + 1, "spared while it is down"
        b.primary.handler = right(FIRST)
        began = time.monotonic()
        while (await b.ask(streamed=False)).model != FIRST.model:
            assert time.monotonic() - began < 30
            await asyncio.sleep(0.2)
