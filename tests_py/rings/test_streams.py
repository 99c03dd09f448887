"""What the reply ring does to streams, in every frontend, raw and translated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer, Call, chat_stream
from e2e.conftest import environment_for
from e2e.upstream import Received, Reply, Stall, Upstream, Wait, answering, stream
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot
from llm_proxy.server import Server
from rings.test_all_at_once import until

SAID = "Hello there, dear world, how are you?"
QUIET = {"APP_PORT": "0", "LLM_PROXY_ACCESS_LOG": "false", "LLM_PROXY_IO_THREADS": "1"}
Bodies = Callable[[str], tuple[str, dict[str, Any]]]


def _chat(text: str) -> tuple[str, dict[str, Any]]:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]}
    return "/v1/chat/completions", body


def _messages(text: str) -> tuple[str, dict[str, Any]]:
    return "/v1/messages", {**_chat(text)[1], "max_tokens": 99}


def _responses(text: str) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": "m", "input": text, "stream": True}


def _gemini(text: str) -> tuple[str, dict[str, Any]]:
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return "/v1beta/models/m:streamGenerateContent?alt=sse", body


def _gemini_array(text: str) -> tuple[str, dict[str, Any]]:
    return "/v1beta/models/m:streamGenerateContent", _gemini(text)[1]


FRONTENDS: dict[str, Bodies] = {
    "chat": _chat,
    "messages": _messages,
    "responses": _responses,
    "gemini": _gemini,
    "gemini array": _gemini_array,
}
ENDS = {
    "chat": "data: [DONE]",
    "messages": "message_stop",
    "responses": "response.completed",
    "gemini": '"finishReason"',
    "gemini array": '"finishReason"',
}
BACKENDS = ["openai", "anthropic"]
EVERYWHERE = [(frontend, backend) for frontend in FRONTENDS for backend in BACKENDS]


def events_of(frontend: str, raw: str) -> list[Any]:
    if frontend == "gemini array":
        rows: list[Any] = json.loads(raw)
        return rows
    lines = [line[6:] for line in raw.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def text_of(frontend: str, raw: str) -> str:
    """The answer's text as that format's clients put it together."""
    out = ""
    for event in events_of(frontend, raw):
        if frontend == "chat" and event.get("choices"):
            out += event["choices"][0]["delta"].get("content") or ""
        elif frontend == "messages" and event["type"] == "content_block_delta":
            out += event["delta"].get("text", "")
        elif frontend == "responses" and event["type"] == "response.output_text.delta":
            out += event["delta"]
        elif frontend.startswith("gemini"):
            for part in (event.get("candidates") or [{}])[0].get("content", {}).get("parts", ()):
                out += part.get("text", "")
    return out


@asynccontextmanager
async def serving(
    upstream: Upstream | None, backend: str, folder: Path, source: str = "", **options: Any
) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    """A proxy whose reply ring is the plugin `run` or `Plugin` of `source`."""
    rows = options.pop("rows", None)
    if rows is None and source:
        symbol = "Plugin" if "class Plugin" in source else "run"
        rows = [{"name": "it", "hook": "post_flight", "entrypoint": f"mine:{symbol}"}]
    (folder / "mine.py").write_text(source)
    (folder / "manifest.yaml").write_text(json.dumps({"plugins": rows or []}))
    environment = {**QUIET, **environment_for(upstream, backend), **options.pop("settings", {})}
    settings = snapshot(load(Sources(environment=environment)))
    async with make_server(settings, plugins_dir=folder, **options) as server:
        base = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(trust_env=False, base_url=base, timeout=20) as http:
            yield server, http


async def told(http: httpx.AsyncClient, frontend: str, text: str = "Hi") -> tuple[int, str]:
    path, body = FRONTENDS[frontend](text)
    raw = b""
    async with http.stream("POST", path, json=body) as response:
        try:
            async for piece in response.aiter_bytes():
                raw += piece
        except httpx.RemoteProtocolError:  # an unclean end
            pass
    return response.status_code, raw.decode()


HEAD = "from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse\nimport json\n"
LOOKS = (
    HEAD
    + """
