"""What docs/routing.md says of selectors and commands, asked of a proxy with its configuration."""

from __future__ import annotations

import re

import httpx
import pytest

from e2e.test_selectors import settings_of
from e2e.upstream import Received, Reply, Upstream, error
from llm_proxy.assembly import make_server
from llm_proxy.config.snapshot import snapshot
from llm_proxy.server import Server
from repo import ROOT

PAGE = (ROOT / "docs" / "routing.md").read_text()
CONFIG = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.S | re.M)[0]
NAMES = {
    key: name for name, key in re.findall(r"^  ([\w.]+): \{api_key: ([\w-]+)\}$", CONFIG, re.M)
}
ROWS = [
    (selector.replace("\\|", "|"), legs.split(", "))
    for selector, legs in re.findall(r"^\| `((?!!/)[^`]+)` \| ([^|`]+) \|$", PAGE, re.M)
]
COMMANDS = [
    command
    for line in PAGE.splitlines()
    if line.startswith("| `!/")
    for command in re.findall(r"`(!/[^`]*)`", line)
]
PROMPT = [{"role": "user", "content": "Tell me a story of some length, please, about a proxy."}]


def served_by(upstream: Upstream) -> Server:
    """The page's own configuration, with every provider at one address."""
    text = re.sub(r"\{api_key: ([\w-]+)\}", rf"{{api_key: \1, api_url: '{upstream.url}'}}", CONFIG)
    return make_server(snapshot(settings_of(text)))


def leg_of(request: Received) -> str:
    key = request.headers.get("x-api-key") or request.headers["authorization"].split()[-1]
    return f"{NAMES[key]} {request.json['model']}"


def nobody(request: Received) -> Reply:
    return error(404, "not_found_error", "no such model")


def test_the_page_has_what_is_tested() -> None:
    assert len(NAMES) == 4
    assert len(ROWS) >= 11
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("selector, legs", ROWS, ids=[selector for selector, _ in ROWS])
async def test_a_selector_asks_whom_the_page_says(selector: str, legs: list[str]) -> None:
    async with Upstream(nobody) as upstream, served_by(upstream) as server:
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        async with httpx.AsyncClient() as client:
            answer = await client.post(url, json={"model": selector, "messages": PROMPT})
        assert answer.status_code == 404, answer.text
        assert [leg_of(request) for request in upstream.requests] == legs


async def test_every_command_shown_does_something() -> None:
    async with Upstream() as upstream, served_by(upstream) as server:
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        async with httpx.AsyncClient(headers={"x-session-id": "page"}) as client:
            for command in COMMANDS:
                turns = [{"role": "user", "content": command}]
                answer = await client.post(url, json={"model": "gpt-4.1", "messages": turns})
                said = answer.json()["choices"][0]["message"]["content"]
                assert said.startswith("[llm-proxy] "), command
                assert "Nothing was sent" not in said, said
        assert not upstream.requests
