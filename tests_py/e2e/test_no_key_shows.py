"""Keys from every source, failures of every kind: no output of the program holds a key."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

import planted
from e2e.answers import TEXT, chat_stream, messages_stream
from e2e.conftest import program
from e2e.upstream import Received, Reply, Reset, Upstream, Wait, error, stream, whole
from llm_proxy.cli import main

ENV = [planted.key(f"env{i}") for i in range(3)]
FILE = [planted.key(f"file{i}") for i in range(2)]
DOTENV = planted.key("dotenv")
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
MESSAGES = {**CHAT, "max_tokens": 9}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def key_of(request: Received) -> str:
    headers = request.headers
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    return bearer or headers.get("x-api-key") or headers["x-goog-api-key"]


def echoes(request: Received, go_on: asyncio.Event) -> list[Reply]:
    """What providers do with the key they were asked with."""
    key = key_of(request)
    told = f"Incorrect API key provided: {key}. Find yours at https://x/?key={key}"
    event = json.dumps({"type": "error", "error": {"message": told, "type": "api_error"}})
    broken = f"event: error\ndata: {event}\n\n".encode()
    said = list(messages_stream(TEXT) if "messages" in request.path else chat_stream(TEXT))
    begun = [*said[:5], Wait(go_on)] if request.json.get("stream") else said[:5]
    statuses = (400, 401, 402, 403, 404, 413, 422, 429, 500, 503)
    return [
        *(error(status, "api_error", told, ("x-key-used", key)) for status in statuses),
        whole(told.encode(), 500),
        whole(told.encode()),
        whole(event.encode()),
        Reply(302, (("location", f"https://x/?key={key}"),)),
        Reply(raw=b"HTTP/1.1 200 " + key.encode() + b"\r\n\x00: " + key.encode() + b"\r\n\r\n"),
        stream([f"data: {told}\n\n".encode()]),
        stream([broken]),
        stream([*begun, broken]),
        stream([*begun, Reset()]),
    ]


async def drive(url: str, model: str, headers: dict[str, str], go_on: asyncio.Event) -> list[bytes]:
    """Every frontend, whole and streamed; all that the client hears."""
    heard = []
    async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as http:
        for path, body in (
            ("/v1/chat/completions", {**CHAT, "model": model}),
            ("/v1/chat/completions", {**CHAT, "model": model, "stream": True}),
            ("/v1/messages", {**MESSAGES, "model": model, "stream": True}),
            ("/v1/responses", {"input": "Hello", "model": model}),
            (f"/v1beta/models/{model}:generateContent?key={planted.CLIENT}", GEMINI),
        ):
            go_on.clear()
            async with http.stream("POST", path, json=body) as reply:
                heard.append(str(reply.headers).encode())
                with contextlib.suppress(httpx.HTTPError):
                    async for piece in reply.aiter_raw():
                        heard.append(piece)
                        go_on.set()
            go_on.set()
    return heard


@pytest.mark.parametrize(("form", "rounds"), [("text", 3), ("json", 1)])
async def test_no_output_of_the_program_holds_a_key(form: str, rounds: int, tmp_path: Path) -> None:
    go_on = asyncio.Event()
    turn = itertools.count()

    def answer(request: Received) -> Reply:
        replies = echoes(request, go_on)
        return replies[next(turn) % len(replies)]

    async with Upstream(answer) as upstream:
        base = f"http://127.0.0.1:{upstream.port}"
        file = tmp_path / "proxy.yaml"
        config: dict[str, Any] = {
            "auth": {"api_keys": [planted.CLIENT], "admin_keys": [planted.ADMIN]},
            "failure_handling": {"max_silent_wait": 0},
            "plugins": {"tenants": {planted.CLIENT: {"tier": "premium"}}},
            "backends": {
                "mine": {"type": "openai-compatible", "api_url": f"{base}/v1", "api_key": FILE},
                "claude": {
                    "type": "anthropic-compatible",
                    "api_url": f"{base}/v1",
                    "api_key": FILE[0],
                },
            },
        }
        file.write_text(json.dumps(config))
        (tmp_path / ".env").write_text(f"GEMINI_API_KEY={DOTENV}\n")
        environment = {
            "OPENAI_API_KEY": ENV[0],
            "OPENAI_API_KEY_1": ENV[1],
            "OPENAI_API_KEY_2": f"Bearer {ENV[2]}",
            "OPENAI_API_BASE_URL": f"{base}/v1",
            "GEMINI_API_BASE_URL": f"{base}/v1beta",
        }
        flags = ("--config", str(file), "--log-level", "DEBUG", "--log-format", form)
        heard: list[bytes] = []
        async with program(
            *flags, "--plugins", "stock", environment=environment, folder=tmp_path
        ) as proxy:
            client = {"authorization": f"Bearer {planted.CLIENT}"}
            admin = {"authorization": f"Bearer {planted.ADMIN}"}
            models = ("openai:m", "mine:m", "claude:m", "gemini:m")
            async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as http:
                for model in models:
                    for _ in range(rounds):
                        heard += await drive(proxy.url, model, client, go_on)
                        for name in ("openai", "openai.1", "mine", "claude", "gemini"):
                            await http.post(
                                f"/v1/diagnostics/backends/{name}/reactivate", headers=admin
                            )
                for method, path in itertools.product(
                    ("GET", "POST"),
                    ("/health", "/v1/diagnostics", "/metrics", "/api/v1/plugins", "/v1/models"),
                ):
                    for headers in ({}, client, admin):
                        got = await http.request(method, path, headers=headers)
                        heard += [str(got.headers).encode(), got.content]
                for wrong in (
                    {"x-api-key": planted.key("wrong")},
                    {"authorization": planted.CLIENT},
                ):
                    got = await http.get(f"/v1/models?key={planted.key('query')}", headers=wrong)
                    heard.append(got.content)
                config["auth"]["api_keys"] = {planted.CLIENT: 1}
                config["backends"]["mine"]["api_key"] = {FILE[0]: 1}
                file.write_text(json.dumps(config))
                told = await http.post("/api/v1/config/reload", headers=admin)
                assert told.status_code == 422
                heard.append(told.content)
            assert proxy.process is not None and proxy.process.stderr is not None
            proxy.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(proxy.process.wait(), 15)
            assert proxy.process.stdout is not None
            heard += [await proxy.process.stdout.read(), await proxy.process.stderr.read()]
        assert len(upstream.requests) > 20 * rounds
    said = b"\n".join(heard)
    planted.said("no_key_shows.txt", said)
    assert b"***" in said, "the providers' own words came through, without the key"
    found = list(planted.found())
    assert not found, found


@pytest.mark.parametrize(
    "text",
    [
        "backends:\n  openai: {api_key: 'KEY with a blank'}\n",
        "backends:\n  openai: {api_key: {a: KEY}}\n",
        "backends:\n  openai: KEY\n",
        "backends:\n  openai: {headers: {authorization: Bearer KEY}, api_key: k}\n",
        "backends:\n  openai: {api_url: 'http://u:KEY@h/v1', api_key: k}\n",
        "backends:\n  openai: {api_url: 'http://h/v1?key=KEY', api_key: k}\n",
        "auth: {api_keys: {KEY: 1}}\n",
        "auth: {api_keys: KEY, admin_keys: KEY}\n",
        "plugins: {tenants: [KEY]}\n",
        "backends:\n  openai: {api_kye: KEY}\n",
        "api_key: KEY\n",
    ],
)
def test_no_message_about_a_configuration_holds_a_key(text: str, tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(text.replace("KEY", planted.key("broken")))
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        assert main(["check-config", "--config", str(file)]) == 2
    assert str(file) in out.getvalue()
    planted.said("check-config.txt", out.getvalue().encode())
    assert not list(planted.found())


def test_no_explanation_holds_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "proxy.yaml"
    config = {
        "auth": {"api_keys": [planted.CLIENT], "admin_keys": [planted.ADMIN]},
        "plugins": {"tenants": {planted.CLIENT: {"roles": ["admin"]}}},
        "backends": {"openai": {"api_key": FILE}},
    }
    file.write_text(json.dumps(config))
    monkeypatch.setenv("ANTHROPIC_API_KEY", ENV[0])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["config", "--explain", "--config", str(file)]) == 0
    assert "backend openai" in out.getvalue()
    planted.said("explain.txt", out.getvalue().encode())
    assert not list(planted.found())