class Plugin(BasePlugin):
    hook = PluginHook.POST_FLIGHT
    async def on_load(self):
        self.seen = []
    async def execute(self, ctx):
        self.seen.append((ctx.metadata["_streamed"], json.loads(ctx.response.body)))
        ctx.response.body = b"{}"      # too late for a stream that is only observed
        return PluginResponse.passthrough()
"""
)
BLOCKS = (
    HEAD
    + """
async def run(ctx):
    ctx.metadata["_block_status"] = 451
    ctx.metadata["_block_error_type"] = "too_dear"
    ctx.error = "that was too dear"
    ctx.stop_chain = True
"""
)
BLOCKS_BY_ANSWER = (
    HEAD
    + """
class Plugin(BasePlugin):
    hook = PluginHook.POST_FLIGHT
    async def execute(self, ctx):
        return PluginResponse.block(451, "too_dear", "that was too dear")
"""
)
REPLACES = (
    HEAD
    + """
class Plugin(BasePlugin):
    hook = PluginHook.POST_FLIGHT
    stream = "buffer"
    async def execute(self, ctx):
        reply = json.loads(ctx.response.body)
        message = reply["choices"][0]["message"]
        message["content"] = message["content"].replace("dear world", "cruel planet")
        ctx.response.body = json.dumps(reply).encode()
        ctx.response.headers["x-was"] = "changed"
        return PluginResponse.passthrough()
