"""Our example packages as users have them: wheels, in an environment of their own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from backends.packages import EXAMPLES, install
from backends.test_base_classes import (
    CHAT,
    CHAT_STREAM,
    GEMINI,
    GEMINI_STREAM,
    MESSAGES,
    MESSAGES_STREAM,
)
from backends.test_packages import BROKEN, provider
from e2e.conftest import Proxy, program
from e2e.test_python_backend import FRONTENDS
from llm_proxy.testing import Received, Reply, ScriptedUpstream
from repo import ROOT

PACKAGES = (
    "httpx_backend",
    "base_class_backends",
    "oauth_backend",
    "native_backend",
    "parrot_backend",
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the packages' wheels, good ones and broken ones.

    The proxy itself and what it depends on are lent from here: nothing is downloaded.
    """
    folder = tmp_path_factory.mktemp("fresh")
    wheels = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
    sources = [shutil.copytree(EXAMPLES / name, folder / name) for name in PACKAGES]
    subprocess.run([*wheels, folder / "wheels", *sources], check=True)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    interpreter = folder / "venv" / "bin" / "python"
    site = next(folder.glob("venv/lib/python*/site-packages"))
    lent = [ROOT / "python", ROOT / "python" / "compat", sysconfig.get_paths()["purelib"]]
    (site / "lent.pth").write_text("".join(f"{path}\n" for path in lent))
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-index", *(folder / "wheels").glob("*.whl")], check=True)
    for number, (how, (target, modules, _)) in enumerate(BROKEN.items()):
        name = f"broken_{number}"
        named = {name: modules["b"]} if modules else {}
        install(site, f"package-{number}", {how: target.replace("b:", f"{name}:")}, **named)
    taken = {"openai": "greedy:provider"}
    install(site, "greedy", taken, greedy=provider())
    return interpreter


CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"said":1}'}}


def chat_call() -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    return {**CHAT, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def chat_call_stream() -> list[str]:
    pieces: list[dict[str, Any]] = [
        {"delta": {"role": "assistant", "tool_calls": [{"index": 0, **CALL}]}},
        {"delta": {}, "finish_reason": "tool_calls"},
    ]
    chunks = [{"id": "c", "model": "m", "choices": [{"index": 0, **piece}]} for piece in pieces]
    return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), "data: [DONE]\n\n"]


MESSAGES_CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"said": 1}}


def messages_call_stream() -> list[str]:
    start = {**MESSAGES, "content": [], "stop_reason": None}
    block = {**MESSAGES_CALL, "input": {}}
    arguments = {"type": "input_json_delta", "partial_json": '{"said":1}'}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": arguments},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


def gemini_call() -> dict[str, Any]:
    part = {"functionCall": {"name": "look", "args": {"said": 1}}}
    candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
    return {"candidates": [candidate], "usageMetadata": GEMINI["usageMetadata"]}


class Provider:
    """Every provider at once, by path; its token is good for one request at a time."""

    def __init__(self) -> None:
        self.tokens = 0

    def __call__(self, request: Received) -> Reply:
        if request.target == "/token":
            assert request.body == b"grant_type=refresh_token&refresh_token=renew-me"
            self.tokens += 1
            return Reply({"access_token": f"token-{self.tokens}", "expires_in": 3600})
        calls = b"use the tool" in request.body
        if ":generateContent" in request.target:
            return Reply(gemini_call() if calls else GEMINI)
        if ":streamGenerateContent" in request.target:
            return Reply([f"data: {json.dumps(gemini_call())}\n\n"] if calls else [*GEMINI_STREAM])
        stream = request.json().get("stream")
        if request.target.endswith("/messages"):
            whole = {**MESSAGES, "content": [MESSAGES_CALL], "stop_reason": "tool_use"}
            if stream:
                return Reply([*(messages_call_stream() if calls else MESSAGES_STREAM)])
            return Reply(whole if calls else MESSAGES)
        if stream:
            return Reply([*(chat_call_stream() if calls else CHAT_STREAM)])
        return Reply(chat_call() if calls else CHAT)


BACKENDS = (
    "my-provider",
    "tuned-openai",
    "tuned-anthropic",
    "tuned-gemini",
    "renewed",
    "native",
)
RENEWING = ("renewed", "native")


@pytest.fixture(scope="module")
def upstream_script() -> Provider:
    return Provider()


@pytest.fixture
async def upstream(upstream_script: Provider) -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream(upstream_script) as running:
        yield running


