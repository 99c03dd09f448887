"""Whose things are whose: clients by key, clients by address, and what a reverse proxy tells."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from e2e.answers import TEXT
from e2e.conftest import QUIET, Proxy, StartProxy
from e2e.upstream import Received, Reply, Upstream, answering, whole
from e2e.wire import ASKS, Said, ask, bearer
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

ANN, BOB = "127.0.0.2", "127.0.0.3"
TRUSTED = {"API_KEYS": "ann-key,bob-key", "TRUSTED_IPS": "127.0.0.0/8"}
RESPONSE = {"model": "gpt-test", "input": "my secret", "metadata": {"user_id": "same"}}


async def post(proxy: Proxy, path: str, body: Any, source: str, *fields: tuple[str, str]) -> Said:
    return await ask(proxy, "POST", path, body, fields, source=source)


async def test_an_address_does_not_read_what_another_has_stored(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", **TRUSTED) as proxy,
    ):
        for name in ("", "any", "same-made-up-key"):  # a wrong key makes no other client of one
            fields = [bearer(name)] if name else []
            response = (await post(proxy, "/v1/responses", RESPONSE, ANN, *fields)).json["id"]
            conversation = (
                await post(proxy, "/v1/conversations", {"metadata": {"a": "b"}}, ANN, *fields)
            ).json["id"]
            asked = len(upstream.requests)
            for method, path in (
                ("GET", f"/v1/responses/{response}"),
                ("GET", f"/v1/responses/{response}/input_items"),
                ("DELETE", f"/v1/responses/{response}"),
                ("GET", f"/v1/conversations/{conversation}"),
                ("GET", f"/v1/conversations/{conversation}/items"),
                ("POST", f"/v1/conversations/{conversation}"),
                ("DELETE", f"/v1/conversations/{conversation}"),
            ):
                got = await ask(proxy, method, path, {}, fields, source=BOB)
                assert got.status == 404, (method, path, got.body)
            for past in (
                {"previous_response_id": response},
                {"conversation": conversation},
                {"conversation": {"id": conversation}},
            ):
                got = await post(proxy, "/v1/responses", {**RESPONSE, **past}, BOB, *fields)
                assert got.status in (400, 404), got.body
            assert len(upstream.requests) == asked
            mine = await ask(proxy, "GET", f"/v1/responses/{response}", fields=fields, source=ANN)
            assert mine.status == 200


async def test_a_key_names_its_client_at_any_address_and_no_address_names_a_key(
    start_proxy: StartProxy,
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", **TRUSTED) as proxy,
    ):
        mine = (await post(proxy, "/v1/responses", RESPONSE, ANN, bearer("ann-key"))).json["id"]
        path = f"/v1/responses/{mine}"
        for source in (ANN, BOB):
            got = await ask(proxy, "GET", path, fields=[bearer("ann-key")], source=source)
            assert got.status == 200
        for fields in ([], [bearer("bob-key")], [bearer("address 127.0.0.2")]):
            assert (await ask(proxy, "GET", path, fields=fields, source=ANN)).status == 404


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"metadata": {"user_id": "the same"}},
        {"session_id": "the same"},
        {"prompt_cache_key": "the same"},
        {"extra_body": {"session_id": "the same"}},
    ],
    ids=lambda named: next(iter(named), "derived"),
)
@pytest.mark.parametrize("header", [False, True])
async def test_an_address_is_in_no_session_of_another(
    named: dict[str, Any], header: bool, start_proxy: StartProxy
) -> None:
    """In-chat commands set things for a session: here, which model answers."""
    fields = [("x-session-id", "the same")] if header else []

    def chat(text: str) -> dict[str, Any]:
        first = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
        messages = [*first, {"role": "user", "content": text}]
        return {"model": "gpt-test", "messages": messages, **named}

    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", **TRUSTED) as proxy,
    ):
        path = "/v1/chat/completions"
        assert (await post(proxy, path, chat("!/model(gpt-other)"), ANN, *fields)).status == 200
        for source, model in ((BOB, "gpt-test"), (ANN, "gpt-other")):
            assert (await post(proxy, path, chat("go on"), source, *fields)).status == 200
            assert upstream.last.json["model"] == model, source


async def test_a_past_that_is_not_the_client_s_own_is_not_asked_for(
    start_proxy: StartProxy,
) -> None:
    """The provider's account has the pasts of all clients; its key would open each of them."""

    def keeps(request: Received) -> Reply:
        if request.path.endswith("/input_tokens"):
            return whole(b'{"object": "response.input_tokens", "input_tokens": 3}')
        return answering(TEXT)(request)

    async with (
        Upstream(keeps) as upstream,
        start_proxy(
            upstream,
            "openai-responses",
            API_KEYS="ann-key,bob-key",
            LLM_PROXY_EXACT_TOKEN_COUNTS="1",
        ) as proxy,
    ):
        ann, bob = [bearer("ann-key")], [bearer("bob-key")]
        mine = (await ask(proxy, "POST", "/v1/responses", RESPONSE, ann)).json["id"]
        asked = len(upstream.requests)
        for path in ("/v1/responses", "/v1/responses/input_tokens"):
            for past in (
                {"previous_response_id": mine},
                {"previous_response_id": "resp_of_somebody_else"},
                {"previous_response_id": mine.replace("r", "\\u0072", 1)},
                {"previous_response_id": [mine]},
                {"conversation": "conv_of_somebody_else"},
                {"conversation": {"id": "conv_of_somebody_else"}},
                {"conversation": [mine]},
            ):
                body = json.dumps({**RESPONSE, **past}).replace("\\\\u", "\\u").encode()
                got = await ask(proxy, "POST", path, body, bob)
                assert got.status in (400, 404), (path, past, got.body)
                assert "not found" in got.json["error"]["message"]
        assert len(upstream.requests) == asked
        own = {**RESPONSE, "previous_response_id": mine}
        assert (await ask(proxy, "POST", "/v1/responses", own, ann)).status == 200