"""
)


@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_an_observer_sees_the_whole_reply_of_a_stream_that_passes_as_it_is(
    frontend: str, backend: str, tmp_path: Path
) -> None:
    async with Upstream(answering(Answer(SAID), every=11)) as upstream:
        async with serving(upstream, backend, tmp_path) as (_, http):
            plain = await told(http, frontend)
        async with serving(upstream, backend, tmp_path, LOOKS) as (server, http):
            observed = await told(http, frontend)
            assert server.plugins is not None
            ((streamed, body),) = server.plugins.generation.entries[0].instance.seen
    assert streamed is (frontend != "gemini array")
    assert body["choices"][0]["message"]["content"] == SAID
    assert body["choices"][0]["finish_reason"] == "stop"
    if frontend == "gemini array":  # its elements are told apart only when all are there
        return
    assert text_of(frontend, observed[1]) == SAID == text_of(frontend, plain[1])
    assert len(events_of(frontend, observed[1])) == len(events_of(frontend, plain[1]))
    assert ENDS[frontend] in observed[1]


@pytest.mark.parametrize("source", [BLOCKS, BLOCKS_BY_ANSWER])
@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_a_block_ends_the_stream_with_its_error_before_the_terminator(
    frontend: str, backend: str, source: str, tmp_path: Path
) -> None:
    async with (
        Upstream(answering(Answer(SAID), every=11)) as upstream,
        serving(upstream, backend, tmp_path, source) as (_, http),
    ):
        status, raw = await told(http, frontend)
    assert "that was too dear" in raw
    assert ENDS[frontend] not in raw
    if frontend == "gemini array":
        assert status == 451
    else:
        assert status == 200
        assert "dear world" in text_of(frontend, raw.rpartition("error")[0].rpartition("\n")[0])


@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_a_buffering_plugin_replaces_a_streamed_reply(
    frontend: str, backend: str, tmp_path: Path
) -> None:
    async with (
        Upstream(answering(Answer(SAID), every=11)) as upstream,
        serving(upstream, backend, tmp_path, REPLACES) as (_, http),
    ):
        path, body = FRONTENDS[frontend]("Hi")
        answer = await http.post(path, json=body)
    assert answer.headers["x-was"] == "changed"
    assert text_of(frontend, answer.text) == SAID.replace("dear world", "cruel planet")
    assert ENDS[frontend] in answer.text


@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_a_buffered_stream_that_is_blocked_is_an_error_like_any_other(
    frontend: str, tmp_path: Path
) -> None:
    rows = [{"name": "it", "hook": "post_flight", "entrypoint": "mine:run", "stream": "buffer"}]
    async with (
        Upstream(answering(Answer(SAID))) as upstream,
        serving(upstream, "openai", tmp_path, BLOCKS, rows=rows) as (_, http),
    ):
        status, raw = await told(http, frontend)
    assert status == 451
    assert "that was too dear" in json.dumps(json.loads(raw)["error"])
    assert "dear world" not in raw


async def test_a_buffered_stream_that_breaks_shows_nothing_of_itself(tmp_path: Path) -> None:
    events = list(chat_stream(Answer(SAID)))
    async with (
        Upstream(lambda _: stream(events[:4])) as upstream,
        serving(upstream, "openai", tmp_path, REPLACES) as (_, http),
    ):
        status, raw = await told(http, "chat")
    assert status == 502
    assert "Hello" not in raw
    assert json.loads(raw)["error"]["message"]


async def test_a_buffered_streams_client_gets_signs_of_life_and_then_all_at_once(
    tmp_path: Path,
) -> None:
    go_on = asyncio.Event()
    events = list(chat_stream(Answer(SAID)))
    steps = [*events[:4], Wait(go_on), *events[4:]]
    async with (
        Upstream(lambda _: stream(steps)) as upstream,
        serving(
            upstream,
            "openai",
            tmp_path,
            REPLACES,
            settings={"LLM_PROXY_TIMEOUT_KEEP_ALIVE": "0.05"},
        ) as (_, http),
    ):
        path, body = FRONTENDS["chat"]("Hi")
        raw = ""
        async with http.stream("POST", path, json=body) as response:
            async for piece in response.aiter_text():
                raw += piece
                if not go_on.is_set():
                    assert raw.replace(": keep-alive\n\n", "") == ""
                    go_on.set()
    assert raw.startswith(": keep-alive\n\n")
    assert text_of("chat", raw) == SAID.replace("dear world", "cruel planet")
    assert raw.endswith("data: [DONE]\n\n")


async def test_the_upstream_of_a_buffered_stream_is_closed_when_its_client_leaves(
    tmp_path: Path,
) -> None:
    events = list(chat_stream(Answer(SAID)))
    async with (
        Upstream(lambda _: stream([*events[:4], Stall()])) as upstream,
        serving(upstream, "openai", tmp_path, REPLACES) as (server, http),
    ):
        path, body = FRONTENDS["chat"]("Hi")
        asking = asyncio.create_task(http.post(path, json=body))
        asked = await upstream.request(0)
        asking.cancel()
        await asyncio.wait_for(asked.gone.wait(), 10)
        await until(lambda: server.stats()["active"] == 0)


async def leaves_while(listener: str, tmp_path: Path) -> None:
    """A client that leaves while a plugin waits in `listener` cancels it, and nothing stays."""
    source = (
        HEAD
        + f"""
