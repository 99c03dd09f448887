"""Every row of the catalog, from each of the four frontends, streamed and not: what reaches the
provider is what its documentation asks for, and what it answers comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

import planted
from e2e.answers import Answer
from e2e.conftest import QUIET
from e2e.test_failover import FORMATS, Body, Format, Heard, giving
from e2e.upstream import Received, Reply, Upstream, stream, whole
from llm_proxy.assembly import make_server
from llm_proxy.backends.catalog import CATALOG, QUIRKS, Row
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

ANSWER = Answer("the answer, Zażółć 你好", model="as-sent")
KEY = planted.key("row")
APP = {"http-referer": "http://localhost:8000", "x-title": "llm-interactive-proxy"}
BEARER, X_KEY, GOOG, AZURE = "authorization", "x-api-key", "x-goog-api-key", "api-key"


@dataclass(frozen=True)
class Documented:
    """What a provider's own documentation says."""

    url: str  # of a request for a whole reply; {model} where the name stands in it
    header: str = BEARER
    more: tuple[tuple[str, str], ...] = ()
    guarded: bool = True


CHAT = "/chat/completions"
DOCUMENTED = {
    "openai": Documented("https://api.openai.com/v1" + CHAT),
    "openai-responses": Documented("https://api.openai.com/v1/responses"),
    "anthropic": Documented("https://api.anthropic.com/v1/messages", X_KEY),
    "gemini": Documented(
        "https://generativelanguage.googleapis.com/v1beta/models/{model}:generateContent", GOOG
    ),
    "openrouter": Documented("https://openrouter.ai/api/v1" + CHAT, more=tuple(APP.items())),
    "nvidia": Documented("https://integrate.api.nvidia.com/v1" + CHAT),
    "zenmux": Documented("https://zenmux.ai/api/v1" + CHAT, more=tuple(APP.items())),
    "zai": Documented("https://open.bigmodel.cn/api/paas/v4" + CHAT),
    "zai-coding-plan": Documented("https://api.z.ai/api/coding/paas/v4" + CHAT, guarded=False),
    "kimi-code": Documented("https://api.kimi.com/coding/v1" + CHAT, guarded=False),
    "opencode-go": Documented("https://opencode.ai/zen/go/v1" + CHAT),
    "minimax": Documented("https://api.minimax.io/v1" + CHAT),
    "internlm": Documented("https://chat.intern-ai.org.cn/api/v1" + CHAT),
    "azure": Documented("https://mine.openai.azure.com/openai/v1" + CHAT, AZURE),
    "deepseek": Documented("https://api.deepseek.com/v1" + CHAT),
    "mistral": Documented("https://api.mistral.ai/v1" + CHAT),
    "groq": Documented("https://api.groq.com/openai/v1" + CHAT),
    "xai": Documented("https://api.x.ai/v1" + CHAT),
    "together": Documented("https://api.together.xyz/v1" + CHAT),
    "fireworks": Documented("https://api.fireworks.ai/inference/v1" + CHAT),
    "perplexity": Documented("https://api.perplexity.ai" + CHAT),
    "cerebras": Documented("https://api.cerebras.ai/v1" + CHAT),
    "ollama": Documented("http://127.0.0.1:11434/v1" + CHAT),
    "lmstudio": Documented("http://127.0.0.1:1234/v1" + CHAT),
    "vllm": Documented("http://gpu.example:8000/v1" + CHAT),
    "llama.cpp": Documented("http://127.0.0.1:8080/v1" + CHAT),
    "openai-compatible": Documented("http://any.example/v1" + CHAT),
    "responses-compatible": Documented("http://any.example/v1/responses"),
    "anthropic-compatible": Documented("http://any.example/v1/messages", X_KEY),
    "gemini-compatible": Documented(
        "http://any.example/v1beta/models/{model}:generateContent", GOOG
    ),
}
HTTP_ROWS = [row for row in CATALOG.values() if row.kind == "http"]
four_clients = pytest.mark.parametrize("client", FORMATS)


def spoken(path: str) -> Format:
    """The format a provider is asked in, by the end of the path."""
    path = path.split("?")[0]
    for ending, name in ((CHAT, "chat"), ("/responses", "responses"), ("/messages", "messages")):
        if path.endswith(ending):
            return FORMATS[name]
    return FORMATS["gemini"]


def answer(request: Received) -> Reply:
    return giving(ANSWER, spoken(request.path))(request)


