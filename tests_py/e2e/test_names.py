"""A page whose name was made to point here (DNS rebinding) gets nothing where no key is asked."""

from __future__ import annotations

import pytest

from e2e.conftest import StartProxy
from e2e.wire import ASKS, ask, bearer

ROUTES = (
    ("GET", "/health"),
    ("GET", "/healthz"),
    ("GET", "/internal/health"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/echo"),
    ("GET", "/v1beta/models"),
    ("GET", "/anthropic/v1/models"),
    ("GET", "/v1/diagnostics"),
    ("POST", "/v1/diagnostics/backends/echo/reactivate"),
    ("GET", "/v1/responses/resp_1"),
    ("GET", "/v1/responses/resp_1/input_items"),
    ("DELETE", "/v1/responses/resp_1"),
    ("POST", "/v1/conversations"),
    ("GET", "/v1/conversations/conv_1"),
    ("GET", "/v1/conversations/conv_1/items"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/api/v1/plugins"),
    ("POST", "/api/v1/plugins/toggle"),
    ("HEAD", "/api/hello"),
    ("OPTIONS", "/v1/chat/completions"),
    ("GET", "/nothing/here"),
    ("PUT", "/v1/models"),
    *(("POST", path) for path, _ in ASKS.values()),
)
FOREIGN = (
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.localhost.example",
    "evil.example.",
    "LOCALHOST.EVIL.EXAMPLE",
    "0x7f000001.evil.example",
    "localhost:8000.evil.example",
    "127.1",
    "127.0.0.1:80:evil.example",
    "[::1].evil.example",
    "[evil.example]",
    "%6c%6f%63%61%6c%68%6f%73%74",
)
OWN = (
    "localhost",
    "LocalHost:8000",
    "localhost.",
    "proxy.localhost:8000",
    "127.0.0.1",
    "127.0.0.1:8000",
    "127.9.9.9",
    "192.168.1.2:8000",
    "[::1]",
    "[::1]:8000",
    "[fd00::7]:8000",
)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_foreign_name_is_refused_on_every_route(
    method: str, path: str, start_proxy: StartProxy
) -> None:
    async with start_proxy() as proxy:
        got = await ask(proxy, method, path, {}, host="evil.example")
        assert got.status == 403
        if method != "HEAD":
            assert b"allowed_hosts" in got.body


@pytest.mark.parametrize("name", FOREIGN)
async def test_a_name_that_only_looks_like_ours_is_refused(
    name: str, start_proxy: StartProxy
) -> None:
    async with start_proxy() as proxy:
        got = await ask(proxy, "GET", "/v1/models", host=name)
        assert got.status in (400, 403), name


@pytest.mark.parametrize("name", OWN)
async def test_the_loopback_s_names_and_literal_addresses_are_ours(
    name: str, start_proxy: StartProxy
) -> None:
    async with start_proxy() as proxy:
        for path, body in ASKS.values():
            assert (await ask(proxy, "POST", path, body, host=name)).status == 200, path


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("http://evil.example/v1/models", "localhost"),
        ("http://localhost/v1/models", "evil.example"),
        ("http://evil.example:8000/v1/models?x=1", "127.0.0.1:8000"),
        ("HTTPS://evil.example/v1/models", "localhost"),
        ("http://localhost.evil.example/v1/models", "localhost"),
    ],
)
async def test_a_foreign_name_in_an_absolute_target_is_refused(
    target: str, host: str, start_proxy: StartProxy
) -> None:
    async with start_proxy() as proxy:
        assert (await ask(proxy, "GET", target, host=host)).status == 403
        own = "http://localhost:1234/v1/models"
        assert (await ask(proxy, "GET", own, host="localhost:1234")).status == 200


async def test_the_port_of_anthropic_s_api_is_no_way_round(start_proxy: StartProxy) -> None:
    path, body = ASKS["messages"]
    async with start_proxy(ANTHROPIC_PORT="0") as proxy:
        assert proxy.server is not None
        port = proxy.server.anthropic_port
        for method, target in (("POST", path), ("GET", "/v1/models"), ("GET", "/health")):
            got = await ask(proxy, method, target, body, host="evil.example", port=port)
            assert got.status == 403, target
        assert (await ask(proxy, "POST", path, body, port=port)).status == 200


async def test_further_names_may_be_configured(start_proxy: StartProxy) -> None:
    async with start_proxy(ALLOWED_HOSTS="Proxy.example,other.example") as proxy:
        for name in ("proxy.example", "PROXY.example:8000", "other.example.", "localhost"):
            assert (await ask(proxy, "GET", "/v1/models", host=name)).status == 200, name
        for name in ("a.proxy.example", "proxy.example.evil", "example.proxy"):
            assert (await ask(proxy, "GET", "/v1/models", host=name)).status == 403, name
    async with start_proxy(ALLOWED_HOSTS="*") as proxy:
        assert (await ask(proxy, "GET", "/v1/models", host="any.example")).status == 200


async def test_a_key_lets_a_client_call_the_proxy_what_it_likes(start_proxy: StartProxy) -> None:
    async with start_proxy(API_KEYS="the-right-key") as proxy:
        right = [bearer("the-right-key")]
        got = await ask(proxy, "GET", "/v1/models", fields=right, host="proxy.example")
        assert got.status == 200
        assert (await ask(proxy, "GET", "/v1/models", host="proxy.example")).status == 401


async def test_an_address_that_needs_no_key_is_as_open_to_a_foreign_page(
    start_proxy: StartProxy,
) -> None:
    async with start_proxy(API_KEYS="the-right-key", TRUSTED_IPS="127.0.0.1") as proxy:
        path, body = ASKS["chat"]
        assert (await ask(proxy, "POST", path, body, host="evil.example")).status == 403
        page = [("origin", "https://evil.example")]
        assert (await ask(proxy, "POST", path, body, page)).status == 403
        assert (await ask(proxy, "POST", path, body)).status == 200
        with_key = [bearer("the-right-key"), *page]
        assert (await ask(proxy, "POST", path, body, with_key, host="a.example")).status == 200
