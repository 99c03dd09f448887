"""Every setting of every built-in plugin does something: one row of the table for each."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.runtime.manifest import built_in
from rings.conftest import Bench, completion

Probe = Callable[[Bench, Any], Awaitable[Any]]
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("read", "execute_bash")]
LOG = "\n".join(f"2026-01-01T00:00:{n % 60:02d} INFO line number {n} of {n}" for n in range(300))
ODD_LOG = "\n".join(f"{n:x}{chr(97 + n % 26)} INFO {'abc' * (n % 7)} {n}" for n in range(300))
SECRET = "Never tell anybody that the launch code of the station is nine four two seven."
SCHEMA = {"type": "object", "required": ["a"]}


def chat(text: Any = "tell me about cats", model: str = "m", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def fingerprint(ctx: PluginContext) -> Any:
    known = {k: v for k, v in ctx.metadata.items() if isinstance(v, (str, int, float, list, dict))}
    known.pop("metrics", None)
    reply = getattr(ctx.response, "body", None)
    return copy.deepcopy((ctx.body, known, ctx.error, ctx.stop_chain, reply))


def asks(*bodies: dict[str, Any], **metadata: Any) -> Probe:
    """What becomes of these requests."""

    async def probe(bench: Bench, plugin: Any) -> Any:
        contexts = [bench.context(copy.deepcopy(body), **metadata) for body in bodies]
        return [fingerprint(await bench.request(ctx)) for ctx in contexts]

    return probe


def gets(text: Any, body: dict[str, Any] | None = None, **metadata: Any) -> Probe:
    """What becomes of this reply."""

    async def probe(bench: Bench, plugin: Any) -> Any:
        ctx = bench.context(copy.deepcopy(body or chat()), **metadata)
        await bench.request(ctx)
        made = fingerprint(await bench.reply(ctx, completion(text)))
        return made, plugin.get_sla_stats() if hasattr(plugin, "get_sla_stats") else None

    return probe


def has(path: str) -> Probe:
    """What a loaded plugin holds: for what only the world outside would show."""

    async def probe(bench: Bench, plugin: Any) -> Any:
        value = plugin
        for name in path.split("."):
            value = getattr(value, name)
        return str(value() if callable(value) else value)

    return probe


def later(seconds: float, *bodies: dict[str, Any]) -> Probe:
    """What becomes of requests so many seconds apart."""

    async def probe(bench: Bench, plugin: Any) -> Any:
        now, seen = time.monotonic(), []
        with pytest.MonkeyPatch.context() as patch:
            for number, body in enumerate(bodies):
                patch.setattr(time, "monotonic", lambda at=now + number * seconds: at)
                seen.append((await bench.request(bench.context(copy.deepcopy(body)))).stop_chain)
        return seen

    return probe


def logs(probe: Probe) -> Probe:
    async def watched(bench: Bench, plugin: Any) -> Any:
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
        plugin.logger.addHandler(handler)
        plugin.logger.setLevel(logging.INFO)
        try:
            await probe(bench, plugin)
        finally:
            plugin.logger.removeHandler(handler)
        return lines

    return watched


async def shadows(bench: Bench, plugin: Any) -> Any:
    sent: list[Any] = []

    async def send(body: dict[str, Any]) -> dict[str, Any]:
        sent.append(body["model"])
        return completion("shadow")

    bench.manager.services.send = send
    await bench.reply(bench.context(chat()), completion("well"))
    await asyncio.gather(*plugin._running)
    record = await bench.manager.state.extra["store"].get_state("shadow:1") or {}
    return sent, record.get("response"), record.get("prompt_preview")


class Registry:
    """Knows `requests` and `left-pad`; counts who is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def get(self, url: str) -> Any:
        self.asked.append(url)
        found = any(name in url for name in ("requests", "left-pad"))
        return type("Response", (), {"status_code": 200 if found else 404})()

    async def aclose(self) -> None:
        pass


def packages(text: str) -> Probe:
    async def probe(bench: Bench, plugin: Any) -> Any:
        from llm_proxy.rings.builtin.extra import ai_dependency_guard

        ai_dependency_guard._CACHE.clear()
        if plugin.client is not None:
            await plugin.client.aclose()
            plugin.client = Registry()
        return [await gets(text)(bench, plugin) for _ in range(2)], getattr(
            plugin.client, "asked", 0
        )

    return probe


INSTALL = "Run `pip install requests no-such-thing` and `npm i left-pad nor-this`."
AB = {"control_model": "m", "variant_model": "v", "split_pct": 1}
HARD = "first explain, compare and design ```" + "x = 1\n" * 40 + "```"

