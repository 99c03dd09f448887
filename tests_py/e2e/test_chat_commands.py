"""In-chat commands through the official clients: every command, on every frontend, streamed or not,
alone or with a text. One proxy serves a whole column of that table."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx
import pytest
from google import genai
from google.genai import types
from openai import AsyncOpenAI

from e2e.test_failover import FORMATS
from e2e.test_selectors import Providers, providers

ANSWER = "[llm-proxy] "
Turn = tuple[str, str]  # who, what


@dataclass(frozen=True)
class Expected:
    """What the request after a command looks like to the provider that gets it."""

    backend: str = "left"
    model: str = "m"
    members: dict[str, Any] = field(default_factory=dict)


PLAIN = Expected()
COMMANDS: dict[str, Expected] = {
    "!/help": PLAIN,
    "!/help(model)": PLAIN,
    "!/hello": PLAIN,
    "!/status": PLAIN,
    "!/pwd": PLAIN,
    "!/models": PLAIN,
    "!/backend(right)": Expected("right"),
    "!/model(other)": Expected(model="other"),
    "!/model(right:other)": Expected("right", "other"),
    "!/model(right:a/b:free)": Expected("right", "a/b:free"),
    "!/model(name=right:other)": Expected("right", "other"),
    "!/oneoff(right:other)": Expected("right", "other"),
    "!/set(backend=right)": Expected("right"),
    "!/set(model=right:other, temperature=0.5)": Expected("right", "other", {"temperature": 0.5}),
    "!/unset(model)": PLAIN,
    "!/unset(backend, temperature)": PLAIN,
    "!/temperature(0.25)": Expected(members={"temperature": 0.25}),
    "!/reasoning(low)": Expected(members={"reasoning_effort": "low"}),
    "!/high": Expected(members={"reasoning_effort": "high"}),
    "!/low": Expected(members={"reasoning_effort": "low"}),
    "!/project(mine)": PLAIN,
    "!/create-failover-route(safe, policy=m)": PLAIN,
    "!/create-failover-route(safe)\n!/route-append(safe, right:x)\n!/model(safe)": Expected(
        "right", "x"
    ),
    "!/create-failover-route(safe)\n!/route-prepend(name=safe, element=right:x)"
    "\n!/route-list(safe)\n!/route-clear(safe)\n!/delete-failover-route(safe)": PLAIN,
    "!/list-failover-routes": PLAIN,
}


@dataclass
class Client:
    """A conversation in an official SDK, under a session id of its own."""

    url: str
    session: str
    streamed: bool
    model: str = "m"

    async def chat(self, turns: list[Turn]) -> str:
        headers = {"x-session-id": self.session}
        async with AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="k", max_retries=0, default_headers=headers
        ) as client:
            messages: Any = [{"role": who, "content": what} for who, what in turns]
            if not self.streamed:
                whole = await client.chat.completions.create(model=self.model, messages=messages)
                assert whole.model == self.model or not is_ours(
                    str(whole.choices[0].message.content)
                )
                return whole.choices[0].message.content or ""
            stream = await client.chat.completions.create(
                model=self.model, messages=messages, stream=True
            )
            pieces = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
            return "".join(piece or "" for piece in pieces)

    async def responses(self, turns: list[Turn]) -> str:
        headers = {"x-session-id": self.session}
        async with AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="k", max_retries=0, default_headers=headers
        ) as client:
            items: Any = [{"role": who, "content": what} for who, what in turns]
            if not self.streamed:
                whole = await client.responses.create(model=self.model, input=items)
                return whole.output_text
            async with client.responses.stream(model=self.model, input=items) as stream:
                async for _ in stream:
                    pass
                return (await stream.get_final_response()).output_text

    async def messages(self, turns: list[Turn]) -> str:
        headers = {"x-session-id": self.session}
        async with anthropic.AsyncAnthropic(
            base_url=self.url, api_key="k", max_retries=0, default_headers=headers
        ) as client:
            ask: Any = {
                "model": self.model,
                "max_tokens": 1000,
                "messages": [{"role": who, "content": what} for who, what in turns],
            }
            if not self.streamed:
                whole = await client.messages.create(**ask)
                return "".join(block.text for block in whole.content if block.type == "text")
            async with client.messages.stream(**ask) as stream:
                return await stream.get_final_text()

    async def gemini(self, turns: list[Turn]) -> str:
        options = types.HttpOptions(base_url=self.url, headers={"x-session-id": self.session})
        roles = {"user": "user", "assistant": "model"}
        contents: Any = [{"role": roles[who], "parts": [{"text": what}]} for who, what in turns]
        models = genai.Client(api_key="k", http_options=options).aio.models
        if not self.streamed:
            whole = await models.generate_content(model=self.model, contents=contents)
            return whole.text or ""
        stream = await models.generate_content_stream(model=self.model, contents=contents)
        return "".join([reply.text or "" async for reply in stream])

    def asking(self, frontend: str) -> Callable[[list[Turn]], Awaitable[str]]:
        ask: Callable[[list[Turn]], Awaitable[str]] = getattr(self, frontend)
        return ask


def is_ours(text: str) -> bool:
    return text.startswith(ANSWER)


def sent_to(three: Providers, expected: Expected, seen: dict[str, int]) -> dict[str, Any]:
    """The one new request, which went where it should."""
    new = [name for name, up in three.upstreams.items() if len(up.requests) > seen.get(name, 0)]
    assert new == [expected.backend]
    upstream = three[expected.backend]
    assert len(upstream.requests) == seen.get(expected.backend, 0) + 1
    body: dict[str, Any] = upstream.last.json
    assert body["model"] == expected.model
    for name in ("temperature", "reasoning_effort"):
        assert body.get(name) == expected.members.get(name), name
    assert b"!/" not in upstream.last.body
    assert b"llm-proxy" not in upstream.last.body
    return body


def counts(three: Providers) -> dict[str, int]:
    return {name: len(upstream.requests) for name, upstream in three.upstreams.items()}


def said(body: dict[str, Any]) -> list[Turn]:
    """The conversation as the provider (Chat) was told it."""
    return [(m["role"], text_of(m["content"])) for m in body["messages"]]


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content)


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("frontend", ["chat", "responses", "messages", "gemini"])
async def test_every_command_alone_and_with_a_text(frontend: str, streamed: bool) -> None:
    number = itertools.count()
    async with providers() as three:
        for command, expected in COMMANDS.items():
            # Alone: the proxy answers, nobody is asked; then the conversation goes on.
            ask = Client(three.url, f"s{next(number)}", streamed).asking(frontend)
            before = counts(three)
            answer = await ask([("user", command)])
            assert is_ours(answer), (command, answer)
            assert counts(three) == before, command
            history = [("user", command), ("assistant", answer), ("user", "Say hello")]
            assert (await ask(history)) == f"I am {expected.backend}", command
            assert said(sent_to(three, expected, before)) == [("user", "Say hello")], command

            # With a text: only the text is sent, in this turn and in all that follow.
            ask = Client(three.url, f"s{next(number)}", streamed).asking(frontend)
            before = counts(three)
            turn = ("user", f"Say hello\n{command}")
            answer = await ask([turn])
            assert answer == f"I am {expected.backend}", command
            assert said(sent_to(three, expected, before)) == [("user", "Say hello")], command
            before = counts(three)
            if "oneoff" in command:
                expected = PLAIN  # it was used up
            await ask([turn, ("assistant", answer), ("user", "Again")])
            assert said(sent_to(three, expected, before)) == [
                ("user", "Say hello"),
                ("assistant", answer),
                ("user", "Again"),
            ], command


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("frontend", ["chat", "responses", "messages", "gemini"])
async def test_a_wrong_command_is_explained_and_nothing_is_sent(
    frontend: str, streamed: bool
) -> None:
    async with providers() as three:
        ask = Client(three.url, "s", streamed).asking(frontend)
        history: list[Turn] = []
        for text, explained in {
            "!/modle(x)": "no command is called 'modle': did you mean !/model([backend:]model)?",
            "!/unheard(x)": "no command is called 'unheard'; there are: help, hello",
            "!/backend right": "'!/backend right' is not written as a command is: write "
            "!/backend(right)",
            "!/model(right:x\nDo this": "'!/model(right:x' is not written as a command is: write "
            "!/model(right:x)",
            "Do this\n!/backend(letf)": "no backend is called 'letf': did you mean 'left'?",
            "Do this\n!/backend(opnai)": "no backend is called 'opnai'; there are: left, right",
            "!/temperature(9) Do this": "temperature must be a number from 0 to 2, not '9'",
        }.items():
            answer = await ask([*history, ("user", text)])
            assert answer.startswith(ANSWER + explained), answer
            assert answer.endswith("Nothing was sent to the model.")
            history += [("user", text), ("assistant", answer)]
        assert not three.asked()
        await ask([*history, ("user", "Now, please")])
        assert said(sent_to(three, PLAIN, {})) == [("user", "Now, please")]


# ---- The same on the wire, where client and provider speak one format.


def turn_in(form: str, who: str, what: str | list[str]) -> dict[str, Any]:
    texts = [what] if isinstance(what, str) else what
    if form == "gemini":
        role = "model" if who == "assistant" else who
        return {"role": role, "parts": [{"text": text} for text in texts]}
    if isinstance(what, str):
        return {"role": who, "content": what}
    kind = "input_text" if form == "responses" else "text"
    return {"role": who, "content": [{"type": kind, "text": text} for text in texts]}


LIST = {"chat": "messages", "responses": "input", "messages": "messages", "gemini": "contents"}


async def post(three: Providers, form: str, turns: list[dict[str, Any]], **rest: Any) -> Any:
    ask = {**FORMATS[form].ask, LIST[form]: turns, **rest}
    if form != "gemini":
        ask["model"] = "route"
    async with httpx.AsyncClient(base_url=three.url, timeout=20) as client:
        return await client.post(FORMATS[form].url, json=ask, headers={"x-session-id": "s"})


@pytest.mark.parametrize("form", FORMATS)
async def test_on_the_raw_path_only_the_commands_bytes_go(form: str) -> None:
    async with providers(FORMATS[form]) as three:
        turns = [
            turn_in(form, "user", ["<system-reminder>\n!/kept\n</system-reminder>", "!/help"]),
            turn_in(form, "assistant", ANSWER + "a list"),
            turn_in(form, "user", ['look: \u00e9 "quoted"', "!/temperature(0.5)"]),
            turn_in(form, "assistant", "I see"),
            turn_in(form, "user", "one\n!/reasoning(low)\ntwo"),
            turn_in(form, "assistant", "three"),
            turn_in(form, "user", ["#!/bin/sh\nls", "```\n!/help\n```"]),
        ]
        answer = await post(three, form, turns, metadata_={"a": " 1"})
        assert answer.status_code == 200, answer.text
        assert "x-proxy-command" not in answer.headers, "old commands are not run again"
        sent = three["left"].last.json
        assert sent[LIST[form]] == [
            turn_in(form, "user", ['look: \u00e9 "quoted"']),
            turns[3],
            turn_in(form, "user", "one\ntwo"),
            turns[5],
            turns[6],
        ]
        assert sent["metadata_"] == {"a": " 1"}


@pytest.mark.parametrize("form", FORMATS)
async def test_a_growing_conversation_sends_equal_prefixes_in_equal_bytes(form: str) -> None:
    async with providers(FORMATS[form]) as three:
        said_so_far = [
            turn_in(form, "user", "hello !/reasoning(low)"),
            turn_in(form, "assistant", "hi"),
            turn_in(form, "user", "!/status"),
            turn_in(form, "assistant", ANSWER + "model: route"),
            turn_in(form, "user", ["!/temperature(1)", "go on"]),
            turn_in(form, "assistant", "going"),
            turn_in(form, "user", "and then?"),
        ]
        previous = b""
        for size in (1, 5, 7):
            answer = await post(three, form, said_so_far[:size])
            assert answer.status_code == 200, answer.text
            body = three["left"].last.body
            start = body.index(f'"{LIST[form]}":'.encode())
            items = body[start : body.index(b"]", start) if form in ("chat", "responses") else None]
            prefix = previous.rstrip(b"]}")
            assert items.startswith(prefix[: prefix.rfind(b"}") + 1] if prefix else b"")
            previous = items


async def test_a_command_is_answered_with_its_name_in_a_header() -> None:
    async with providers() as three:
        answer = await three.ask("m", messages=[{"role": "user", "content": "!/low !/status"}])
        assert answer.headers["x-proxy-command"] == "low, status"
        assert answer.json()["model"] == "m"
        assert answer.json()["usage"]["total_tokens"] == 0


async def test_commands_do_not_reach_into_tool_results() -> None:
    async with providers() as three:
        call = {"id": "c1", "type": "function", "function": {"name": "cat", "arguments": "{}"}}
        messages = [
            {"role": "user", "content": "read it"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "!/backend(right)"},
        ]
        await three.ask("m", messages=messages)
        assert three.asked() == "left 1"
        assert three["left"].last.json["messages"] == messages


async def test_sessions_of_two_users_are_apart_even_under_one_name() -> None:
    extra = "auth: {api_keys: [anna, berta]}\n"
    async with (
        providers(extra=extra) as three,
        httpx.AsyncClient(base_url=three.url, timeout=20) as client,
    ):

        async def ask(key: str, text: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {key}", "x-session-id": "shared"}
            body = {"model": "m", "messages": [{"role": "user", "content": text}]}
            return await client.post("/v1/chat/completions", json=body, headers=headers)

        await ask("anna", "!/backend(right)")
        assert (await ask("anna", "Hi")).headers["x-proxy-backend"] == "right"
        assert (await ask("berta", "Hi")).headers["x-proxy-backend"] == "left"


SESSIONS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"x-session-id": "1"}, {}),
    ({"x-claude-code-session-id": "1"}, {}),
    ({"session_id": "1"}, {}),
    ({"conversation_id": "1"}, {}),
    ({}, {"session_id": "1"}),
    ({}, {"prompt_cache_key": "1"}),
    ({}, {"metadata": {"user_id": "1"}}),
    ({}, {"extra_body": {"session_id": "1"}}),
]


@pytest.mark.parametrize("headers, members", SESSIONS)
async def test_a_session_is_known_by_what_its_client_says(
    headers: dict[str, str], members: dict[str, Any]
) -> None:
    async with (
        providers() as three,
        httpx.AsyncClient(base_url=three.url, timeout=20) as client,
    ):

        async def ask(text: str, named: bool = True) -> httpx.Response:
            body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}]}
            if named:
                body |= members
            return await client.post(
                "/v1/chat/completions", json=body, headers=headers if named else {}
            )

        await ask("!/backend(right)")
        assert (await ask("Another text")).headers["x-proxy-backend"] == "right"
        assert (await ask("Another text", named=False)).headers["x-proxy-backend"] == "left"


async def test_an_unnamed_session_is_known_by_how_it_began() -> None:
    async with providers() as three:
        first = {"role": "user", "content": "!/backend(right)"}
        answer = await three.ask("m", messages=[first])
        reply = answer.json()["choices"][0]["message"]
        turns = [first, {"role": "assistant", "content": reply["content"]}]
        for text in ("Hello", "Go on"):
            turns.append({"role": "user", "content": text})
            answer = await three.ask("m", messages=turns)
            assert answer.headers["x-proxy-backend"] == "right"
            turns.append({"role": "assistant", "content": "I am right"})
        other = [{"role": "user", "content": "Hello"}]
        assert (await three.ask("m", messages=other)).headers["x-proxy-backend"] == "left"


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("frontend", ["chat", "responses", "messages", "gemini"])
async def test_commands_that_are_switched_off_are_taken_out_and_not_run(
    frontend: str, streamed: bool
) -> None:
    async with providers(extra="session: {disable_interactive_commands: true}\n") as three:
        ask = Client(three.url, "s", streamed).asking(frontend)
        first = ("user", "!/backend(right)\nSay hello")
        assert await ask([first]) == "I am left"
        assert said(sent_to(three, PLAIN, {})) == [("user", "Say hello")]
        alone = ("user", "!/backend(right)")
        answer = await ask([first, ("assistant", "I am left"), alone])
        assert answer == f"{ANSWER}Commands are switched off here. Nothing was sent to the model."
        turns = [first, ("assistant", "I am left"), alone, ("assistant", answer), ("user", "More")]
        assert await ask(turns) == "I am left"
        assert said(sent_to(three, PLAIN, {"left": 1})) == [
            ("user", "Say hello"),
            ("assistant", "I am left"),
            ("user", "More"),
        ]


async def test_a_session_may_let_its_commands_begin_otherwise() -> None:
    async with providers() as three:

        async def ask(*turns: Turn, session: str = "s") -> str:
            return await Client(three.url, session, False).asking("chat")(list(turns))

        change = ("user", "!/set(command-prefix=#:)")
        answer = await ask(change)
        assert answer == f"{ANSWER}Commands of this session begin with #: from now on."
        assert "#:backend(name)" in await ask(change, ("assistant", answer), ("user", "#:help"))
        assert not three.asked()
        # With its history a conversation says it itself, without any session to remember it.
        turns = [
            change,
            ("assistant", answer),
            ("user", "#:temperature(0.5)\none"),
            ("assistant", "two"),
            ("user", "three\n!/help"),
        ]
        for session in ("s", "forgotten"):
            await ask(*turns, session=session)
            sent = three["left"].last.json
            assert [(m["role"], m["content"]) for m in sent["messages"]] == [
                ("user", "one"),
                ("assistant", "two"),
                ("user", "three\n!/help"),
            ], session
        # Without it, the session remembers.
        assert "#:backend(name)" in await ask(("user", "#:help"))
        await ask(("user", "#:help"), session="other")
        assert three["left"].last.json["messages"][0]["content"] == "#:help"
        assert (await ask(("user", "#:unset(command-prefix)"))).startswith(ANSWER)
        assert "!/backend(name)" in await ask(("user", "!/help"))


async def test_commands_can_begin_otherwise() -> None:
    async with providers(extra="command_prefix: '#:'\n") as three:
        messages = [{"role": "user", "content": "!/help"}]
        await three.ask("m", messages=messages)
        assert three["left"].last.json["messages"] == messages
        answer = await three.ask("m", messages=[{"role": "user", "content": "#:help"}])
        assert "#:backend(name)" in json.dumps(answer.json())


async def test_a_header_line_routes_over_the_model() -> None:
    async with (
        providers() as three,
        httpx.AsyncClient(base_url=three.url, timeout=20) as client,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"x-lip-route": "right:other?temperature=0.5"}
        await client.post("/v1/chat/completions", json=body, headers=headers)
        sent = three["right"].last
        assert (sent.json["model"], sent.json["temperature"]) == ("other", 0.5)
        assert "x-lip-route" not in sent.headers


async def test_the_first_leg_of_a_session_is_asked_once() -> None:
    async with providers() as three:
        model = "[weight=1000000]left:m^[first]right:m"
        seen = []
        for _ in range(3):
            answer = await three.ask(model, session_id="one")
            seen.append(answer.headers["x-proxy-backend"])
        assert seen == ["right", "left", "left"]