import asyncio
class Plugin(BasePlugin):
    hook = PluginHook.POST_FLIGHT
    timeout_ms = 60000
    async def on_load(self):
        self.began, self.cancelled = asyncio.Event(), False
    async def {listener}:
        if ctx.session_id == "health-check":
            return
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
"""
    )
    async with (
        Upstream(answering(Answer(SAID))) as upstream,
        serving(upstream, "openai", tmp_path, source) as (server, http),
    ):
        path, body = FRONTENDS["chat"]("Hi")
        asking = asyncio.create_task(http.post(path, json=body))
        assert server.plugins is not None
        plugin = server.plugins.generation.entries[0].instance
        await asyncio.wait_for(plugin.began.wait(), 10)
        asking.cancel()
        await until(lambda: plugin.cancelled)
        await until(lambda: server.stats()["active"] == 0)


async def test_a_client_that_leaves_while_a_plugin_looks_cancels_it(tmp_path: Path) -> None:
    await leaves_while("execute(self, ctx)", tmp_path)


async def test_background_gets_the_reply_and_the_usage_the_upstream_counted(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
class Plugin(BasePlugin):
    async def on_load(self):
        self.seen = []
    async def execute(self, ctx):
        self.seen.append((json.loads(ctx.response.body), dict(ctx.metadata["_usage"])))
"""
    )
    rows = [{"name": "it", "hook": "background", "entrypoint": "mine:Plugin"}]
    answer = Answer(SAID, input_tokens=321, output_tokens=45)
    async with (
        Upstream(answering(answer)) as upstream,
        serving(upstream, "openai", tmp_path, source, rows=rows) as (server, http),
    ):
        _, raw = await told(http, "chat")
        assert server.plugins is not None
        seen = server.plugins.generation.entries[0].instance.seen
        await until(lambda: seen)
    assert raw.endswith("data: [DONE]\n\n")
    ((body, usage),) = seen
    assert body["choices"][0]["message"]["content"] == SAID
    assert usage == {"prompt_tokens": 321, "completion_tokens": 45}


# ---- personal data

MASKER = "PII Neural Masker"
OWN = "write to ann@example.org, please"


def echoing(every: int, extra: str = "") -> Callable[[Received], Reply]:
    """Says what it was asked, token and all, cut into pieces of `every` bytes of text."""

    def reply(request: Received) -> Reply:
        asked = request.json["messages"][-1]["content"]
        text = asked if isinstance(asked, str) else asked[0]["text"]
        token = text.split("write to ")[-1].split(",")[0]
        call = Call("call_1", "mail", {"to": token, "cc": ["[PII_EMAIL_00000000]"]})
        answer = Answer(f"{text}{extra}", (call,))
        chat = request.path.endswith("/chat/completions")
        return stream(_pieces(answer, every)) if chat else answering(answer)(request)

    return reply