async def test_without_keys_what_one_has_stored_is_not_another_s_either(
    start_proxy: StartProxy,
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai-responses") as proxy,
    ):
        mine = (await ask(proxy, "POST", "/v1/responses", RESPONSE, [bearer("a")])).json["id"]
        asked = len(upstream.requests)
        theirs = {**RESPONSE, "previous_response_id": mine}
        got = await ask(proxy, "POST", "/v1/responses", theirs, [bearer("b")])
        assert got.status == 400
        assert len(upstream.requests) == asked


# ---- reverse proxies

CHAT = ASKS["chat"]


async def chat(proxy: Proxy, *fields: tuple[str, str], source: str = "127.0.0.1") -> int:
    return (await post(proxy, *CHAT, source, *fields)).status


@pytest.mark.parametrize(
    "field",
    [
        ("x-forwarded-for", "203.0.113.7"),
        ("forwarded", "for=203.0.113.7"),
        ("via", "1.1 nginx"),
        ("x-real-ip", "203.0.113.7"),
        ("x-real-ip", "127.0.0.1"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "https"),
        ("X_Forwarded_For", "127.0.0.1"),
        ("cf-connecting-ip", "127.0.0.1"),
        ("true-client-ip", "127.0.0.1"),
        ("x-client-ip", "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("trusted", ["", "127.0.0.1"])
async def test_what_came_through_another_program_does_not_administrate(
    field: tuple[str, str], trusted: str, start_proxy: StartProxy
) -> None:
    """nginx on this machine speaks for visitors from everywhere."""
    async with start_proxy(TRUSTED_PROXIES=trusted) as proxy:
        for path in ("/api/v1/plugins/toggle", "/v1/diagnostics/backends/echo/reactivate"):
            got = await ask(proxy, "POST", path, {"name": "none", "enabled": False}, [field])
            assert got.status == 403, path
        direct = await ask(proxy, "POST", "/v1/diagnostics/backends/echo/reactivate", {})
        assert direct.status == 200


async def test_a_trusted_proxy_names_the_client_that_guesses(start_proxy: StartProxy) -> None:
    async with start_proxy(API_KEYS="the-right-key", TRUSTED_PROXIES="127.0.0.1") as proxy:
        for guess in range(5):
            # What the client itself wrote stands to the left.
            chain = ("x-forwarded-for", f"198.51.100.{guess}, 203.0.113.7")
            assert await chat(proxy, chain, bearer(f"guess-{guess}")) == 401
        for field in (
            ("x-forwarded-for", "203.0.113.7"),
            ("x-forwarded-for", "203.0.113.7:4711"),
            ("x-forwarded-for", "::ffff:203.0.113.7"),
            ("x-forwarded-for", "203.0.113.7, 127.0.0.1"),
            ("forwarded", 'for="203.0.113.7:4711";proto=https'),
            ("x-real-ip", "203.0.113.7"),
        ):
            assert await chat(proxy, field, bearer("guess-x")) == 429, field
        assert await chat(proxy, ("x-forwarded-for", "203.0.113.8"), bearer("guess-y")) == 401
        # The proxy's own address is not locked out.
        assert await chat(proxy, bearer("guess-z")) == 401


async def test_nobody_else_s_forwarding_fields_count(start_proxy: StartProxy) -> None:
    settings = {"API_KEYS": "the-right-key", "TRUSTED_IPS": "10.0.0.0/8,127.0.0.1"}
    async with start_proxy(**settings) as proxy:
        for name in ("x-forwarded-for", "x-real-ip"):
            assert await chat(proxy, (name, "10.0.0.7"), source=BOB) == 401
            # A stranger's request through a program of this machine, which itself needs no key.
            assert await chat(proxy, (name, "203.0.113.7")) == 401
        assert await chat(proxy) == 200
        for guess in range(5):
            field = ("x-forwarded-for", f"198.51.100.{guess}")
            assert await chat(proxy, field, bearer(f"guess-{guess}"), source=BOB) == 401
        field = ("x-forwarded-for", "198.51.100.77")
        assert await chat(proxy, field, bearer("guess-6"), source=BOB) == 429


@pytest.mark.parametrize(
    "fields",
    [
        # The proxy wrote one of them and passed the client's own on.
        [("x-forwarded-for", "10.0.0.7"), ("x-real-ip", "203.0.113.7")],
        [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=10.0.0.7")],
        [("forwarded", "for=10.0.0.7, for=203.0.113.7")],
        [("x-forwarded-for", "10.0.0.7, 203.0.113.7")],
        [("x-forwarded-for", "10.0.0.7"), ("x-forwarded-for", "203.0.113.7")],
        [("x-forwarded-for", "10.0.0.7, unknown")],
        [("x-forwarded-for", "10.0.0.7,")],
        [("x-forwarded-for", "")],
        [("forwarded", "for=unknown")],
        [("forwarded", "for=_hidden")],
        [("forwarded", "by=10.0.0.7")],
        [("via", "1.1 nginx")],
        [("x-real-ip", "localhost")],
    ],
)
async def test_a_client_cannot_write_itself_a_trusted_address(
    fields: list[tuple[str, str]], start_proxy: StartProxy
) -> None:
    settings = {
        "API_KEYS": "the-right-key",
        "TRUSTED_IPS": "10.0.0.0/8,127.0.0.1",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    async with start_proxy(**settings) as proxy:
        assert await chat(proxy, *fields) == 401
        assert await chat(proxy, *fields, bearer("the-right-key")) == 200
        assert await chat(proxy, ("x-forwarded-for", "203.0.113.7, 10.0.0.7")) == 200


@pytest.mark.parametrize("settings", [{}, {"API_KEYS": "k", "TRUSTED_IPS": "203.0.113.0/24"}])
async def test_behind_a_trusted_proxy_each_visitor_has_its_own(
    settings: dict[str, str], start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", TRUSTED_PROXIES="127.0.0.1", **settings) as proxy,
    ):
        ann = [("x-forwarded-for", "203.0.113.7")]
        bob = [("x-forwarded-for", "203.0.113.8")]
        mine = (await ask(proxy, "POST", "/v1/responses", RESPONSE, ann)).json["id"]
        path = f"/v1/responses/{mine}"
        assert (await ask(proxy, "GET", path, fields=bob)).status == 404
        assert (await ask(proxy, "GET", path, fields=ann)).status == 200


async def test_ids_are_128_bits_that_no_other_id_tells(start_proxy: StartProxy) -> None:
    async with start_proxy() as proxy:
        requests, responses = [], []
        for _ in range(20):
            got = await ask(proxy, "POST", *ASKS["responses"])
            requests.append(int(got.headers["x-proxy-request-id"], 16))
            responses.append(got.json["id"])
        assert all(len(f"{number:032x}") == 32 for number in requests)
        # The old ids were a sequence: two of them told all that followed.
        steps = {(b - a) % 2**64 for a, b in pairwise(requests)}
        assert len(steps) == 19
        # 22 of the digits hold 128 bits; the two halves of an id vary on their own.
        bodies = [name.removeprefix("resp_") for name in responses]
        assert {len(body) for body in bodies} == {24}
        assert len({body[:11] for body in bodies}) == len({body[11:22] for body in bodies}) == 20


@pytest.mark.parametrize("frontend", ASKS)
async def test_an_address_is_not_given_what_was_cached_for_another(frontend: str) -> None:
    path, body = ASKS[frontend]
    settings = load(Sources(environment={**QUIET, "LLM_BACKEND": "echo", **TRUSTED}))
    async with make_server(snapshot(settings), plugins=["WAF-Aware Cache Lookup"]) as server:
        proxy = Proxy(server.port)
        # Whatever a client may write to be taken for another.
        for number, fields in enumerate(([], [("x-session-id", "the same")], [bearer("the same")])):
            asked = json.loads(json.dumps(body).replace('"a"', f'"{number}"'))
            hits = []
            for source in (ANN, ANN, BOB, BOB):
                said = await ask(proxy, "POST", path, asked, fields, source=source)
                assert said.status == 200, said.body
                hits.append(said.headers.get("x-llmproxy-cache"))
            assert hits[2] != "HIT"
            assert hits[3] == "HIT"