def moved(url: str, upstream: Upstream) -> str:
    """The same path on the upstream of the test."""
    return f"http://127.0.0.1:{upstream.port}{urlsplit(url).path}"


def base_of(row: Row) -> str:
    documented = DOCUMENTED[row.type].url
    for ending in (CHAT, "/responses", "/messages", "/models/{model}:generateContent"):
        documented = documented.removesuffix(ending)
    return documented


@asynccontextmanager
async def serving(
    upstream: Upstream, tmp_path: Path, sections: dict[str, Any], **environment: str
) -> AsyncIterator[str]:
    file = tmp_path / "proxy.yaml"
    file.write_text(json.dumps({"backends": sections}))
    settings = load(Sources(environment={**QUIET, **environment}, config_file=file))
    async with make_server(snapshot(settings)) as server:
        yield f"http://127.0.0.1:{server.port}"


@asynccontextmanager
async def one_row(row: Row, upstream: Upstream, tmp_path: Path, **more: Any) -> AsyncIterator[str]:
    section = {"api_url": moved(base_of(row), upstream), "api_key": [KEY], **more}
    async with serving(upstream, tmp_path, {row.type: section}) as url:
        yield url


async def post(url: str, client: str, model: str, streamed: bool, **more: Any) -> httpx.Response:
    form = FORMATS[client]
    body: Body = {**form.ask, **more}
    path = form.stream_url if streamed else form.url
    if client == "gemini":
        path = path.replace("models/route", f"models/{model}")
    else:
        body["model"] = model
        if streamed:
            body["stream"] = True
    async with httpx.AsyncClient(timeout=20, headers={"x-of-the-client": "yes"}) as http:
        return await http.post(url + path, json=body)


async def ask(url: str, client: str, model: str, streamed: bool, **more: Any) -> Heard:
    got, form = await post(url, client, model, streamed, **more), FORMATS[client]
    if got.status_code != 200:
        return Heard(got.status_code, got.headers, "", got.json().get("error"))
    if not streamed:
        return Heard(200, got.headers, form.text(got.json()))
    text = ""
    for event in got.text.replace("\r", "").split("\n\n")[:-1]:
        data = event.rpartition("data: ")[2]
        if data.startswith("{"):
            text += form.delta(json.loads(data))
    return Heard(200, got.headers, text)


def said_by_the_user(request: Received) -> bool:
    return b"Hello" in request.body


def test_every_row_has_its_documented_facts_here() -> None:
    assert {row.type for row in HTTP_ROWS} == set(DOCUMENTED)


@pytest.mark.parametrize("row", HTTP_ROWS, ids=lambda row: row.type)
def test_the_rows_address_is_the_documented_one(row: Row) -> None:
    if row.base_url:
        assert row.base_url == base_of(row)


@pytest.mark.parametrize("row", HTTP_ROWS, ids=lambda row: row.type)
async def test_a_row_is_asked_as_documented_from_every_frontend(row: Row, tmp_path: Path) -> None:
    documented = DOCUMENTED[row.type]
    async with Upstream(answer) as upstream, one_row(row, upstream, tmp_path) as url:
        for client in FORMATS:
            for streamed in (False, True):
                case = f"{client} {'streamed' if streamed else 'whole'}"
                heard = await ask(url, client, f"{row.type}:the-model", streamed)
                assert (heard.status, heard.text, heard.error) == (200, ANSWER.text, None), case
                sent = upstream.last
                path = urlsplit(documented.url).path.replace("{model}", "the-model")
                streams = streamed and "whole_replies" not in row.quirks
                if row.format == "gemini-generate":
                    if streamed:
                        path = path.replace(":generate", ":streamGenerate") + "?alt=sse"
                else:
                    assert sent.json["model"] == "the-model", case
                    assert bool(sent.json.get("stream")) == streams, case
                assert (sent.method, sent.path) == ("POST", path), case
                prefix = "Bearer " if documented.header == BEARER else ""
                assert sent.headers[documented.header] == prefix + KEY, case
                others = {BEARER, X_KEY, GOOG, AZURE} - {documented.header}
                assert not others & set(sent.headers), case
                for name, value in documented.more:
                    assert sent.headers[name] == value, case
                guard = "1" if documented.guarded else None
                assert sent.headers.get("x-llmproxy-loop-guard") == guard, case
                assert sent.headers["content-type"] == "application/json", case
                if row.format == "anthropic-messages":
                    assert sent.headers["anthropic-version"] == "2023-06-01", case
                if not row.client_headers:
                    assert "x-of-the-client" not in sent.headers, case
                assert said_by_the_user(sent), case


