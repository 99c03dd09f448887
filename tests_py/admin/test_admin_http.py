"""The admin API over real HTTP: who may ask, what is answered, what stays as it was."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from llm_proxy.assembly import make_server
from llm_proxy.server import Server
from repo import ROOT
from rings.test_all_at_once import CHAT, CONFIG

MAX = "Max Tokens Enforcer"
AB = "A/B Model Router"
KEYS = {**CONFIG, "auth": {"api_keys": ["client"], "admin_keys": ["boss", "second-boss"]}}


def http_of(server: Server, **headers: str) -> httpx.AsyncClient:
    base = f"http://127.0.0.1:{server.port}"
    return httpx.AsyncClient(trust_env=False, base_url=base, timeout=20, headers=headers)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


READ = [("GET", "/api/v1/plugins"), ("GET", "/api/v1/plugins/stats"), ("GET", "/metrics")]
CHANGE = [
    ("POST", "/api/v1/plugins/toggle"),
    ("POST", "/api/v1/plugins/install"),
    ("POST", "/api/v1/plugins/hot-swap"),
    ("POST", "/api/v1/plugins/rollback"),
    ("DELETE", "/api/v1/plugins/x"),
    ("GET", f"/api/v1/plugins/{quote(MAX)}/config"),
    ("PUT", f"/api/v1/plugins/{quote(MAX)}/config"),
    ("POST", f"/api/v1/plugins/{quote(MAX)}/config/validate"),
    ("GET", "/api/v1/openapi.json"),
]


async def test_only_an_admins_key_changes_anything_and_a_clients_only_reads() -> None:
    async with make_server(KEYS, plugins=[MAX]) as server, http_of(server) as http:
        for method, path in READ + CHANGE:
            for key in ("", "wrong", "bos", "bossy"):
                refused = await http.request(method, path, headers=bearer(key))
                assert refused.status_code == 401, (method, path, key)
                assert isinstance(refused.json()["detail"], str)
        for method, path in READ:
            for key in ("client", "boss", "second-boss"):
                read = await http.request(method, path, headers=bearer(key))
                assert read.status_code == 200, (path, key)
        for method, path in CHANGE:
            refused = await http.request(method, path, headers=bearer("client"))
            assert refused.status_code == 403, (method, path)
            assert "LLM_PROXY_ADMIN_KEYS" in refused.json()["detail"]
            taken = await http.request(method, path, headers=bearer("boss"), content=b"{}")
            assert taken.status_code in (200, 400, 404, 409), (method, path, taken.text)
        as_client = await http.post("/v1/chat/completions", json=CHAT, headers=bearer("boss"))
        assert as_client.status_code == 401


async def test_without_admin_keys_nobody_changes_a_proxy_that_others_use() -> None:
    config = {**CONFIG, "auth": {"api_keys": ["client"]}}
    async with make_server(config, plugins=[MAX]) as server, http_of(server) as http:
        for key, status in (("", 401), ("client", 403)):
            answer = await http.post("/api/v1/plugins/hot-swap", headers=bearer(key))
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:1"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"host": "evil.example"}, 403),  # a name made to point here
        ({"origin": "https://evil.example"}, 403),
    ],
)
async def test_the_only_user_of_a_machine_needs_no_key_but_a_web_page_is_not_him(
    headers: dict[str, str], status: int
) -> None:
    async with make_server(CONFIG, plugins=[MAX]) as server, http_of(server) as http:
        answer = await http.post("/api/v1/plugins/hot-swap", headers=headers)
        assert answer.status_code == status


async def test_a_clients_key_cannot_be_an_admins() -> None:
    with pytest.raises(OSError, match="admin_keys"):
        async with make_server({**CONFIG, "auth": {"api_keys": ["same"], "admin_keys": ["same"]}}):
            pass


async def test_each_route_answers_as_the_clients_expect(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\n")
    row = {"name": "a/b", "hook": "pre_flight", "entrypoint": "bad:run", "allow_inprocess": True}
    name = quote(MAX)
    async with (
        make_server(CONFIG, plugins_dir=tmp_path, plugins=[MAX]) as server,
        http_of(server) as h,
    ):

        async def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            answer = await h.request(method, f"/api/v1/plugins{path}", json=body)
            assert answer.headers["content-type"] == "application/json"
            return answer.status_code, answer.json()

        status, listed = await ask("GET", "")
        assert status == 200 and len(listed["plugins"]) == 30
        assert await ask("POST", "/rollback") == (409, {"detail": "there is no earlier generation"})
        toggled = await ask("POST", "/toggle", {"name": AB, "enabled": True})
        assert toggled == (200, {"name": AB, "enabled": True})
        assert (await ask("GET", f"/{quote(AB, safe='')}"))[1]["loaded"] is True
        assert (await ask("GET", f"/{quote(AB, safe='/')}"))[1]["name"] == AB
        assert (await ask("POST", "/toggle", {"name": "nobody", "enabled": True}))[0] == 404
        assert (await ask("POST", "/toggle", {"name": MAX}))[0] == 400
        assert (await ask("POST", "/toggle", ["no", "object"]))[0] == 400
        assert (await ask("POST", "/install", {"name": "x"}))[0] == 400
        assert (await ask("POST", "/install", row))[0] == 422
        (tmp_path / "bad.py").write_text("async def run(ctx):\n    pass\n")
        assert await ask("POST", "/install", row) == (200, {"status": "installed", "name": "a/b"})
        removed = await ask("DELETE", "/a%2Fb")
        assert removed == (200, {"status": "uninstalled", "name": "a/b"})
        assert (await ask("DELETE", "/a%2Fb"))[0] == 404
        status, config = await ask("GET", f"/{name}/config")
        assert status == 200 and config["config"]["ceiling"] == 4096
        assert {row["key"] for row in config["ui_schema"]} >= {"ceiling"}
        assert (await ask("POST", f"/{name}/config/validate", {"ceiling": 0}))[0] == 422
        assert (await ask("POST", f"/{name}/config/validate", {"ceiling": 7}))[0] == 200
        assert (await ask("PUT", f"/{name}/config", {"ceiling": 0}))[0] == 422
        assert (await ask("GET", f"/{name}/config"))[1]["config"]["ceiling"] == 4096
        assert (await ask("PUT", f"/{name}/config", {"ceiling": 7}))[0] == 200
        assert (await ask("GET", f"/{name}/config"))[1]["config"]["ceiling"] == 7
        limited = await h.post("/v1/chat/completions", json={**CHAT, "max_tokens": 99})
        assert limited.status_code == 200
        assert (await ask("POST", "/hot-swap"))[1]["status"] == "success"
        assert (await ask("POST", "/rollback"))[1] == {"status": "rolled_back"}
        status, stats = await ask("GET", "/stats")
        assert stats[MAX]["invocations"] == 1
        assert (await ask("GET", "/stats/no"))[0] == 404
        assert (await h.request("PATCH", "/api/v1/plugins")).status_code == 405
        assert (await h.get("/api/v1/nothing")).status_code == 404
        assert (await h.request("POST", "/api/v1/plugins/toggle", content=b"{]")).status_code == 400
        paths = (await h.get("/api/v1/openapi.json")).json()["paths"]
        assert "/api/v1/plugins/hot-swap" in paths


async def test_a_proxy_without_plugins_lists_them_and_switches_one_on() -> None:
    body = {**CHAT, "max_tokens": 99999}
    async with make_server(CONFIG) as server, http_of(server) as http:
        assert server.plugins is None
        listed = (await http.get("/api/v1/plugins")).json()["plugins"]
        assert {row["problem"] for row in listed} == {"disabled"}
        await http.post("/v1/chat/completions", json=body)
        on = await http.post("/api/v1/plugins/toggle", json={"name": MAX, "enabled": True})
        assert on.json() == {"name": MAX, "enabled": True}
        await http.post("/v1/chat/completions", json=body)
        assert (await http.get("/api/v1/plugins/stats")).json()[MAX]["invocations"] == 1


async def test_prometheus_reads_every_plugin_whatever_its_name(tmp_path: Path) -> None:
    name = 'odd "name"\\with/slash'
    (tmp_path / "odd.py").write_text("async def run(ctx):\n    pass\n")
    row = {"name": name, "hook": "pre_flight", "entrypoint": "odd:run"}
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": [row]}))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server, http_of(server) as http:
        await http.post("/v1/chat/completions", json=CHAT)
        answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    label = 'plugin="odd \\"name\\"\\\\with/slash"'
    assert f"llmproxy_plugin_invocations_total{{{label}}} 1" in lines
    assert f"llmproxy_plugin_latency_seconds_count{{{label}}} 1" in lines
    assert "# TYPE llmproxy_requests_total counter" in lines
    assert "llmproxy_requests_active 1" in lines


async def test_a_change_that_has_begun_is_finished_when_its_client_leaves(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio\n"
        "from core.plugin_sdk import BasePlugin, PluginResponse\n"
        "class Slow(BasePlugin):\n"
        "    async def on_load(self):\n"
        "        await asyncio.sleep(0.05)\n"
    )
    row = {"name": "slow", "hook": "pre_flight", "entrypoint": "slow:Slow", "allow_inprocess": True}
    async with (
        make_server(CONFIG, plugins_dir=tmp_path, plugins=[MAX]) as server,
        http_of(server) as h,
    ):
        await h.get("/api/v1/plugins")  # the application is there
        asked = asyncio.create_task(h.post("/api/v1/plugins/install", json=row))
        await asyncio.sleep(0.02)
        asked.cancel()
        for _ in range(200):
            await asyncio.sleep(0.01)
            assert server.plugins is not None
            meta = server.plugins.get_plugin("slow")
            if meta is not None:
                break
        assert meta is not None and meta["loaded"]


async def test_the_page_lists_every_route_and_who_may_use_it() -> None:
    page = (ROOT / "docs" / "admin_api.md").read_text()
    rows = re.findall(r"^\| ([A-Z]+) \| `(/\S+)` \| (\w+) \|", page, re.M)
    async with make_server(KEYS, plugins=[MAX]) as server, http_of(server) as http:
        schema = await http.get("/api/v1/openapi.json", headers=bearer("boss"))
        served = {
            (method.upper(), path.replace(":path", ""))
            for path, methods in schema.json()["paths"].items()
            for method in methods
        }
        assert {(method, path) for method, path, _ in rows} == served
        for method, path, who in rows:
            asked = path.replace("{name}", quote(MAX))
            answer = await http.request(method, asked, headers=bearer("client"))
            assert answer.status_code == (403 if who == "admin" else 200), path


async def test_the_timeline_tells_what_each_plugin_took_in_the_last_requests() -> None:
    async with make_server(CONFIG, plugins=["stock"]) as server, http_of(server) as http:
        for stream in (False, True):
            said = [{"role": "user", "content": f"Streamed: {stream}"}]  # not from the cache
            body = {"model": "m", "messages": said, "stream": stream}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        timeline = (await http.get("/api/v1/metrics/ring-timeline")).json()
        latency = (await http.get("/api/v1/metrics/latency")).json()
    assert timeline["count"] == 2
    streamed, whole = timeline["traces"]
    assert whole["req_id"] != streamed["req_id"]
    assert streamed["timestamp"] >= whole["timestamp"] > 1.7e9
    for trace in (whole, streamed):
        assert list(trace["rings"]) == [
            "ingress", "pre_flight", "routing", "post_flight", "background",
        ]  # fmt: skip
        for row in trace["rings"].values():
            assert sum(step["ms"] for step in row["plugins"]) == pytest.approx(row["duration_ms"])
        names = [step["name"] for step in trace["rings"]["pre_flight"]["plugins"]]
        assert names.index("Smart Budget Guard") < names.index("PII Neural Masker")
        assert trace["total_ms"] >= trace["upstream_ms"] >= 0
    assert "ttft_ms" in streamed and "ttft_ms" not in whole
    assert latency["rings"]["pre_flight"]["count"] == 2
    assert latency["rings"]["pre_flight"]["p99"] >= latency["rings"]["pre_flight"]["p50"] > 0
    assert latency["plugins"]["PII Neural Masker"]["invocations"] == 2
    assert latency["ttft"]["samples"] == 1


async def test_the_timeline_keeps_the_last_hundred_and_shows_twenty() -> None:
    async with make_server(CONFIG, plugins=[MAX]) as server, http_of(server) as http:
        for _ in range(103):
            await http.post("/v1/chat/completions", json=CHAT)
        assert server.plugins is not None
        assert len(server.plugins.get_ring_traces(1000)) == 100
        assert (await http.get("/api/v1/metrics/ring-timeline")).json()["count"] == 20
        await http.post("/api/v1/plugins/hot-swap")  # its health check is no traffic
        assert len(server.plugins.get_ring_traces(1000)) == 100
        latency = (await http.get("/api/v1/metrics/latency")).json()
        assert latency["rings"]["pre_flight"]["count"] == 103


async def test_changes_without_a_directory_add_up() -> None:
    async with make_server(CONFIG) as server, http_of(server) as http:
        for name in (MAX, AB):
            await http.post("/api/v1/plugins/toggle", json={"name": name, "enabled": True})
        listed = (await http.get("/api/v1/plugins")).json()["plugins"]
        assert {row["name"] for row in listed if row["loaded"]} == {MAX, AB}