def _pieces(answer: Answer, size: int) -> list[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        row = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return f"data: {json.dumps({**row, 'choices': [choice]})}\n\n".encode()

    out = [chunk({"role": "assistant", "content": ""})]
    out += [chunk({"content": answer.text[i : i + size]}) for i in range(0, len(answer.text), size)]
    (call,) = answer.calls
    head = {"index": 0, "id": call.id, "type": "function"}
    out.append(chunk({"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]}))
    arguments = json.dumps(call.arguments)
    for i in range(0, len(arguments), size):
        function = {"arguments": arguments[i : i + size]}
        out.append(chunk({"tool_calls": [{"index": 0, "function": function}]}))
    return [*out, chunk({}, "tool_calls"), b"data: [DONE]\n\n"]


@pytest.mark.parametrize("every", [1, 3, 7, 1000])
@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_a_token_cut_anywhere_comes_back_as_its_owners_value(
    frontend: str, every: int, tmp_path: Path
) -> None:
    extra = " [PII_EMAIL_00000000] [PII_ [link](x) [PII_EMAIL_"
    async with (
        Upstream(echoing(every, extra)) as upstream,
        serving(upstream, "openai", tmp_path, plugins=[MASKER]) as (_, http),
    ):
        _, raw = await told(http, frontend, OWN)
        assert b"ann@example.org" not in upstream.last.body
        assert b"[PII_EMAIL_" in upstream.last.body
    assert text_of(frontend, raw) == OWN + extra  # what is not his stays as it was
    assert ENDS[frontend] in raw
    assert '"ann@example.org"' in raw.replace("\\", "")  # in the call as well


async def test_a_value_goes_into_a_calls_json_as_json(tmp_path: Path) -> None:
    source = (
        HEAD
        + """
async def run(ctx):
    ctx.placeholders = {"[Q_1]": 'a "quoted" \\\\ value'}
    ctx.body["messages"][0]["content"] = "write to [Q_1], please"
"""
    )
    rows = [{"name": "it", "hook": "pre_flight", "entrypoint": "mine:run"}]
    async with (
        Upstream(echoing(4)) as upstream,
        serving(upstream, "openai", tmp_path, source, rows=rows) as (_, http),
    ):
        _, raw = await told(http, "chat")
    assert text_of("chat", raw) == 'write to a "quoted" \\ value, please'
    arguments = "".join(
        event["choices"][0]["delta"]["tool_calls"][0]["function"].get("arguments", "")
        for event in events_of("chat", raw)
        if event["choices"][0]["delta"].get("tool_calls")
    )
    assert json.loads(arguments)["to"] == 'a "quoted" \\ value'


async def test_nobody_gets_anothers_value_by_its_token(tmp_path: Path) -> None:
    seen: list[str] = []

    def reply(request: Received) -> Reply:
        asked = request.json["messages"][-1]["content"]
        seen.append(asked)
        text = asked if "PII" in asked else seen[0]  # the second is told the first one's token
        return answering(Answer(text))(request)

    async with (
        Upstream(reply) as upstream,
        serving(upstream, "openai", tmp_path, plugins=[MASKER]) as (_, http),
    ):
        _, first = await told(http, "chat", OWN)
        _, second = await told(http, "chat", "what did the other one say?")
    assert text_of("chat", first) == OWN
    assert "ann@example.org" not in second
    assert "[PII_EMAIL_" in text_of("chat", second)


async def test_a_stream_with_nothing_masked_passes_byte_for_byte(tmp_path: Path) -> None:
    events = list(chat_stream(Answer(SAID)))
    events.insert(3, b': a comment\n\ndata: {"choices":[],"x_unknown":{"a":1.50}}\n\n')
    async with (
        Upstream(lambda _: stream(events)) as upstream,
        serving(upstream, "openai", tmp_path, plugins=["stock"]) as (_, http),
    ):
        path, body = FRONTENDS["chat"]("Hi")
        body["stream_options"] = {"include_usage": True}
        answer = await http.post(path, json=body)
    assert answer.content == b"".join(events)


# ---- loops


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("so " + "very " * 300 + "much", "INFINITE_LOOP"),
        ("a" + "\n" * 31 + "b", "STUTTERING"),
        ("so " + "very " * 15 + "much", ""),  # fifteen in a row are still a style
        ("a\n\n\n" * 40, ""),
        ("x " + "ab ab ab ab ab ab ab ab " + "y " + "ab " * 14 + "z", ""),
    ],
)
@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_a_stream_that_repeats_itself_is_cut(
    frontend: str, backend: str, text: str, code: str, tmp_path: Path
) -> None:
    async with (
        Upstream(answering(Answer(text))) as upstream,
        serving(upstream, backend, tmp_path, plugins=["Speculative Kill-Switch"]) as (_, http),
    ):
        _, raw = await told(http, frontend)
    if code:
        assert f"[LLMPROXY_ERROR: {code}" in raw
        assert ENDS[frontend] not in raw
        assert len(raw) < 40_000
    else:
        assert text_of(frontend, raw) == text
        assert ENDS[frontend] in raw


async def test_the_upstream_of_a_cut_stream_is_told_to_stop(tmp_path: Path) -> None:
    events = list(chat_stream(Answer("very " * 40)))[:-3]
    async with (
        Upstream(lambda _: stream([*events, Stall()])) as upstream,
        serving(upstream, "openai", tmp_path, plugins=["stock"]) as (_, http),
    ):
        _, raw = await told(http, "chat")
        await asyncio.wait_for(upstream.last.gone.wait(), 10)
    assert "INFINITE_LOOP" in raw
