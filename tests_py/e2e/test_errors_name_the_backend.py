"""Errors tell clients which backend failed by its name, and never by its address."""

from __future__ import annotations

from pathlib import Path

import pytest

import planted
from e2e.test_failover import FORMATS, route
from e2e.upstream import Reply, error

PAIRS = [(client, leg) for client in FORMATS for leg in FORMATS]


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("client", "leg"), PAIRS)
async def test_a_refused_key_is_the_backends_and_not_the_clients(
    client: str, leg: str, streamed: bool, tmp_path: Path
) -> None:
    refused = error(401, "authentication_error", "Incorrect API key provided: sk-abc***")
    async with route(client, leg, streamed, tmp_path) as setup:
        setup.primary.handler = setup.fallback.handler = lambda request: refused
        heard = await setup.ask()
    assert heard.status == 401
    said = "Incorrect API key provided: sk-abc***"
    told = said if client == leg else f"Backend fallback refused its API key: {said}"
    assert heard.error["message"] == told
    assert heard.headers["x-proxy-backend"] == "fallback"


@pytest.mark.parametrize("client", FORMATS)
async def test_an_unreachable_backend_is_named_without_its_address(
    client: str, tmp_path: Path
) -> None:
    async with route(client, "chat", False, tmp_path) as setup:
        port = str(setup.fallback.port)
        for upstream in (setup.primary, setup.fallback):
            await upstream.__aexit__(None, None, None)  # it listens no more
        heard = await setup.ask()
    assert heard.status == 502
    assert heard.error["message"] == "Backend fallback cannot be reached: Connection refused."
    line = last_line(planted.ACCESS_LOG, port)
    assert f"cannot be reached: Connection refused. (127.0.0.1:{port})" in line


@pytest.mark.parametrize("client", FORMATS)
async def test_a_backend_that_closes_is_named_without_its_address(
    client: str, tmp_path: Path
) -> None:
    async with route(client, "chat", False, tmp_path) as setup:
        setup.primary.handler = setup.fallback.handler = lambda request: Reply(raw=b"")
        heard = await setup.ask()
    assert heard.status == 502
    assert heard.error["message"] == "Backend fallback closed the connection without an answer"


def last_line(log: Path, holding: str) -> str:
    return [line for line in log.read_text().splitlines() if holding in line][-1]
