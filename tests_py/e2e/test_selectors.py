"""Selectors as a client writes them: who is asked, with what, and who wins a race."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer
from e2e.conftest import QUIET
from e2e.test_failover import FORMATS, Format, giving
from e2e.upstream import Received, Reply, Upstream, Wait, error, stream
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.settings import Settings
from llm_proxy.config.snapshot import snapshot

CHAT = FORMATS["chat"]
NAMES = ("left", "right", "third")


class Providers:
    """Three providers of one format, each answering with its name."""

    def __init__(self, form: Format, url: str, upstreams: dict[str, Upstream]) -> None:
        self.form, self.url, self.upstreams = form, url, upstreams

    def __getitem__(self, name: str) -> Upstream:
        return self.upstreams[name]

    async def ask(self, model: str, streamed: bool = False, **members: Any) -> httpx.Response:
        form = FORMATS[members.pop("client", "chat")]
        body = {**form.ask, "model": model, "stream": streamed, **members}
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as client:
            return await client.post(form.stream_url if streamed else form.url, json=body)

    def asked(self) -> str:
        """Who was asked how often: "left 1, right 2"."""
        return ", ".join(f"{n} {len(u.requests)}" for n, u in self.upstreams.items() if u.requests)


def settings_of(text: str) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        file.write_text(text)
        # Who has what is asked in test_model_lists; here nobody wants to be asked for lists.
        environment = {**QUIET, "LLM_PROXY_MODEL_DISCOVERY": "off"}
        return load(Sources(environment=environment, config_file=file))


@asynccontextmanager
async def providers(form: Format = CHAT, extra: str = "") -> AsyncIterator[Providers]:
    upstreams = {name: Upstream(giving(Answer(f"I am {name}"), form)) for name in NAMES}
    async with upstreams["left"], upstreams["right"], upstreams["third"]:
        rows = "".join(
            f"  {name}: {{type: {form.type}, api_url: {upstream.url}, api_key: key-{name}}}\n"
            for name, upstream in upstreams.items()
        )
        settings = settings_of(f"default_backend: left\nbackends:\n{rows}{extra}")
        async with make_server(snapshot(settings)) as server:
            yield Providers(form, f"http://127.0.0.1:{server.port}", upstreams)


def refusing(request: Received) -> Reply:
    return error(500, "server_error", "out of order")


async def test_failover_asks_the_next_leg_with_its_own_model_and_parameters() -> None:
    async with providers() as three:
        three["left"].handler = refusing
        answer = await three.ask("left:small|right:big?temperature=0.25&reasoning_effort=low")
        assert answer.json()["choices"][0]["message"]["content"] == "I am right"
        assert answer.headers["x-proxy-backend"] == "right"
        assert three["left"].last.json["model"] == "small"
        assert "temperature" not in three["left"].last.json
        right = three["right"].last.json
        assert (right["model"], right["temperature"]) == ("big", 0.25)
        assert right["reasoning_effort"] == "low"
        assert right["messages"] == CHAT.ask["messages"]


PARAMETERS: list[tuple[str, str, dict[str, Any]]] = [
    ("chat", "temperature=0.25&top_p=0.5", {"temperature": 0.25, "top_p": 0.5}),
    ("chat", "reasoning_effort=high", {"reasoning_effort": "high"}),
    ("chat", "verbosity=low", {"verbosity": "low"}),
    ("responses", "reasoning_effort=high", {"reasoning": {"effort": "high"}}),
    ("responses", "verbosity=low", {"text": {"verbosity": "low"}}),
    ("responses", "temperature=1.5", {"temperature": 1.5}),
    ("messages", "temperature=0.25&top_k=7", {"temperature": 0.25, "top_k": 7}),
    ("messages", "reasoning_effort=none", {"thinking": {"type": "disabled"}}),
    ("gemini", "temperature=0.25&top_k=7", {"generationConfig": {"temperature": 0.25, "topK": 7}}),
]


@pytest.mark.parametrize("client", ["chat", "messages"])
@pytest.mark.parametrize("form, query, expected", PARAMETERS)
async def test_parameters_are_spelt_as_the_upstreams_format_has_them(
    form: str, query: str, expected: dict[str, Any], client: str
) -> None:
    async with providers(FORMATS[form]) as three:
        answer = await three.ask(f"right:claude-sonnet-4-5?{query}", client=client)
        assert answer.status_code == 200, answer.text
        sent = three["right"].last.json
        for name, value in expected.items():
            assert name in sent, sent
            got = sent[name]
            if isinstance(value, dict):
                assert {key: got.get(key) for key in value} == value
            else:
                assert got == value


async def test_a_parameter_replaces_the_bodys_own_and_leaves_the_rest_in_its_bytes() -> None:
    async with providers() as three:
        members = {"temperature": 0.9, "metadata": {"a": " 1,  2"}, "seed": 7}
        await three.ask("right:m?temperature=0.1", **members)
        sent = three["right"].last
        plain = {**CHAT.ask, "model": "m", "stream": False, **members, "temperature": 0.1}
        assert sent.json == plain
        assert list(sent.json) == list(plain)


async def test_weights_reach_every_leg_and_a_failing_one_is_replaced() -> None:
    async with providers() as three:
        for _ in range(40):
            assert (await three.ask("[weight=2]left:m^right:m")).status_code == 200
        assert len(three["left"].requests) + len(three["right"].requests) == 40
        assert three["left"].requests and three["right"].requests
        three["left"].handler = refusing
        for _ in range(5):
            answer = await three.ask("[weight=1000000]left:m^right:m")
            assert answer.headers["x-proxy-backend"] == "right"


async def test_instances_take_turns_and_one_can_be_named() -> None:
    extra = "  right.second: {type: openai-compatible, api_url: THIRD, api_key: key}\n"
    async with (
        Upstream(giving(Answer("second"), CHAT)) as second,
        providers(extra=extra.replace("THIRD", second.url)) as three,
    ):
        for _ in range(4):
            await three.ask("right:m")
        assert (len(three["right"].requests), len(second.requests)) == (2, 2)
        for _ in range(3):
            await three.ask("right.second:m")
        assert len(second.requests) == 5


def held(text: str, until: asyncio.Event) -> Callable[[Received], Reply]:
    """Begins at once and says something when the event is set."""

    def reply(request: Received) -> Reply:
        events = list(CHAT.events(Answer(text)))
        return stream([events[0], Wait(until), *events[1:]])

    return reply


def text_of(answer: httpx.Response) -> str:
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    return "".join(CHAT.delta(json.loads(event)) for event in events)


async def test_the_first_output_wins_a_race_and_the_others_are_closed() -> None:
    async with providers() as three:
        never, soon = asyncio.Event(), asyncio.Event()
        three["left"].handler = held("too late", never)
        three["right"].handler = held("I was first", soon)
        three["third"].handler = held("too late as well", never)
        asking = asyncio.create_task(three.ask("left:a!right:b!third:c", streamed=True))
        for name in NAMES:
            await three[name].request(0)
        soon.set()
        answer = await asking
        assert text_of(answer) == "I was first"
        assert (answer.headers["x-proxy-backend"], answer.headers["x-proxy-model"]) == (
            "right",
            "b",
        )
        for name in ("left", "third"):
            await asyncio.wait_for(three[name].last.gone.wait(), 5)


async def test_a_loser_is_not_blamed() -> None:
    async with providers() as three:
        never = asyncio.Event()
        for _ in range(8):
            three["left"].handler = held("too late", never)
            assert text_of(await three.ask("left:a!right:b", streamed=True)) == "I am right"
        three["left"].handler = giving(Answer("I am left"), CHAT)
        assert (await three.ask("left:a|right:b")).headers["x-proxy-backend"] == "left"


async def test_a_handicapped_leg_starts_first_and_the_others_when_it_fails() -> None:
    async with providers() as three:
        assert text_of(await three.ask("[handicap=60]left:a!right:b", streamed=True)) == "I am left"
        assert three.asked() == "left 1"
        three["left"].handler = lambda request: error(400, "invalid_request_error", "no")
        assert (
            text_of(await three.ask("[handicap=60]left:a!right:b", streamed=True)) == "I am right"
        )
        assert three.asked() == "left 2, right 1"


async def test_a_race_nobody_wins_ends_in_the_last_ones_error() -> None:
    async with providers() as three:
        for name in NAMES:
            three[name].handler = lambda request: error(404, "not_found_error", "no such model")
        for streamed in (False, True):
            answer = await three.ask("left:a!right:b!third:c", streamed)
            assert answer.status_code == 404
            assert "no such model" in answer.text


async def test_a_race_of_whole_replies_is_won_by_the_first_good_one() -> None:
    async with providers() as three:
        three["left"].handler = refusing
        three["third"].handler = lambda request: Reply(silent=True)
        answer = await three.ask("left:a!right:b!third:c")
        assert answer.json()["choices"][0]["message"]["content"] == "I am right"


async def test_a_leg_without_output_in_its_time_makes_room_for_the_next() -> None:
    async with providers() as three:
        three["left"].handler = held("too late", asyncio.Event())
        answer = await three.ask("[ttft_timeout=0.2]left:a|right:b", streamed=True)
        assert text_of(answer) == "I am right"
        await asyncio.wait_for(three["left"].last.gone.wait(), 5)


async def test_a_client_that_leaves_closes_every_lane() -> None:
    async with providers() as three:
        for name in NAMES:
            three[name].handler = held("too late", asyncio.Event())
        asking = asyncio.create_task(three.ask("left:a!right:b!third:c", streamed=True))
        for name in NAMES:
            await three[name].request(0)
        asking.cancel()
        for name in NAMES:
            await asyncio.wait_for(three[name].last.gone.wait(), 5)


async def test_a_leg_too_small_for_the_prompt_is_left_out() -> None:
    async with providers() as three:
        long = [{"role": "user", "content": "word " * 2000}]
        await three.ask("[max_context=500]left:a|right:b", messages=long)
        await three.ask("[max_context=500]left:a|right:b")
        assert three.asked() == "left 1, right 1"
        answer = await three.ask("[max_context=500]left:a", messages=long)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("client", FORMATS)
async def test_a_wrong_selector_is_refused_in_the_clients_format(client: str) -> None:
    async with providers() as three:
        if client == "gemini":
            async with httpx.AsyncClient(base_url=three.url) as http:
                answer = await http.post(
                    "/v1beta/models/left:a%7C%7Cb:generateContent", json=FORMATS[client].ask
                )
        else:
            answer = await three.ask("left:a||b", client=client)
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert message.startswith("model, character 8: a model is missing"), answer.text
        assert not three.asked()


async def test_aliases_may_be_patterns_and_stand_for_whole_selectors() -> None:
    extra = """
