"""The base class of plugins that reach Code Assist with a Google login."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.test_base_classes import GEMINI, GEMINI_STREAM
from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.testing import BackendProbe
from src.connectors.gemini_base.connector import GeminiOAuthBaseConnector
from src.connectors.gemini_base.credential_providers import (
    AntigravitySQLiteCredentialProvider,
    FileCredentialProvider,
)
from src.connectors.gemini_base.response_processors import XmlToolCallPostProcessor
from src.connectors.utils.gemini_request_counter import DailyRequestCounter
from src.core.common.exceptions import ConfigurationError
from src.core.config.app_config import AppConfig


class Login(GeminiOAuthBaseConnector):
    async def _discover_project_id(self, auth_session: Any) -> str:
        project: str = await self._project_discovery.discover(
            auth_session, self._oauth_credentials, self.gemini_api_base_url, self._project_id
        )
        return project


class Google:
    """Code Assist and the token endpoint in a transport. Accepts only `good` as token."""

    def __init__(self, good: str) -> None:
        self.good = good
        self.calls: list[str] = []
        self.bodies: list[Any] = []
        self.held = asyncio.Event()
        self.held.set()
        self.asked_for_token = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        call = request.url.path.rpartition(":")[2].rpartition("/")[2]
        self.calls.append(call)
        if call == "token":
            self.asked_for_token.set()
            await self.held.wait()
            return httpx.Response(200, json={"access_token": self.good, "expires_in": 3600})
        if request.headers["authorization"] != f"Bearer {self.good}":
            return httpx.Response(401, json={"error": {"message": "stale", "code": 401}})
        if call == "loadCodeAssist":
            return httpx.Response(200, json={"cloudaicompanionProject": "proj-1"})
        self.bodies.append(json.loads(request.content))
        if call == "generateContent":
            return httpx.Response(200, json={"response": GEMINI})
        parts = [json.loads(frame.removeprefix("data:")) for frame in GEMINI_STREAM]
        frames = [f"data: {json.dumps({'response': part})}\n\n" for part in parts]
        kind = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers=kind, content="".join(frames).encode())


def login_file(folder: Path, token: str, seconds: float) -> Path:
    path = folder / "oauth_creds.json"
    expiry = int((time.time() + seconds) * 1000)
    login = {"access_token": token, "refresh_token": "r", "expiry_date": expiry, "kept": 1}
    path.write_text(json.dumps(login))
    return path


def probe(google: Google, path: Path) -> BackendProbe:
    config = {"backends": {"g": {"credentials_path": str(path), "api_url": "http://google"}}}
    client = build_backend_client(transport=httpx.MockTransport(google))
    return BackendProbe({"g": lambda _, app, service: Login(client, app, service, "g")}, config)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_login_answers_over_code_assist(tmp_path: Path, stream: bool) -> None:
    google = Google("t")
    async with probe(google, login_file(tmp_path, "t", 3600)) as asked:
        answer = await asked.ask("g", "Hello", stream=stream, model="gemini-2.5-pro")
    assert answer.failure is None
    assert answer.text == "grüße"
    assert google.calls[0] == "loadCodeAssist"
    (body,) = google.bodies
    assert (body["model"], body["project"]) == ("gemini-2.5-pro", "proj-1")
    assert body["request"]["contents"][0]["parts"] == [{"text": "Hello"}]


async def test_an_expired_login_is_renewed_once_for_all_who_wait_and_kept(tmp_path: Path) -> None:
    google = Google("new")
    google.held.clear()
    path = login_file(tmp_path, "old", -1)
    async with probe(google, path) as asked:
        turns = [asyncio.create_task(asked.ask("g", "Hello")) for _ in range(5)]
        await google.asked_for_token.wait()
        google.held.set()
        answers = await asyncio.gather(*turns)
    assert [answer.text for answer in answers] == ["grüße"] * 5
    assert google.calls.count("token") == 1
    kept = json.loads(path.read_text())
    assert (kept["access_token"], kept["refresh_token"], kept["kept"]) == ("new", "r", 1)
    assert kept["expiry_date"] > time.time() * 1000
    assert path.stat().st_mode & 0o077 == 0


async def test_a_refused_token_is_renewed_and_asked_again(tmp_path: Path) -> None:
    google = Google("new")
    async with probe(google, login_file(tmp_path, "revoked", 3600)) as asked:
        answer = await asked.ask("g", "Hello")
    assert answer.text == "grüße"
    assert google.calls.count("token") == 1


async def test_a_login_that_another_program_renewed_is_read_not_renewed(tmp_path: Path) -> None:
    google = Google("new")
    path = login_file(tmp_path, "old", -1)
    async with probe(google, path) as asked:
        await asked.bridge.backends.acquire("g")
        login_file(tmp_path, "new", 3600)
        answer = await asked.ask("g", "Hello")
    assert answer.text == "grüße"
    assert "token" not in google.calls


async def test_a_missing_login_says_so_and_works_once_it_is_there(tmp_path: Path) -> None:
    google = Google("t")
    async with probe(google, tmp_path / "oauth_creds.json") as asked:
        answer = await asked.ask("g", "Hello")
        assert answer.failure is not None
        assert (answer.failure["status"], google.calls) == (503, [])
        assert "no credentials" in answer.failure["message"]
        login_file(tmp_path, "t", 3600)
        assert (await asked.ask("g", "Hello")).text == "grüße"


async def test_antigravitys_login_is_read_from_its_database(tmp_path: Path) -> None:
    path = tmp_path / "state.vscdb"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE ItemTable (key TEXT, value BLOB)")
        row = ("antigravityAuthStatus", json.dumps({"apiKey": "token"}))
        database.execute("INSERT INTO ItemTable VALUES (?, ?)", row)
        database.commit()
    provider = AntigravitySQLiteCredentialProvider(path)
    login = await provider.load()
    assert login == {"access_token": "token"}
    assert provider.validate(login) == []
    assert provider.compute_fingerprint(login) == provider.get_fingerprint() != ""
    assert await AntigravitySQLiteCredentialProvider(tmp_path / "none").load() is None


async def test_a_login_path_may_be_a_folder_or_a_file(tmp_path: Path) -> None:
    path = login_file(tmp_path, "t", 1)
    for given in (tmp_path, path):
        assert FileCredentialProvider(given).get_path() == path


def test_calls_written_as_text_become_tool_calls() -> None:
    text = 'Look: <tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>'
    message = {"role": "assistant", "content": text}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    (choice,) = XmlToolCallPostProcessor().process(whole)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Look:"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "look", "arguments": '{"at": 1}'}


def test_requests_are_counted_by_pacific_days_over_restarts(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 2, 7, 59, tzinfo=timezone.utc)]
    path = tmp_path / "count.json"
    assert DailyRequestCounter(path, 10, lambda: now[0]).increment() == 1
    counter = DailyRequestCounter(path, 10, lambda: now[0])
    assert counter.increment() == 2
    now[0] = datetime(2026, 1, 2, 8, 1, tzinfo=timezone.utc)
    assert counter.increment() == 1


def test_a_personal_login_may_be_configured_once() -> None:
    AppConfig({"backends": {"a-oauth": {}, "b-oauth-plan": {}, "plain": {}, "plain.1": {}}})
    twice = [
        {"a-oauth.1": {}, "a-oauth.2": {}},
        {"a-oauth": {}, "mine": {"connector": "a-oauth"}},
        {"b_oauth_plan": {}, "b-oauth-plan.1": {}},
    ]
    for backends in twice:
        with pytest.raises(ConfigurationError) as told:
            AppConfig({"backends": backends})
        code = told.value.details["error_code"]
        assert code == "constrained_family_single_instance_violation"
        assert told.value.details["instances"] == list(backends)