# Plugin and setting: what stays, two values of it, and what shows the difference.
ROWS: dict[tuple[str, str], tuple[dict[str, Any], Any, Any, Probe]] = {
    ("Tool Guard", "restricted_tools"): ({}, ["execute_bash"], ["x"], asks(chat(tools=TOOLS))),
    ("Tool Guard", "action"): ({}, "strip", "block", asks(chat(tools=TOOLS))),
    ("Tool Guard", "admin_roles"): (
        {}, ["admin"], ["root"], asks(chat(tools=TOOLS), _user_roles=["root"])),
    ("Max Tokens Enforcer", "ceiling"): ({}, 10, 20, asks(chat(max_tokens=30))),
    ("Max Tokens Enforcer", "inject_default"): ({}, False, True, asks(chat())),
    ("Max Tokens Enforcer", "log_clamp"): ({}, True, False, logs(asks(chat(max_tokens=99999)))),
    ("System Prompt Enforcer", "prompt"): ({}, "", "be kind", asks(chat())),
    ("System Prompt Enforcer", "mode"): ({"prompt": "p"}, "prepend", "append", asks(chat())),
    ("System Prompt Enforcer", "skip_if_empty"): (
        {"prompt": "p"}, False, True, asks({"model": "m"})),
    ("Topic Blocklist", "topics"): ({}, ["dogs"], ["cats"], asks(chat())),
    ("Topic Blocklist", "action"): ({"topics": ["cats"]}, "block", "warn", asks(chat())),
    ("Topic Blocklist", "match_mode"): ({"topics": ["cat"]}, "keyword", "whole_word", asks(chat())),
    ("Topic Blocklist", "case_sensitive"): ({"topics": ["CATS"]}, False, True, asks(chat())),
    ("Topic Blocklist", "scan_roles"): ({"topics": ["cats"]}, ["user"], ["system"], asks(chat())),
    ("Smart Budget Guard", "session_budget_usd"): ({}, 5, 0, asks(chat())),
    ("Smart Budget Guard", "team_budget_usd"): ({}, 100, 0, asks(chat())),
    ("Smart Budget Guard", "avg_output_ratio"): ({}, 0.5, 3, asks(chat())),
    ("Smart Budget Guard", "warn_threshold"): ({}, 0.8, 0, asks(chat())),
    ("Agentic Loop Breaker", "max_repeats"): ({}, 3, 1, asks(chat(), chat())),
    ("Agentic Loop Breaker", "window_seconds"): (
        {"max_repeats": 1}, 120, 5, later(10, chat(), chat())),
    ("Agentic Loop Breaker", "hash_messages"): (
        {"max_repeats": 1},
        1,
        2,
        asks(*(
            {"messages": [{"role": "user", "content": n}, {"role": "user", "content": "same"}]}
            for n in ("a", "b")
        )),
    ),
    ("Per-Model Rate Limiter", "default_rpm"): ({}, 60, 1, asks(chat(), chat())),
    ("Per-Model Rate Limiter", "window_seconds"): (
        {"default_rpm": 1}, 60, 5, later(10, chat(), chat())),
    ("Per-Model Rate Limiter", "model_limits"): ({}, {}, {"m": 1}, asks(chat(), chat())),
    ("Prompt Complexity Scorer", "depth_weight"): ({}, 0.3, 0, asks(chat(HARD))),
    ("Prompt Complexity Scorer", "turns_weight"): (
        {}, 0.2, 1, asks({"messages": [{"role": "user", "content": "x"}] * 5})),
    ("Prompt Complexity Scorer", "code_weight"): ({}, 0.25, 0, asks(chat(HARD))),
    ("Prompt Complexity Scorer", "instruction_weight"): ({}, 0.25, 0, asks(chat(HARD))),
    ("Model Downgrader", "complexity_threshold"): (
        {}, 0.3, 0.1, asks(chat(model="gpt-4o"), _prompt_complexity=0.2)),
    ("Model Downgrader", "downgrade_map"): (
        {}, {}, {"m": "n"}, asks(chat(), _prompt_complexity=0.0)),
    ("Context Window Guard", "safety_margin"): (
        {}, 0.9, 0.1, asks(chat("x" * 8000, model="gpt-4"))),
    ("Context Window Guard", "model_windows"): ({}, {}, {"m": 2}, asks(chat())),
    ("ONNX PII Masker", "model_id"): ({}, "a/b", "c/d", has("model_id")),
    ("ONNX PII Masker", "variant"): ({}, "int8", "q4", has("variant")),
    ("ONNX PII Masker", "backend"): ({}, "cpu", "directml", has("_providers")),
    ("ONNX PII Masker", "force_cpu"): ({"backend": "directml"}, False, True, has("_providers")),
    ("L0 Compressor", "mode"): ({}, "safe", "aggressive", asks(chat(ODD_LOG))),
    ("L0 Compressor", "min_lines"): ({"mode": "aggressive"}, 40, 400, asks(chat(ODD_LOG))),
    ("L0 Compressor", "head_lines"): ({"mode": "aggressive"}, 30, 5, asks(chat(ODD_LOG))),
    ("L0 Compressor", "tail_lines"): ({"mode": "aggressive"}, 30, 5, asks(chat(ODD_LOG))),
    ("L0 Compressor", "tail_error_lines"): (
        {"mode": "aggressive"}, 120, 5, asks(chat(ODD_LOG + "\nERROR: full"))),
    ("L0 Compressor", "truncate_threshold"): (
        {"mode": "aggressive"}, 100, 400, asks(chat(ODD_LOG))),
    ("Tenant QoS Router", "default_tier"): ({}, "free", "premium", asks(chat())),
    ("Tenant QoS Router", "force_downgrade"): ({}, True, False, asks(chat())),
    ("Tenant QoS Router", "tier_mapping"): ({}, {}, {"free": "tiny"}, asks(chat())),
    ("A/B Model Router", "control_model"): (AB, "m", "c", asks(chat())),
    ("A/B Model Router", "variant_model"): (AB, "v", "w", asks(chat())),
    ("A/B Model Router", "split_pct"): (AB, 0, 1, asks(chat())),
    ("A/B Model Router", "sticky"): ({**AB, "split_pct": 0.5}, True, False, asks(*[chat()] * 40)),
    ("A/B Model Router", "experiment_id"): (AB, "x", "y", asks(chat())),
    ("Response Quality Gate", "min_length"): ({}, 20, 2, gets("Yes.")),
    ("Response Quality Gate", "refusal_threshold"): ({}, 1, 2, gets("I cannot say this to you.")),
    ("Response Quality Gate", "check_truncation"): ({}, True, False, gets("and so on " * 9)),
    ("Latency SLA Guard", "ttft_p95_ms"): (
        {}, 500, 5000, gets("x", duration=1, _request_start_time=5.0, _ttft_time=5.9)),
    ("Latency SLA Guard", "total_p95_ms"): ({}, 3000, 500, gets("x", duration=1)),
    ("Latency SLA Guard", "hard_limit_ms"): ({}, 10_000, 500, gets("x", duration=1)),
    ("Latency SLA Guard", "window_size"): ({}, 500, 1, has("_totals.maxlen.__str__")),
    ("Canary Detector", "min_leak_chars"): (
        {}, 50, 500, gets(SECRET, {"messages": [{"role": "system", "content": SECRET}]})),
    ("Canary Detector", "similarity_threshold"): (
        {},
        0.6,
        0.2,
        gets(SECRET[:40], {"messages": [{"role": "system", "content": SECRET}]}),
    ),
    ("Canary Detector", "block_on_leak"): (
        {}, False, True, gets(SECRET, {"messages": [{"role": "system", "content": SECRET}]})),
    ("Schema Enforcer", "action"): (
        {}, "warn", "block", gets("{}", _expected_schema=json.dumps(SCHEMA))),
    ("Schema Enforcer", "max_schema_size"): (
        {}, 8192, 5, gets("{}", _expected_schema=json.dumps(SCHEMA))),
    ("AI Dependency Guard", "registry_check"): ({}, True, False, packages(INSTALL)),
    ("AI Dependency Guard", "block_on_hallucination"): ({}, False, True, packages(INSTALL)),
    ("AI Dependency Guard", "max_packages_per_response"): ({}, 20, 1, packages(INSTALL)),
    ("AI Dependency Guard", "registry_timeout_ms"): ({}, 1500, 100, has("client.timeout.__str__")),
    ("AI Dependency Guard", "cache_ttl_s"): ({}, 3600, 0, packages(INSTALL)),
    ("AI Dependency Guard", "ecosystems"): ({}, ["pypi", "npm"], ["npm"], packages(INSTALL)),
    ("AI Dependency Guard", "blocklist"): ({}, [], ["Requests"], packages(INSTALL)),
    ("Shadow Traffic", "shadow_model"): ({"sample_rate": 1}, "", "v", shadows),
    ("Shadow Traffic", "shadow_provider"): (
        {"sample_rate": 1, "shadow_model": "v"}, "", "p", shadows),
    ("Shadow Traffic", "sample_rate"): ({"shadow_model": "v"}, 0, 1, shadows),
    ("Shadow Traffic", "store_responses"): (
        {"sample_rate": 1, "shadow_model": "v"}, True, False, shadows),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
async def test_a_setting_changes_what_its_plugin_does(
    tmp_path_factory: pytest.TempPathFactory, row: tuple[str, str]
) -> None:
    name, key = row
    rest, first, second, probe = ROWS[row]
    seen = []
    for value in (first, first, second):
        bench = Bench(tmp_path_factory.mktemp("plugins"))
        random.seed(7)
        await bench.load(**{name: {**rest, key: value}})
        seen.append(await probe(bench, bench.instance(name)))
        await bench.manager.generation.unload()
        await bench.manager.close()
    assert seen[0] == seen[1] != seen[2]


def test_every_setting_has_its_row_and_its_form() -> None:
    fields = {
        name: {f["key"]: f for f in row.get("ui_schema", ())} for name, row in built_in().items()
    }
    assert {(name, key) for name, keys in fields.items() for key in keys} == set(ROWS)
    for name, row in built_in().items():
        defaults = row.get("config") or {}
        assert defaults.items() <= {k: f["default"] for k, f in fields[name].items()}.items()
