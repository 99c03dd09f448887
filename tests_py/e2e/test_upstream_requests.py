"""What no client can make the provider's key do: ask at another path, for another account."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import planted
from e2e.answers import TEXT
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Received, Reply, Upstream, answering, whole
from e2e.wire import ASKS, ask, bearer
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

GEMINI = {"contents": [{"parts": [{"text": "a"}]}]}
# As they stand in a request's path, where they are decoded once.
STEPS = (
    "..%2f..%2ffiles",
    "..%2Ffiles",
    "%2e%2e%2ffiles",
    "%2E%2E/files",
    "../files",
    "x/../../files",
    "x%2f..%2f..%2ffiles",
    "..",
    ".",
    "%2e",
    "x/..",
    "x%2f%2e%2e",
    "..%5cfiles",
    "%2e%2e%5cfiles",
    "x%5c..%5c..%5cfiles",
    "%252e%252e%252ffiles",
    "%252e%252e/files",
    "..%252ffiles",
    "%25252e%25252e%25252ffiles",
    "%252e%252e%252f%25zz",
    "%252e%252e%252f%2500",
    "..;%2ffiles",
    "..;x=1%2ffiles",
    "..%20%2ffiles",
    "x%00",
    "%00",
    "x%2500",
    "x%0d%0ahost:%20evil.example",
    "x%0a",
    "x%09",
    "x%7f",
    "%c0%ae%c0%ae%c0%affiles",
    "%c0%ae%c0%ae/files",
    "%ff%fe",
    "%zz",
    "x%2",
    "",
)
HARMLESS = {
    "gemini-2.5-pro": "gemini-2.5-pro",
    "vendor%2Fmodel": "vendor%2Fmodel",
    "vendor/model:free": "vendor%2Fmodel:free",
    "a%23b": "a%23b",
    "a%26key%3Dx": "a%26key%3Dx",
    "...": "...",
    "a..b": "a..b",
    "%C5%82": "%C5%82",
    "100%25": "100%25",
}


def counting_too(request: Received) -> Reply:
    if request.path.split("?")[0].endswith(":countTokens"):
        return whole(b'{"totalTokens": 3}')
    return answering(TEXT)(request)


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent", "countTokens"])
@pytest.mark.parametrize("step", STEPS)
async def test_no_model_s_name_leads_out_of_its_segment(
    step: str, verb: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(counting_too) as upstream,
        start_proxy(upstream, "gemini", LLM_PROXY_EXACT_TOKEN_COUNTS="1") as proxy,
    ):
        for prefix in ("/v1beta/models/", "/v1/models/", "/v1beta/models/gemini:"):
            got = await ask(proxy, "POST", f"{prefix}{step}:{verb}", GEMINI)
            assert got.status in (400, 404), (prefix, got.body)
        assert not upstream.requests


@pytest.mark.parametrize("step", ["../files", "..", "x/../../y", "..\\files", "\u0000", "a\nb"])
async def test_no_name_in_a_body_does_either(step: str, start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "gemini") as proxy,
    ):
        for path, body in ASKS.values():
            if "model" in body:
                got = await ask(proxy, "POST", path, {**body, "model": f"gemini:{step}"})
                assert got.status in (400, 404), got.body
        got = await ask(
            proxy, "POST", *ASKS["chat"], [("x-lip-route", f"gemini:{step}".replace("\n", " "))]
        )
        assert got.status in (200, 400, 404)
        assert all(
            re.fullmatch(r"/v1/models/[^/?#]+", request.path.rpartition(":")[0])
            and ".." not in request.path
            for request in upstream.requests
        )


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_harmless_name_is_one_segment(name: str, start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "gemini") as proxy,
    ):
        got = await ask(proxy, "POST", f"/v1beta/models/{name}:generateContent", GEMINI)
        assert got.status == 200, got.body
    assert upstream.last.path == f"/v1/models/{HARMLESS[name]}:generateContent"


@pytest.mark.parametrize(
    "below",
    [
        "..%2fmodels",
        "../models",
        "..",
        "{id}%2f..%2fmodels",
        "{id}/../models",
        "{id}%2fcancel",
        "{id}/cancel/../..",
        "{id}%00",
        "{id}%3fx",
        "{id};x",
        "{id}/input_items/..",
        "{id}/%63ancel",
        "./{id}",
        "/{id}",
    ],
)
async def test_no_response_s_id_leads_anywhere_else(below: str, start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai-responses") as proxy,
    ):
        body = {"model": "gpt-test", "input": "a"}
        name = (await ask(proxy, "POST", "/v1/responses", body)).json["id"]
        asked = len(upstream.requests)
        for method in ("GET", "DELETE", "POST"):
            got = await ask(proxy, method, f"/v1/responses/{below.format(id=name)}", {})
            assert got.status in (400, 404, 405), (method, got.body)
        assert len(upstream.requests) == asked


# ---- queries

KEYS = ("key", "%6bey", "k%65y", "KEY", "%4B%45%59", "Key")


@pytest.mark.parametrize("name", KEYS[:3])
async def test_a_key_in_the_query_is_known_in_any_spelling_and_goes_no_further(
    name: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "gemini", API_KEYS="the-right-key") as proxy,
    ):
        path = "/v1beta/models/m:generateContent"
        got = await ask(proxy, "POST", f"{path}?{name}=the-right-key&x=1", GEMINI)
        assert got.status == 200
        assert upstream.last.path.partition("?")[2] == "x=1"
        assert (await ask(proxy, "POST", f"{path}?{name}=wrong", GEMINI)).status == 401
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "item",
    [
        *(f"{name}=secret" for name in KEYS),
        "api_key=secret",
        "api-key=secret",
        "%61pi_key=secret",
        "access_token=secret",
        "access%5Ftoken=secret",
        "oauth_token=secret",
        "x-goog-api-key=secret",
        "$httpHeaders=authorization:secret",
        "%24httpHeaders=secret",
        "$httpMethod=DELETE&$x=secret",
        "$key=secret",
        "X-HTTP-Method-Override=secret",
        "k%00ey=secret",
        "%zz=secret",
        "x=the-right-key",
        "x=the-righ%74-key",
        "x=Bearer+the-right-key",
        "the-right-key",
        "a=1&&key=secret&",
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1beta/models/m:generateContent", "/v1beta/models/m:countTokens"]
)
async def test_no_credential_in_a_query_goes_on(
    item: str, path: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(counting_too) as upstream,
        start_proxy(
            upstream, "gemini", API_KEYS="the-right-key", LLM_PROXY_EXACT_TOKEN_COUNTS="1"
        ) as proxy,
    ):
        got = await ask(proxy, "POST", f"{path}?{item}", GEMINI, [bearer("the-right-key")])
        assert got.status == 200, got.body
        query = upstream.last.path.partition("?")[2]
        assert query in ("", "a=1")


# ---- header fields

FIELDS = (
    ("authorization", "Bearer the-right-key"),
    ("x-own-auth", "mine"),
    ("X-Own-Auth", "mine"),
    ("x_own_auth", "mine"),
    ("X_Own-Auth", "mine"),
    ("openai-organization", "org-mine"),
    ("OpenAI-Organization", "org-mine"),
    ("OpenAI_Organization", "org-mine"),
    ("openai-project", "proj-mine"),
    ("x-goog-user-project", "mine"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("x_http_method_override", "DELETE"),
    ("x-http-method", "DELETE"),
    ("x-method-override", "DELETE"),
    ("x-original-url", "/v1/files"),
    ("x-rewrite-url", "/v1/files"),
    ("x-forwarded-for", "203.0.113.7"),
    ("x_forwarded_host", "evil.example"),
    ("x-api-key", "mine"),
    ("x_api_key", "mine"),
    ("api-key", "mine"),
    ("Api_Key", "mine"),
    ("x-goog-api-key", "mine"),
    ("cookie", "a=b"),
    ("proxy-authorization", "Basic eA=="),
    ("x-my-copy", "the-right-key"),
    ("x-my-copy", "Bearer the-right-key"),
    ("x-team", "mine"),
    ("x_team", "mine"),
)


@pytest.mark.parametrize("field", FIELDS, ids=": ".join)
async def test_no_field_of_a_client_s_gives_the_provider_s_key_another_meaning(
    field: tuple[str, str], tmp_path: Path
) -> None:
    async with Upstream(answering(TEXT)) as upstream:
        file = tmp_path / "proxy.yaml"
        backend = {
            "type": "openai-compatible",
            "api_url": upstream.url,
            "api_key": planted.PROVIDER,
            "auth_header": "X-Own-Auth",
            "headers": {"X-Team": "ours"},
        }
        file.write_text(
            json.dumps(
                {
                    "port": 0,
                    "io_threads": 1,
                    "logging": {"access_log": False},
                    "auth": {"api_keys": ["the-right-key"]},
                    "default_backend": "own",
                    "backends": {"own": backend},
                }
            )
        )
        async with make_server(snapshot(load(Sources(config_file=file)))) as server:
            fields = [("accept", "application/json"), ("x-kept", "kept"), field]
            if field[0] != "authorization":
                fields.append(bearer("the-right-key"))
            path, body = ASKS["chat"]
            got = await ask(Proxy(server.port), "POST", path, {**body, "model": "m"}, fields)
            assert got.status == 200, got.body
        sent = upstream.last.headers
        assert sent["x-kept"] == "kept"
        own = {name.replace("_", "-"): value for name, value in sent.items()}
        assert own.pop("x-own-auth").endswith(planted.PROVIDER)
        assert own.pop("x-team") == "ours"
        assert not upstream.last.repeated
        name = field[0].lower().replace("_", "-")
        assert name not in own
        assert "the-right-key" not in str(own)
