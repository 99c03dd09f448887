"""Responses a client comes back to: kept here where no provider keeps them, else left to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError

import planted
from e2e.answers import ONE_TOOL, TEXT, Answer, responses_stream, responses_whole
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Received, Reply, Upstream, answering, error, stream, whole

WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@asynccontextmanager
async def sdk(proxy: Proxy, key: str = "client") -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def ask(client: AsyncOpenAI, streamed: bool = False, **request: Any) -> Any:
    request = {"model": "gpt-test", **request}
    if not streamed:
        return await client.responses.create(**request)
    async with client.responses.stream(**request) as events:
        return [event async for event in events][-1].response


def said(request: Received) -> list[tuple[str, str]]:
    """Who said what, as the chat provider was told."""
    out = []
    for message in request.json["messages"]:
        content = message.get("content") or ""
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        out.append((message["role"], content))
    return out


@WAYS
async def test_a_provider_without_a_store_is_told_the_whole_conversation(
    streamed: bool, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai") as proxy,
        sdk(proxy) as client,
    ):
        first = await ask(client, streamed, input="one", instructions="Be brief.")
        second = await ask(client, streamed, input="two", previous_response_id=first.id)
        third = await ask(client, streamed, input="three", previous_response_id=second.id)
        other = await ask(client, streamed, input="else", previous_response_id=first.id)
    assert len({first.id, second.id, third.id, other.id}) == 4
    assert (first.previous_response_id, second.previous_response_id) == (None, first.id)
    one, two = ("user", "one"), ("user", "two")
    answer = ("assistant", TEXT.text)
    assert said(upstream.requests[0]) == [("developer", "Be brief."), one]
    assert said(upstream.requests[1]) == [one, answer, two]
    assert said(upstream.requests[2]) == [one, answer, two, answer, ("user", "three")]
    assert said(upstream.requests[3]) == [one, answer, ("user", "else")]


@WAYS
@pytest.mark.parametrize("backend", ["openai", "anthropic"])
async def test_a_tool_s_result_finds_the_call_that_only_we_remember(
    backend: str, streamed: bool, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(ONE_TOOL)) as upstream,
        start_proxy(upstream, backend) as proxy,
        sdk(proxy) as client,
    ):
        first = await ask(client, streamed, input="the weather?")
        call = next(item for item in first.output if item.type == "function_call")
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        await ask(client, streamed, input=[result], previous_response_id=first.id)
    sent = json.dumps(upstream.last.json, ensure_ascii=False)
    assert sent.index("the weather?") < sent.index("get_weather") < sent.index("rain")
    assert sent.count("call_one") == 2


async def test_a_conversation_goes_on_under_its_own_name(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai") as proxy,
        sdk(proxy) as client,
    ):
        one, two = [(await client.conversations.create()).id for _ in range(2)]
        assert one != two
        first = await ask(client, input="one", conversation=one)
        assert first.conversation.id == one
        await ask(client, True, input="two", conversation={"id": one})
        await ask(client, input="three", conversation=two)
        # Its turns are no secret responses of their own, and it is none.
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(one)
        with pytest.raises(BadRequestError):
            await ask(client, input="x", previous_response_id=one)
        with pytest.raises(BadRequestError):
            await ask(client, input="x", conversation=one, previous_response_id=first.id)
        await ask(client, input="four", previous_response_id=first.id)
    assert [len(said(request)) for request in upstream.requests] == [1, 3, 1, 3]


@pytest.mark.parametrize("kind", ["openai", "openai-responses"])
async def test_a_conversation_begins_with_what_it_was_made_of(
    kind: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, kind) as proxy,
        sdk(proxy) as client,
    ):
        made = await client.conversations.create(
            items=[{"role": "user", "content": "zero"}], metadata={"topic": "numbers"}
        )
        got = await client.conversations.retrieve(made.id)
        assert (got.id, got.metadata) == (made.id, {"topic": "numbers"})
        await ask(client, input="one", conversation=made.id)
        added = await client.conversations.items.create(
            made.id, items=[{"role": "user", "content": "aside"}]
        )
        assert [item.type for item in added.data] == ["message"]
        renamed = await client.conversations.update(made.id, metadata={"topic": "words"})
        assert renamed.created_at == made.created_at
        listed = [item async for item in client.conversations.items.list(made.id, order="asc")]
        texts = [item.content[0].text for item in listed]  # type: ignore[union-attr]
        assert texts == ["zero", "one", TEXT.text, "aside"]
        assert len({item.id for item in listed}) == 4
        assert added.data[0].id == listed[3].id
        kept = await client.conversations.items.retrieve(listed[1].id, conversation_id=made.id)
        assert kept == listed[1]
        await client.conversations.items.delete(listed[0].id, conversation_id=made.id)
        left = [item.id async for item in client.conversations.items.list(made.id, order="asc")]
        assert left == [item.id for item in listed[1:]]
        await ask(client, True, input="two", conversation=made.id)
        if kind == "openai":
            heard = said(upstream.last)
        else:
            heard = [
                (item["role"], item["content"][0]["text"]) for item in upstream.last.json["input"]
            ]
            assert upstream.last.json["conversation"] is None
        assert heard == [
            ("user", "one"),
            ("assistant", TEXT.text),
            ("user", "aside"),
            ("user", "two"),
        ]
        assert (await client.conversations.retrieve(made.id)).metadata == {"topic": "words"}
        assert (await client.conversations.delete(made.id)).deleted
        for gone in (
            client.conversations.retrieve(made.id),
            client.conversations.update(made.id, metadata={}),
            client.conversations.delete(made.id),
            client.conversations.items.list(made.id),
            client.conversations.items.create(made.id, items=[]),
            ask(client, input="three", conversation=made.id) if kind == "openai" else None,
        ):
            if gone is not None:
                with pytest.raises(NotFoundError):
                    await gone


@WAYS
async def test_a_conversation_kept_elsewhere_is_left_to_its_keeper_or_refused(
    streamed: bool, start_proxy: StartProxy
) -> None:
    """Its past is not known here: another provider would answer without it, and nobody would
    see."""
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai-responses") as keeper,
        start_proxy(upstream, "openai") as other,
        sdk(keeper) as at_keeper,
        sdk(other) as elsewhere,
    ):
        for text in ("one", "two"):
            await ask(at_keeper, streamed, input=text, conversation="conv_of_the_provider")
            assert upstream.last.json["conversation"] == "conv_of_the_provider"
            assert upstream.last.json["input"] == text
        asked = len(upstream.requests)
        with pytest.raises(NotFoundError, match="conv_of_the_provider") as refused:
            await ask(elsewhere, streamed, input="three", conversation="conv_of_the_provider")
        assert refused.value.param == "conversation"
        assert len(upstream.requests) == asked


@WAYS
@pytest.mark.parametrize("kind", ["openai", "openai-responses"])
async def test_a_client_goes_on_from_the_answer_to_a_command(
    streamed: bool, kind: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, kind) as proxy,
        sdk(proxy) as client,
    ):
        first = await ask(client, streamed, input="one")
        command = await ask(client, streamed, input="!/hello", previous_response_id=first.id)
        assert command.output_text.startswith("[llm-proxy] ")
        asked = len(upstream.requests)
        assert (await client.responses.retrieve(command.id)).output_text == command.output_text
        await ask(client, streamed, input="two", previous_response_id=command.id)

        conversation = (await client.conversations.create()).id
        for text in ("one", "!/hello", "two"):
            answer = await ask(client, streamed, input=text, conversation=conversation)
            if kind == "openai" or text == "!/hello":  # a provider's own reply passes as it is
                assert answer.conversation.id == conversation
        # The first thing said may be a command too.
        command = await ask(client, streamed, input="!/hello")
        await ask(client, streamed, input="one", previous_response_id=command.id)
    sent = [request for request in upstream.requests if request.method == "POST"][asked:]
    if kind == "openai":
        heard = [[text for _, text in said(request)] for request in sent]
    else:
        heard = [[item["content"][0]["text"] for item in request.json["input"]] for request in sent]
    assert heard == [
        ["one", TEXT.text, "two"],
        ["one"],
        ["one", TEXT.text, "two"],
        ["one"],
    ]


async def test_what_no_conversation_can_be_made_of_is_refused(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai") as proxy,
        sdk(proxy) as client,
        httpx.AsyncClient(base_url=proxy.url, headers={"authorization": "Bearer client"}) as http,
    ):
        made = (await client.conversations.create()).id
        below = f"/v1/conversations/{made}"
        for method, path, body, status in (
            ("POST", "/v1/conversations", "[]", 400),
            ("POST", "/v1/conversations", '{"items":{}}', 400),
            ("POST", "/v1/conversations", '{"items":["x"]}', 400),
            ("POST", "/v1/conversations", '{"metadata":[]}', 400),
            ("POST", "/v1/conversations", '{"metadata":{"a":}', 400),
            ("GET", "/v1/conversations", "", 405),
            ("PUT", below, "{}", 405),
            ("POST", f"{below}/items", "{}", 400),
            ("GET", f"{below}/items/none", "", 404),
            ("DELETE", f"{below}/items/none", "", 404),
            ("GET", f"{below}/other", "", 404),
            ("GET", f"{below}/items/a/b", "", 404),
        ):
            got = await http.request(method, path, content=body)
            assert got.status_code == status, (method, path, body, got.text)
            assert set(got.json()["error"]) == {"message", "type", "param", "code"}
    assert not upstream.requests


async def test_a_conversation_is_its_maker_s_alone(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", API_KEYS="ann,bob") as proxy,
        sdk(proxy, "ann") as ann,
        sdk(proxy, "bob") as bob,
    ):
        mine = (await ann.conversations.create()).id
        for attempt in (
            bob.conversations.retrieve(mine),
            bob.conversations.delete(mine),
            bob.conversations.items.list(mine),
            ask(bob, input="what was said?", conversation=mine),
        ):
            with pytest.raises(NotFoundError):
                await attempt
        assert (await ann.conversations.retrieve(mine)).id == mine


async def test_what_is_not_stored_is_not_found(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai") as proxy,
        sdk(proxy) as client,
    ):
        unkept = await ask(client, input="one", store=False)
        for name in (unkept.id, "resp_nobody"):
            with pytest.raises(BadRequestError) as refused:
                await ask(client, input="two", previous_response_id=name)
            assert refused.value.code == "previous_response_not_found"
            with pytest.raises(NotFoundError):
                await client.responses.retrieve(name)
    assert len(upstream.requests) == 1


async def test_no_client_is_shown_another_s_responses(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", API_KEYS="ann,bob") as proxy,
        sdk(proxy, "ann") as ann,
        sdk(proxy, "bob") as bob,
    ):
        mine = await ask(ann, input="my secret")
        for attempt in (
            bob.responses.retrieve(mine.id),
            bob.responses.delete(mine.id),
            bob.responses.cancel(mine.id),
        ):
            with pytest.raises(NotFoundError):
                await attempt
        with pytest.raises(BadRequestError):
            await ask(bob, input="go on", previous_response_id=mine.id)
        assert (await ann.responses.retrieve(mine.id)).output_text == TEXT.text
    assert len(upstream.requests) == 1


async def test_a_stored_response_is_retrieved_listed_and_deleted(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai") as proxy,
        sdk(proxy) as client,
    ):
        parts = [{"role": "user", "content": text} for text in ("one", "two")]
        first = await ask(client, input=parts)
        second = await ask(client, True, input="three", previous_response_id=first.id)
        again = await client.responses.retrieve(second.id)
        assert again.output_text == TEXT.text and again.id == second.id
        items = [item async for item in client.responses.input_items.list(second.id, limit=2)]
        texts = [item.content[0].text for item in items]  # type: ignore[union-attr]
        assert texts == ["three", TEXT.text, "two", "one"]
        assert len({item.id for item in items}) == 4
        oldest = await client.responses.input_items.list(second.id, order="asc", limit=1)
        assert oldest.has_more and oldest.data[0].id == items[-1].id
        with pytest.raises(BadRequestError, match="background"):
            await client.responses.cancel(second.id)
        await client.responses.delete(first.id)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(first.id)
        # What went on from it still knows it.
        await ask(client, input="four", previous_response_id=second.id)
    assert len(said(upstream.last)) == 6


async def test_the_oldest_response_gives_way(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_RESPONSES_STORE_ENTRIES="2") as proxy,
        sdk(proxy) as client,
    ):
        kept = [await ask(client, input=str(number)) for number in range(3)]
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(kept[0].id)
        for response in kept[1:]:
            await client.responses.retrieve(response.id)


class Store:
    """A provider with the Responses API that keeps what it said, until it forgets."""

    def __init__(self, echo_store: bool = True) -> None:
        self.echo_store = echo_store
        self.kept: set[str] = set()

    def __call__(self, request: Received) -> Reply:
        path = request.path.split("?")[0]
        if request.method != "POST" or path.endswith("/cancel"):
            name = path.split("/")[3]
            if name not in self.kept:
                return error(404, "invalid_request_error", f"Response with id '{name}' not found.")
            return whole(json.dumps({"id": name, "of": "the provider", "path": path}).encode())
        before = request.json.get("previous_response_id")
        if before and before not in self.kept:
            return error(400, "invalid_request_error", "Previous response not found.")
        name = f"resp_{len(self.kept)}"
        self.kept.add(name)
        kept = b'"store": true' if self.echo_store else b'"store": false'
        mark = (b'"resp_scripted"', f'"{name}", '.encode() + kept)
        answer = Answer("Hello.")
        if request.json.get("stream"):
            return stream(event.replace(*mark) for event in responses_stream(answer))
        return whole(responses_whole(answer).replace(*mark))


@WAYS
async def test_a_provider_that_keeps_the_response_is_asked_in_the_client_s_own_words(
    streamed: bool, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(Store()) as upstream,
        start_proxy(upstream, "openai-responses") as proxy,
        sdk(proxy) as client,
    ):
        first = await ask(client, streamed, input="one")
        await ask(client, streamed, input="two", previous_response_id=first.id)
        assert upstream.last.json["previous_response_id"] == first.id
        assert upstream.last.json["input"] == "two"
        headers = {"authorization": "Bearer client"}
        async with httpx.AsyncClient(base_url=proxy.url, headers=headers) as http:
            for method, below in (
                ("GET", "?include[]=reasoning.encrypted_content"),
                ("POST", "/cancel"),
                ("GET", "/input_items"),
                ("DELETE", ""),
            ):
                got = await http.request(method, f"/v1/responses/{first.id}{below}")
                assert got.json()["of"] == "the provider", got.text
                assert upstream.last.path == f"/v1/responses/{first.id}{below}"
                assert upstream.last.headers["authorization"] == f"Bearer {planted.PROVIDER}"
            assert (await http.get(f"/v1/responses/{first.id}")).status_code == 404


@WAYS
@pytest.mark.parametrize("echo", [True, False], ids=["forgot it", "never kept it"])
async def test_what_the_provider_does_not_know_is_told_it_again(
    streamed: bool, echo: bool, start_proxy: StartProxy
) -> None:
    store = Store(echo)
    async with (
        Upstream(store) as upstream,
        start_proxy(upstream, "openai-responses") as proxy,
        sdk(proxy) as client,
    ):
        first = await ask(client, streamed, input="one")
        store.kept.clear()
        store.kept.add("resp_taken")
        second = await ask(client, streamed, input="two", previous_response_id=first.id)
        assert second.output_text == "Hello."
        assert (await client.responses.retrieve(first.id)).output_text == "Hello."
    asked = next(request for request in reversed(upstream.requests) if request.body)
    assert asked.json["previous_response_id"] is None
    kinds = [(item.get("role"), item["content"][0]["text"]) for item in asked.json["input"]]
    assert kinds == [("user", "one"), ("assistant", "Hello."), ("user", "two")]
    posts = sum(request.method == "POST" for request in upstream.requests)
    assert posts == (3 if echo else 2)


async def test_a_past_nobody_here_knows_is_left_to_the_provider(start_proxy: StartProxy) -> None:
    store = Store()
    store.kept.add("resp_of_last_week")
    async with (
        Upstream(store) as upstream,
        start_proxy(upstream, "openai-responses") as proxy,
        sdk(proxy) as client,
    ):
        second = await ask(client, input="two", previous_response_id="resp_of_last_week")
        assert upstream.last.json["previous_response_id"] == "resp_of_last_week"
        # What we know of it is only its end: it is never told as the whole.
        store.kept.clear()
        with pytest.raises(BadRequestError):
            await ask(client, input="three", previous_response_id=second.id)