@pytest.mark.parametrize("client", ["chat", "messages"])
async def test_a_header_of_the_file_outranks_ours_and_the_clients(
    client: str, tmp_path: Path
) -> None:
    mine = {"User-Agent": "mine/1", "OpenAI-Beta": "of-the-file", "Accept": "text/mine"}
    sections = {"acme": {"type": "openai-compatible", "api_key": [KEY], "headers": mine}}
    async with Upstream(answer) as upstream:
        sections["acme"]["api_url"] = f"http://127.0.0.1:{upstream.port}/v1"
        async with (
            serving(upstream, tmp_path, sections) as url,
            httpx.AsyncClient(base_url=url, headers={"openai-beta": "of-the-client"}) as http,
        ):
            form = FORMATS[client]
            got = await http.post(form.url, json={**form.ask, "model": "acme:m"})
            assert got.status_code == 200, got.text
    sent = upstream.last
    assert {name: sent.headers[name.lower()] for name in mine} == mine
    assert not sent.repeated


async def test_all_rows_serve_side_by_side(tmp_path: Path) -> None:
    async with Upstream(answer) as upstream:
        sections = {
            row.type: {"api_url": moved(base_of(row), upstream), "api_key": [planted.key(row.type)]}
            for row in HTTP_ROWS
        }
        async with serving(upstream, tmp_path, sections) as url:
            heard = await asyncio.gather(
                *(ask(url, "chat", f"{row.type}:the-model", False) for row in HTTP_ROWS)
            )
        assert {h.text for h in heard} == {ANSWER.text}
        assert {h.headers["x-proxy-backend"] for h in heard} == set(sections)
        keys = {
            sent.headers[DOCUMENTED_HEADER].removeprefix("Bearer ")
            for sent in upstream.requests
            for DOCUMENTED_HEADER in (BEARER, X_KEY, GOOG, AZURE)
            if DOCUMENTED_HEADER in sent.headers
        }
        assert keys == {planted.key(name) for name in sections}


async def test_a_row_can_be_added_in_yaml_without_code(tmp_path: Path) -> None:
    async with Upstream(answer) as upstream:
        section = {
            "type": "openai-compatible",
            "api_url": f"http://127.0.0.1:{upstream.port}/deep/v2",
            "api_key": "own-key",
            "auth_header": "X-Token",
            "headers": {"x-team": "blue"},
            "quirks": ["max_tokens", "system_role"],
            "vendors": ["acme"],
            "model_names": {"best": "acme-9000"},
            "formats": {"anthropic-messages": ["claude-like"]},
        }
        async with serving(upstream, tmp_path, {"acme": section}) as url:
            assert (await ask(url, "chat", "acme:acme/best", False)).text == ANSWER.text
            assert upstream.last.path == "/deep/v2/chat/completions"
            assert upstream.last.headers["x-token"] == "own-key"
            assert upstream.last.headers["x-team"] == "blue"
            assert upstream.last.json["model"] == "acme-9000"
            assert (await ask(url, "gemini", "acme:claude-like", True)).text == ANSWER.text
            assert upstream.last.path == "/deep/v2/messages"
            assert upstream.last.headers["x-api-key"] == "own-key"


# ---- quirks: the row, what a chat client adds to its request, what the provider must (not) get

