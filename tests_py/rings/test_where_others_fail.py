"""What running plugins of this kind over HTTP showed to go wrong: here it works, point by point."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer
from e2e.conftest import PYTHON_PROGRAM, program
from e2e.upstream import Received, Reply, Upstream, Wait, answering
from llm_proxy.assembly import make_server
from llm_proxy.rings.builtin.default import smart_router
from llm_proxy.server import Server
from rings.test_all_at_once import CHAT, CONFIG, ask, until
from rings.test_streams import FRONTENDS, serving, told

CHAT_PATH = "/v1/chat/completions"


def row(name: str, **config: Any) -> dict[str, Any]:
    return {"name": name, "config": config}


def stats_of(server: Server, name: str) -> Any:
    assert server.plugins is not None
    return next(e.instance for e in server.plugins.generation.entries if e.name == name)


# ---- 1: what does not work there


async def test_a_cache_hit_does_not_ask_the_upstream_again(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, plugins=["stock"]) as (_, http),
    ):
        replies = []
        for _ in range(3):
            replies.append(await http.post(CHAT_PATH, json=CHAT))
            await asyncio.sleep(0.05)  # the answer is kept in the background
        assert len(upstream.requests) == 1
    assert [r.headers.get("x-llmproxy-cache") for r in replies] == [None, "HIT", "HIT"]
    assert len({r.json()["choices"][0]["message"]["content"] for r in replies}) == 1


async def test_the_router_learns_which_backend_is_fast_and_goes_there(tmp_path: Path) -> None:
    known = smart_router._endpoint_stats
    known.clear()
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": [row("Smart Router")]}))
    hold = asyncio.Event()

    def slow(request: Received) -> Reply:
        reply = answering(Answer("slow"))(request)
        asyncio.get_running_loop().call_later(0.15, hold.set)
        return Reply(reply.status, reply.headers, (Wait(hold), *reply.steps), streamed=True)

    def learnt() -> float:
        return sum(row["count"] for row in known.values())

    async with Upstream(slow) as one, Upstream(answering(Answer("fast"))) as other:
        http = {"type": "openai", "kind": "http", "format": "openai-chat", "keys": ["k"]}
        backends = [
            {"name": name, "base_url": at.url, "models": ["m"], **http}
            for name, at in (("one", one), ("other", other))
        ]
        config = {**CONFIG, "backends": backends, "default_backend": "one"}
        async with make_server(config, plugins_dir=tmp_path) as server:
            for count in range(12):
                hold.clear()
                assert (await ask(server, CHAT_PATH, CHAT)).status_code == 200
                await until(lambda n=count + 1: learnt() == n)
        assert len(other.requests) >= 9
        assert 1 <= len(one.requests) <= 3
    assert known["one"]["latency_ms"] > known["other"]["latency_ms"]
    known.clear()


async def test_the_ab_router_splits_traffic_and_tells_no_provider(tmp_path: Path) -> None:
    config = {"control_model": "m", "variant_model": "v", "split_pct": 0.5, "sticky": False}
    rows = [row("A/B Model Router", **config)]
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, rows=rows) as (_, http),
    ):
        for _ in range(40):
            assert (await http.post(CHAT_PATH, json=CHAT)).status_code == 200
        models = [request.json["model"] for request in upstream.requests]
        assert not any(b"_ab_meta" in request.body for request in upstream.requests)
    assert 5 < models.count("v") < 35


async def test_shadow_traffic_reaches_the_provider_and_no_client(tmp_path: Path) -> None:
    rows = [row("Shadow Traffic", shadow_model="shadow", sample_rate=1)]
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, rows=rows) as (server, http),
    ):
        assert (await http.post(CHAT_PATH, json=CHAT)).status_code == 200
        await until(lambda: stats_of(server, "Shadow Traffic").get_stats()["sent"] == 1)
        assert [request.json["model"] for request in upstream.requests] == ["m", "shadow"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_sla_guard_sees_real_times(tmp_path: Path, stream: bool) -> None:
    def late(request: Received) -> Reply:
        hold = asyncio.Event()
        asyncio.get_running_loop().call_later(0.06, hold.set)
        reply = answering(Answer("at last"))(request)
        return Reply(reply.status, reply.headers, (Wait(hold), *reply.steps), streamed=True)

    rows = [row("Latency SLA Guard", total_p95_ms=20, ttft_p95_ms=20)]
    async with (
        Upstream(late) as upstream,
        serving(upstream, "openai", tmp_path, rows=rows) as (server, http),
    ):
        await http.post(CHAT_PATH, json={**CHAT, "stream": stream})
        guard = stats_of(server, "Latency SLA Guard")
        await until(lambda: guard.get_sla_stats()["total_requests"] == 1)
        stats = guard.get_sla_stats()
    assert stats["sla_warnings"] == 1
    assert stats["total_percentiles"]["p50"] >= 60
    assert not stream or stats["ttft_percentiles"]["p50"] >= 60


SCHEMA = {"type": "object", "required": ["name"]}


@pytest.mark.parametrize("where", ["header", "body"])
@pytest.mark.parametrize(("said", "status"), [('{"name":1}', 200), ('{"age":1}', 422)])
async def test_the_expected_schema_arrives_and_goes_no_further(
    tmp_path: Path, where: str, said: str, status: int
) -> None:
    rows = [row("Schema Enforcer", action="block")]
    async with (
        Upstream(answering(Answer(said))) as upstream,
        serving(upstream, "openai", tmp_path, rows=rows) as (_, http),
    ):
        body = {**CHAT, "_expected_schema": SCHEMA} if where == "body" else CHAT
        headers = {"x-expected-schema": json.dumps(SCHEMA)} if where == "header" else {}
        reply = await http.post(CHAT_PATH, json=body, headers=headers)
        sent = upstream.last
    assert reply.status_code == status, reply.text
    assert b"_expected_schema" not in sent.body
    assert "x-expected-schema" not in sent.headers


# ---- 2: the harder cases (guests: tests_py/wasm; streams and PII: test_streams, test_privacy;
# all at once: test_all_at_once; swaps: test_swap, test_swap_under_load)


async def test_every_plugin_at_once_serves_a_talk_with_tools_whole_and_streamed(
    tmp_path: Path,
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    talk = {
        "model": "gpt-4o",
        "tools": [tool],
        "max_completion_tokens": 50,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "mail ann@example.org"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "done\n" * 3},
        ],
    }
    async with (
        Upstream(answering(Answer("I have sent the mail, as you asked."))) as upstream,
        serving(upstream, "openai", tmp_path, plugins=["all"]) as (server, http),
    ):
        for stream in (False, True):
            reply = await http.post(CHAT_PATH, json={**talk, "stream": stream})
            assert reply.status_code == 200, reply.text
        assert server.plugins is not None
        counted = server.plugins.get_plugin_stats
        await until(lambda: counted("Token Counter")["invocations"] == 2)
        bad = {n: s for n, s in counted().items() if s["errors"] or s["blocks"]}
        assert bad == {}
        sent = upstream.requests[0].json
    assert sent["messages"][1] == talk["messages"][1]  # type: ignore[index]
    assert "ann@example.org" not in json.dumps(sent)


async def test_a_long_repetitive_log_is_shortened_and_not_refused_as_flooding(
    tmp_path: Path,
) -> None:
    log = "ERROR: connection refused by 10.0.0.7\n" * 3000
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, plugins=["stock", "L0 Compressor"]) as (_, http),
    ):
        body = {**CHAT, "messages": [{"role": "user", "content": log}]}
        reply = await http.post(CHAT_PATH, json=body)
        assert reply.status_code == 200, reply.text
        assert len(upstream.last.body) < len(log) / 10
        assert b"connection refused" in upstream.last.body


async def test_sanitizer_and_token_counter_work_in_streams(tmp_path: Path) -> None:
    async with (
        Upstream(answering(Answer("plain text"))) as upstream,
        serving(upstream, "openai", tmp_path, plugins=["Token Counter"]) as (server, http),
    ):
        for frontend in FRONTENDS:
            assert (await told(http, frontend))[0] == 200
        counter = stats_of(server, "Token Counter")
        await until(lambda: counter.get_stats()["requests_counted"] == len(FRONTENDS))
        assert counter.get_stats()["total_output_tokens"] == 7 * len(FRONTENDS)


# ---- 3: first requests


async def test_the_first_requests_of_a_fresh_proxy_lose_nothing_to_small_budgets(
    tmp_path: Path,
) -> None:
    state = {"state_file": str(tmp_path / "state.db")}
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, plugins=["all"], plugin_options=state) as (s, http),
    ):
        sent = [
            http.post(CHAT_PATH, json=CHAT, headers={"x-session-id": f"s{n}"}) for n in range(10)
        ]
        replies = await asyncio.gather(*sent)
        assert {reply.status_code for reply in replies} == {200}
        assert s.plugins is not None
        late = {n: r for n, r in s.plugins.get_plugin_stats().items() if r["timeouts"]}
    assert late == {}


# ---- 5: the user's folder


def test_the_users_plugins_folder_and_ours_are_one_package(tmp_path: Path) -> None:
    (tmp_path / "plugins" / "mine").mkdir(parents=True)
    (tmp_path / "plugins" / "mine" / "own.py").write_text("HERE = True\n")
    code = (
        "from plugins.mine.own import HERE\n"
        "from plugins.default.smart_router import update_endpoint_stats\n"
        "from llm_proxy.rings.builtin.default import smart_router\n"
        "assert HERE and update_endpoint_stats is smart_router.update_endpoint_stats\n"
    )
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)


# ---- 6: plugins that cannot be loaded at start

BAD_ROWS = [
    {"name": "Guardian", "hook": "ingress", "entrypoint": "nowhere:run", "required": True},
    {"name": "Lost", "hook": "pre_flight", "entrypoint": "nowhere:run"},
]


def test_a_required_plugin_that_is_missing_ends_the_program_with_its_name_and_reason(
    tmp_path: Path,
) -> None:
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": BAD_ROWS}))
    flags = ["--port", "0", "--plugins-dir", str(tmp_path), "--default-backend", "echo"]
    environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        [*PYTHON_PROGRAM, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **environment},
        check=False,
    )
    assert done.returncode not in (0, None)
    assert "Guardian" in done.stderr and "no file" in done.stderr
    assert "serves on" not in done.stdout


async def test_any_other_missing_plugin_can_be_skipped_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": BAD_ROWS[1:]}))
    async with (
        program(
            *("--plugins-dir", str(tmp_path), "--plugins-on-load-error", "skip"), folder=tmp_path
        ) as proxy,
        httpx.AsyncClient(trust_env=False, timeout=20) as http,
    ):
        reply = await http.post(f"{proxy.url}{CHAT_PATH}", json=CHAT)
        listed = await http.get(f"{proxy.url}/api/v1/plugins/Lost")
    assert reply.status_code == 200
    assert "no file" in listed.json()["problem"]


# ---- 7: names

NAMES = {
    "core.plugin_sdk": "PluginHook PluginAction PluginResponseError PluginResponse BasePlugin "
    "logger",
    "core.plugin_engine": "PluginHook PluginState PluginContext PluginManager PluginSecurityError "
    "ast_scan compute_plugin_sha256 DEFAULT_TIMEOUT_MS FAIL_OPEN FAIL_CLOSED FAIL_CLOSED_RINGS "
    "FORBIDDEN_AST_NODES FORBIDDEN_MODULES ALLOWED_MODULES BasePlugin PluginResponse "
    "PluginResponseError WasmRunner",
    "core.wasm_runner": "WasmRunner _extism_available _check_extism logger",
    "core.tokenizer": "count_messages_tokens count_tokens is_tiktoken_available",
    "core.pricing": "MODEL_PRICING set_config_overrides set_model_pricing baseline_premium_pricing "
    "estimate_baseline_savings _config_overrides _SORTED_PREFIXES _DEFAULT_PRICING get_pricing "
    "estimate_cost estimate_cost_pre_flight",
    "core.stream_faker": "fake_stream",
    "core.cache": "NegativeCache",
    "plugins.default.smart_router": "update_endpoint_stats get_endpoint_stats _compute_score "
    "sync_endpoint_stats_from_redis _endpoint_stats _stats_lock _rr_index select_endpoint",
    "plugins.default.neural_router": "select_endpoint update_endpoint_stats",
    "plugins.installed.l0_compressor": "_compress_text _looks_like_logs",
    "plugins.installed.ai_dependency_guard": "_extract_packages _cache_put _CACHE _CACHE_MAX "
    "_registry_url _pep503 _REQ_RE _registry_exists",
}


@pytest.mark.parametrize("module", NAMES)
def test_every_name_that_plugins_and_their_tests_use_is_there(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


def test_there_is_one_hook_enum() -> None:
    sdk, engine = (importlib.import_module(f"core.plugin_{name}") for name in ("sdk", "engine"))
    assert sdk.PluginHook is engine.PluginHook