@pytest.fixture
async def proxy(python: Path, upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Proxy]:
    backends: dict[str, Any] = {
        name: {"api_key": "key", "api_url": f"{upstream.url}/v1"} for name in BACKENDS
    }
    for name in RENEWING:
        backends[name]["extra"] = {
            "token_url": f"{upstream.url}/token",
            "refresh_token": "renew-me",
        }
    file = tmp_path / "proxy.yaml"
    file.write_text(yaml.safe_dump({"default_backend": "my-provider", "backends": backends}))
    command = (str(python), "-m", "cli")
    async with program("--config", str(file), folder=tmp_path, command=command) as running:
        yield running


async def test_every_package_serves_every_frontend_whole_and_streamed_with_tools(
    proxy: Proxy, upstream: ScriptedUpstream
) -> None:
    wrong = []
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:
        for backend in BACKENDS:
            for name, (make, call, _) in FRONTENDS.items():
                for stream in (False, True):
                    for said, expected in (("Hello", "gr"), ("use the tool", call)):
                        path, body = make(said, stream)
                        model = f"{backend}:m1"
                        path = path.replace("models/parrot", f"models/{model}")
                        reply = await client.post(path, json={"model": model, **body})
                        if reply.status_code != 200 or expected not in reply.text:
                            wrong.append((backend, name, stream, said, reply.text[:300]))
    assert wrong == []
    turns = (request for request in upstream.requests if request.method == "POST")
    tuned = [request for request in turns if "x-tuned" in request.headers]
    assert len(tuned) == 3 * 4 * 2 * 2
    limits = {
        body.get("max_tokens") or body["generationConfig"]["maxOutputTokens"]
        for body in (request.json() for request in tuned)
    }
    assert limits <= {9, 777}


@pytest.mark.parametrize("backend", RENEWING)
async def test_a_token_is_renewed_once_for_everyone(
    proxy: Proxy, upstream: ScriptedUpstream, upstream_script: Provider, backend: str
) -> None:
    before = upstream_script.tokens
    async with httpx.AsyncClient(base_url=proxy.url, timeout=30) as client:
        body = {"model": f"{backend}:m1", "messages": [{"role": "user", "content": "Hello"}]}
        asked = [client.post("/v1/chat/completions", json=body) for _ in range(8)]
        replies = await asyncio.gather(*asked)
    assert [reply.status_code for reply in replies] == [200] * 8
    assert upstream_script.tokens == before + 1
    token = f"Bearer token-{upstream_script.tokens}"
    chats = [
        request
        for request in upstream.requests
        if request.method == "POST" and request.target != "/token"
    ]
    assert {request.headers["authorization"] for request in chats} == {token}


async def test_beside_every_kind_of_broken_package_it_starts_and_says_what_to_do(
    python: Path, tmp_path: Path
) -> None:
    command = (str(python), "-m", "cli")
    async with (
        program(folder=tmp_path, command=command) as running,
        httpx.AsyncClient(base_url=running.url) as client,
    ):
        listed = (await client.get("/v1/models")).json()
    assert listed["object"] == "list"


def said_by(python: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(python), "-m", "cli", "plugins", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
        cwd=python.parent,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_installed_and_what_is_left_out_can_be_listed(python: Path) -> None:
    status, said = said_by(python)
    assert status == 0
    assert "  my-provider: llm-proxy-httpx-backend 0.1.0, core >= 0.1.0\n" in said
    for how, (_, _, reason) in BROKEN.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"  {how}: left out")]
        assert reason in line


@pytest.mark.parametrize("name", [*BACKENDS, "parrot"])
def test_a_good_backend_passes_its_check(python: Path, name: str) -> None:
    status, said = said_by(python, "check", name)
    assert (status, "good" in said) == (0, True)


def test_a_check_says_why_a_package_is_left_out_and_names_the_nearest(python: Path) -> None:
    status, said = said_by(python, "check", "wrong version")
    assert (status, "requires core>=99.0" in said) == (1, True)
    status, said = said_by(python, "check", "my-providr")
    assert (status, "my-provider" in said) == (2, True)


def test_the_tests_of_the_template_pass(python: Path) -> None:
    tests = EXAMPLES / "httpx_backend" / "tests"
    options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(tests)]
    done = subprocess.run(
        [str(python), "-m", "pytest", *options, str(tests)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stdout[-3000:]