model_aliases:
  - {pattern: "^claude-(.+)$", replacement: 'right:anthropic/\\1'}
  - {pattern: best, replacement: "third:a|left:b"}
"""
    async with providers(extra=extra) as three:
        await three.ask("claude-x")
        assert three["right"].last.json["model"] == "anthropic/x"
        await three.ask("best")
        assert three.asked() == "right 1, third 1"


async def test_a_static_route_takes_whoever_names_no_backend() -> None:
    async with providers(extra="static_route: third:fixed\n") as three:
        await three.ask("gpt-4.1")
        await three.ask("right:other")
        assert three["third"].last.json["model"] == "fixed"
        assert three["right"].last.json["model"] == "other"


async def test_affinity_keeps_a_session_to_one_instance_and_one_key() -> None:
    async with providers() as three:
        rows = "".join(
            f"  pool.{name}: {{type: openai-compatible, api_url: {three[name].url},"
            f" api_key: [{name}-1, {name}-2, {name}-3]}}\n"
            for name in NAMES
        )
        async with make_server(snapshot(settings_of(f"backends:\n{rows}"))) as server:
            url = f"http://127.0.0.1:{server.port}/v1/chat/completions"

            async def asked(model: str, session: str) -> tuple[str, str]:
                headers = {"x-session-id": session}
                body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
                async with httpx.AsyncClient(timeout=20) as client:
                    answer = await client.post(url, json=body, headers=headers)
                name = answer.headers["x-proxy-backend"].removeprefix("pool.")
                return name, three[name].last.headers["authorization"]

            kept = {s: await asked("{affinity=session}pool:m", s) for s in map(str, range(20))}
            for session, who in kept.items():
                assert await asked("{affinity=session}pool:m", session) == who
            assert {name for name, _ in kept.values()} == set(NAMES)
            assert len(set(kept.values())) > 3, "keys are spread over sessions too"
            client = {await asked("{affinity=client}pool:m", s) for s in map(str, range(9))}
            assert len(client) == 1
            free = {await asked("pool:m", "1") for _ in range(9)}
            assert len(free) > 3


NAMINGS: list[tuple[str, str, str]] = [
    ("disable_backend_ids", "left.two:m", "write model or backend:model"),
    ("disable_backend_names", "left:m", "write model or backend.instance:model"),
    ("disable_model_names", "m", "write backend:model or backend.instance:model"),
]


@pytest.mark.parametrize("client", FORMATS)
async def test_a_way_to_name_models_may_be_switched_off(client: str) -> None:
    for setting, refused, instead in NAMINGS:
        extra = "  left.two: {type: openai-compatible, api_url: 'http://127.0.0.1:9'}\n"
        extra += f"routing: {{{setting}: true}}\nmodel_aliases: {{known: 'right:m'}}\n"
        async with providers(extra=extra) as three:
            if client == "gemini":
                url = f"{three.url}/v1beta/models/{refused}:generateContent"
                async with httpx.AsyncClient(timeout=20) as http:
                    answer = await http.post(url, json=FORMATS["gemini"].ask)
            else:
                answer = await three.ask(refused, client=client)
            assert answer.status_code == 403, answer.text
            assert instead in answer.text
            if client in ("chat", "responses"):
                assert answer.json()["error"]["code"] == "policy_rejected"
            assert not three.asked()
            allowed = await three.ask("known")
            assert allowed.headers["x-proxy-backend"] == "right"


OURS = {"session_id": "s", "agent": "cline", "request_context_tokens": 5}
FOR_THE_PROXY: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    (OURS, "left", {}),
    ({"extra_body": {**OURS, "backend_type": "right", "project_dir": "/x"}}, "right", {}),
    ({"backend_type": "right"}, "right", {}),
    ({"extra_body": {"seed": 7, "temperature": 0.5}, "temperature": 1}, "left", {"seed": 7}),
]


@pytest.mark.parametrize("client", ["chat", "responses"])
@pytest.mark.parametrize("members, backend, more", FOR_THE_PROXY)
async def test_what_is_said_to_the_proxy_alone_stays_here(
    client: str, members: dict[str, Any], backend: str, more: dict[str, Any]
) -> None:
    async with providers(FORMATS[client]) as three:
        answer = await three.ask("m", client=client, **members)
        assert answer.headers["x-proxy-backend"] == backend, answer.text
        sent = three[backend].last.json
        assert not {*OURS, "extra_body", "backend_type", "project_dir"} & set(sent)
        for name, value in more.items():
            assert sent[name] == value
        if "temperature" in members:
            assert sent["temperature"] == 0.5, "what is extra counts"
        assert sent["model"] == "m"
        assert (await three.ask("third:m", client=client, **members)).headers[
            "x-proxy-backend"
        ] == "third", "a backend in the model counts before"


async def test_the_clients_own_count_of_its_prompt_decides_who_can_take_it() -> None:
    async with providers() as three:
        model = "[max_context=1000]left:m|right:m"
        for tokens, backend in ((999, "left"), (1001, "right")):
            answer = await three.ask(model, extra_body={"request_context_tokens": tokens})
            assert answer.headers["x-proxy-backend"] == backend