MISSING = object()
DEVELOPER = {"role": "developer", "content": "Be brief."}
SPOKEN = {"role": "assistant", "content": "Hi."}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "1"}
USER = {"role": "user", "content": "Hello"}
NAMED = {"type": "function", "function": {"name": "f"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

QUIRK_CASES: dict[str, tuple[str, Body, Body]] = {
    "max_tokens": (
        "nvidia",
        {"max_completion_tokens": 9},
        {"max_completion_tokens": MISSING, "max_tokens": 9},
    ),
    "no_stream_options": (
        "nvidia",
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream_options": MISSING},
    ),
    "no_reasoning_object": (
        "deepseek",
        {
            "reasoning": {"effort": "low"},
            "reasoning_effort": "low",
            "thinking": {"type": "enabled"},
        },
        {"reasoning": MISSING, "reasoning_effort": "low", "thinking": {"type": "enabled"}},
    ),
    "no_reasoning": (
        "openai-compatible",
        {"reasoning": {"effort": "low"}, "reasoning_effort": "low", "seed": 1},
        {"reasoning": MISSING, "reasoning_effort": MISSING, "seed": 1},
    ),
    "plan_members": (
        "zai-coding-plan",
        {"seed": 1, "top_p": 0.5, "max_completion_tokens": 7, "tools": [TOOL]},
        {"seed": MISSING, "top_p": 0.5, "max_tokens": 7, "tools": [TOOL]},
    ),
    "plain_tool_choice": (
        "zai-coding-plan",
        {"tools": [TOOL], "tool_choice": NAMED},
        {"tool_choice": "auto"},
    ),
    "token_floor": ("kimi-code", {"max_tokens": 5}, {"max_tokens": 512}),
    "token_cap": ("zai", {"max_tokens": 999_999}, {"max_tokens": 200_000}),
    "thinking_mode": ("internlm", {}, {"thinking_mode": True}),
    "system_role": (
        "zai",
        {"messages": [DEVELOPER, USER]},
        {"messages": [{**DEVELOPER, "role": "system"}, USER]},
    ),
    "reasoning_everywhere": (
        "kimi-code",
        {"messages": [USER, SPOKEN, USER, {**CALLING, "reasoning_content": ""}, RESULT, USER]},
        {
            "messages": [
                USER,
                {**SPOKEN, "reasoning_content": " "},
                USER,
                {**CALLING, "reasoning_content": " "},
                RESULT,
                USER,
            ]
        },
    ),
    "whole_replies": ("internlm", {"stream": True}, {"stream": False, "stream_options": MISSING}),
}
# Those that only a translation needs; how they are written is tested where they are.
OF_THE_CODEC = {
    "max_completion_tokens",
    "developer_role",
    "reasoning_content",
    "reasoning_details",
    "nine_char_ids",
}


def test_every_quirk_has_its_case() -> None:
    assert set(QUIRKS) == set(QUIRK_CASES) | OF_THE_CODEC | {"no_thinking", "cumulative_text"}


@pytest.mark.parametrize("quirk", QUIRK_CASES)
async def test_a_quirk_mends_the_request(quirk: str, tmp_path: Path) -> None:
    name, given, wanted = QUIRK_CASES[quirk]
    more = {} if quirk in CATALOG[name].quirks else {"quirks": [quirk]}
    async with (
        Upstream(answer) as upstream,
        one_row(CATALOG[name], upstream, tmp_path, **more) as url,
    ):
        body = {"model": f"{name}:m", "messages": [USER], **given}
        async with httpx.AsyncClient() as http:
            got = await http.post(url + "/v1/chat/completions", json=body)
        assert got.status_code == 200, got.text
        for member, value in wanted.items():
            assert upstream.last.json.get(member, MISSING) == value, member


async def test_what_a_quirk_has_nothing_against_keeps_its_bytes(tmp_path: Path) -> None:
    async with Upstream(answer) as upstream, one_row(CATALOG["nvidia"], upstream, tmp_path) as url:
        body = (
            b'{"model":"nvidia:m","messages":[{"role": "user",  "content":"H\\u00e9llo"}],'
            b'"reasoning":{"a":[1]}, "odd":  {"b":1.50,"c":"\\/"}}'
        )
        async with httpx.AsyncClient() as http:
            got = await http.post(url + "/v1/chat/completions", content=body)
        assert got.status_code == 200
        assert upstream.last.body == (
            b'{"model":"m","messages":[{"role": "user",  "content":"H\\u00e9llo"}],'
            b'"odd":{"b":1.50,"c":"\\/"}}'
        )


@four_clients
async def test_streams_that_repeat_themselves_are_heard_once(client: str, tmp_path: Path) -> None:
    def reply(request: Received) -> Reply:
        said = ({"role": "assistant"}, *deltas, {})
        chunks = [
            {"choices": [{"index": 0, "delta": d, "finish_reason": None if d else "stop"}]}
            for d in said
        ]
        assert request.json["stream"] is True
        return stream(
            [*(f"data: {json.dumps(c)}\n\n".encode() for c in chunks), b"data: [DONE]\n\n"]
        )

    async with (
        Upstream(reply) as upstream,
        one_row(CATALOG["kimi-code"], upstream, tmp_path) as url,
    ):
        deltas: list[dict[str, str]] = [
            {"reasoning_content": "\n"},
            {"reasoning_content": "\nLet me"},
            {"reasoning_content": "\nLet me think"},
            {"content": "Caf\u00e9"},
            {"content": "Caf\u00e9 is"},
            {"content": "Caf\u00e9 is open."},
        ]
        heard = await ask(url, client, "kimi-code:m", True)
        # Gemini's thoughts are parts as its answer is.
        assert heard.text.removeprefix("\nLet me think") == "Caf\u00e9 is open."
        got = await post(url, client, "kimi-code:m", True)
        if client in ("chat", "messages"):
            assert got.text.count("Let me") == 1
            assert got.text.count(" think") == 1
        deltas = [{"content": piece} for piece in ("ha", "ha", "haha", " - ", "ha")]
        assert (await ask(url, client, "kimi-code:m", True)).text == "hahahaha - ha"


@four_clients
async def test_opencode_go_speaks_two_formats_on_one_host(client: str, tmp_path: Path) -> None:
    row = CATALOG["opencode-go"]
    async with Upstream(answer) as upstream, one_row(row, upstream, tmp_path) as url:
        for streamed in (False, True):
            assert (await ask(url, client, "opencode-go:glm-4.6", streamed)).text == ANSWER.text
            assert upstream.last.path.startswith("/zen/go/v1/chat/completions")
            assert upstream.last.headers["authorization"] == f"Bearer {KEY}"
            assert (await ask(url, client, "opencode-go:minimax-m3", streamed)).text == ANSWER.text
            assert upstream.last.path.startswith("/zen/go/v1/messages")
            assert upstream.last.headers["x-api-key"] == KEY
            assert "authorization" not in upstream.last.headers
            assert upstream.last.headers["anthropic-version"] == "2023-06-01"
        await ask(url, client, "opencode-go:kimi-k2.7", False)
        assert upstream.last.json["model"] == "kimi-k2.7-code"


async def test_thinking_is_left_out_where_the_second_format_knows_none(tmp_path: Path) -> None:
    row = CATALOG["opencode-go"]
    async with Upstream(answer) as upstream, one_row(row, upstream, tmp_path) as url:
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}
        heard = await ask(url, "messages", "opencode-go:minimax-m3", False, **thinking)
        assert heard.status == 200
        assert "thinking" not in upstream.last.json


@pytest.mark.parametrize("row", [row for row in HTTP_ROWS if row.vendors], ids=lambda row: row.type)
async def test_the_vendors_name_is_not_sent(row: Row, tmp_path: Path) -> None:
    async with Upstream(answer) as upstream, one_row(row, upstream, tmp_path) as url:
        for vendor in row.vendors:
            await ask(url, "chat", f"{row.type}:{vendor}/some-model", False)
            sent = upstream.last
            model = sent.path if row.format == "gemini-generate" else sent.json["model"]
            assert "some-model" in model
            assert vendor + "/" not in model


async def test_openrouters_variants_are_part_of_the_model(tmp_path: Path) -> None:
    row = CATALOG["openrouter"]
    async with Upstream(answer) as upstream, one_row(row, upstream, tmp_path) as url:
        await ask(url, "chat", "openrouter:deepseek/deepseek-r1:free", False)
        assert upstream.last.json["model"] == "deepseek/deepseek-r1:free"


@four_clients
async def test_what_has_come_through_a_proxy_is_refused(client: str, tmp_path: Path) -> None:
    async with Upstream(answer) as upstream, one_row(CATALOG["openai"], upstream, tmp_path) as url:
        form = FORMATS[client]
        async with httpx.AsyncClient(headers={"x-llmproxy-loop-guard": "1"}) as http:
            got = await http.post(url + form.url, json={**form.ask, "model": "m"})
        assert got.status_code == 508
        assert "api_url leads back here" in got.json()["error"]["message"]
        assert not upstream.requests


async def test_a_backend_has_a_time_limit_of_its_own(tmp_path: Path) -> None:
    async with (
        Upstream(lambda _: Reply(silent=True)) as upstream,
        one_row(CATALOG["openai"], upstream, tmp_path, timeout=0.3) as url,
    ):
        assert (await ask(url, "chat", "openai:m", False)).status == 504


@four_clients
@pytest.mark.parametrize("name", ["gemini-oauth-auto", "qwen-oauth.2"])
async def test_a_backend_of_the_optional_package_is_answered_with_how_to_get_it(
    client: str, name: str, tmp_path: Path
) -> None:
    async with Upstream(answer) as upstream, one_row(CATALOG["openai"], upstream, tmp_path) as url:
        heard = await ask(url, client, f"{name}:some-model", False)
        assert heard.status in (400, 404)
        assert "pip install llm-interactive-proxy[oauth]" in heard.error["message"]
        assert not upstream.requests


# ---- recorded traffic, where there is some of that provider

RECORDED = {
    "openai": "openai", "openai-responses": "openai", "anthropic": "anthropic", "gemini": "gemini",
    "openrouter": "openrouter", "zai": "zai", "azure": "azure", "deepseek": "deepseek",
    "mistral": "mistral", "groq": "groq", "xai": "xai", "together": "together",
    "perplexity": "perplexity", "cerebras": "cerebras", "ollama": "ollama", "vllm": "vllm",
}  # fmt: skip


def chat_content(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return content or ""


def gemini_text(body: Any) -> str:
    return "".join(
        part.get("text", "")
        for candidate in body.get("candidates", [])
        for part in candidate.get("content", {}).get("parts", [])
        if not part.get("thought")
    )


# The visible text of a whole reply, and of one event: no thinking.
VISIBLE: dict[str, Callable[[Any], str]] = {
    "chat": lambda body: chat_content(body["choices"][0]["message"].get("content")),
    "responses": lambda body: "".join(
        part["text"]
        for item in body["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    ),
    "messages": lambda body: "".join(
        block["text"] for block in body["content"] if block["type"] == "text"
    ),
    "gemini": gemini_text,
}
VISIBLE_DELTA: dict[str, Callable[[Any], str]] = {
    "chat": lambda event: "".join(
        chat_content(choice["delta"].get("content")) for choice in event.get("choices", [])
    ),
    "responses": FORMATS["responses"].delta,
    "messages": FORMATS["messages"].delta,
    "gemini": gemini_text,
}


def visible(client: str, body: bytes, streamed: bool) -> str:
    if not streamed:
        return VISIBLE[client](json.loads(body))
    text = ""
    for line in body.decode().replace("\r", "").split("\n"):
        if line.startswith("data: {"):
            text += VISIBLE_DELTA[client](json.loads(line[6:]))
    return text


def recordings(corpus: Path, row: Row, streamed: bool) -> list[dict[str, Any]]:
    """Up to two plain answers of the row's provider."""
    out: list[dict[str, Any]] = []
    form = next(name for name, f in FORMATS.items() if CATALOG[f.type].format == row.format)
    for file in sorted((corpus / row.format).glob(f"*-{RECORDED[row.type]}-*.json")):
        if len(out) == 2:
            break
        text = ""
        record = json.loads(file.read_text())
        response = record["response"]
        plain = not {"synthetic-edge", "error-in-stream"} & set(record["tags"])
        whole_body = isinstance(response.get("body"), dict) and not streamed
        if response["status"] == 200 and plain and (whole_body or (streamed and "sse" in response)):
            said = (
                "".join(response["sse"]).encode()
                if streamed
                else json.dumps(response["body"]).encode()
            )
            with contextlib.suppress(KeyError, IndexError):  # an answer of another kind
                text = visible(form, said, streamed)
            if text.strip():
                out.append({"id": record["id"], "said": said, "text": text})
    return out


@pytest.mark.parametrize("row", [CATALOG[name] for name in RECORDED], ids=lambda row: row.type)
async def test_a_recorded_answer_comes_back_through_every_frontend(
    row: Row, shared: Path, tmp_path: Path
) -> None:
    seen = 0
    async with Upstream(answer) as upstream, one_row(row, upstream, tmp_path) as url:
        for streamed in (False, True):
            for record in recordings(shared / "corpus", row, streamed):
                said = record["said"]
                reply = stream([said]) if streamed else whole(said)
                upstream.handler = lambda _, reply=reply: reply  # type: ignore[misc]
                for client in FORMATS:
                    usage = {"stream_options": {"include_usage": True}} if client == "chat" else {}
                    more = usage if streamed else {}
                    got = await post(url, client, f"{row.type}:m", streamed, **more)
                    assert got.status_code == 200, (record["id"], client, got.text)
                    text = visible(client, got.content, streamed)
                    assert text == record["text"], (record["id"], client)
                    if streamed and CATALOG[FORMATS[client].type].format == row.format:
                        assert got.content == said, (record["id"], client)
                    seen += 1
    assert seen >= 4, "no recording of this provider fits"
