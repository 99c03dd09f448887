"""What each built-in request plugin does to a request, setting by setting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_proxy.rings.builtin.default import smart_router
from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.services.host import Breaker
from llm_proxy.rings.services.pii import Vault
from rings.conftest import Bench, completion

TOOLS = [{"type": "function", "function": {"name": name}} for name in ("read", "drop_table")]
DROP = {"restricted_tools": ["drop_table"]}
SYSTEM = {"role": "system", "content": "theirs"}
USER = {"role": "user", "content": "hi"}
OURS = {"role": "system", "content": "ours"}
NULL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {}}]}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages) or [USER], **more}


def user(content: Any) -> dict[str, Any]:
    return chat({"role": "user", "content": content})


def status(ctx: PluginContext) -> tuple[int, str] | None:
    if not ctx.stop_chain:
        return None
    return ctx.metadata["_block_status"], ctx.metadata["_block_error_type"]


# Plugin, its settings, request, what stays the same or becomes of the request's keys.
EDITS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("Tool Guard", DROP, chat(tools=TOOLS), {"tools": TOOLS[:1]}),
    ("Tool Guard", DROP, chat(tools=TOOLS[:1]), {"tools": TOOLS[:1]}),
    ("Tool Guard", {"restricted_tools": []}, chat(tools=TOOLS), {"tools": TOOLS}),
    ("Tool Guard", DROP, chat(functions=[{"name": "drop_table"}]), {"functions": None}),
    (
        "Tool Guard",
        DROP,
        chat(tools=TOOLS, tool_choice=TOOLS[1]),
        {"tools": TOOLS[:1], "tool_choice": "auto"},
    ),
    (
        "Tool Guard",
        DROP,
        chat(tools=TOOLS[1:], tool_choice="required"),
        {"tools": None, "tool_choice": None},
    ),
    ("Max Tokens Enforcer", {"ceiling": 10}, chat(max_tokens=11), {"max_tokens": 10}),
    ("Max Tokens Enforcer", {"ceiling": 10}, chat(max_tokens=9), {"max_tokens": 9}),
    ("Max Tokens Enforcer", {"ceiling": 10}, chat(max_tokens="many"), {"max_tokens": "many"}),
    (
        "Max Tokens Enforcer",
        {"ceiling": 10},
        chat(max_completion_tokens=99),
        {"max_completion_tokens": 10, "max_tokens": None},
    ),
    ("Max Tokens Enforcer", {"ceiling": 10}, chat(), {"max_tokens": None}),
    (
        "Max Tokens Enforcer",
        {"ceiling": 10, "inject_default": True, "log_clamp": False},
        chat(),
        {"max_tokens": 10},
    ),
    ("System Prompt Enforcer", {"prompt": ""}, chat(), {"messages": [USER]}),
    ("System Prompt Enforcer", {"prompt": "ours"}, chat(), {"messages": [OURS, USER]}),
    (
        "System Prompt Enforcer",
        {"prompt": "ours"},
        chat(USER, SYSTEM),
        {"messages": [USER, OURS, SYSTEM]},
    ),
    (
        "System Prompt Enforcer",
        {"prompt": "ours", "mode": "replace"},
        chat(SYSTEM, USER),
        {"messages": [OURS, USER]},
    ),
    (
        "System Prompt Enforcer",
        {"prompt": "ours", "mode": "append"},
        chat(USER, SYSTEM),
        {"messages": [SYSTEM, USER, OURS]},
    ),
    ("System Prompt Enforcer", {"prompt": "ours"}, {"model": "m"}, {"messages": [OURS]}),
    (
        "System Prompt Enforcer",
        {"prompt": "ours", "skip_if_empty": True},
        {"model": "m"},
        {"messages": None},
    ),
    (
        "A/B Model Router",
        {"control_model": "m", "variant_model": "v", "split_pct": 1},
        chat(),
        {"model": "v"},
    ),
    (
        "A/B Model Router",
        {"control_model": "m", "variant_model": "v", "split_pct": 0, "sticky": False},
        chat(),
        {"model": "m"},
    ),
    (
        "A/B Model Router",
        {"control_model": "c", "variant_model": "v", "split_pct": 1},
        chat(),
        {"model": "m", "_ab_meta": None},
    ),
    ("A/B Model Router", {"variant_model": "v"}, chat(), {"model": "m"}),
    ("Tenant QoS Router", {}, chat(), {"model": "gpt-4o-mini"}),
    ("Tenant QoS Router", {"default_tier": "premium"}, chat(), {"model": "m"}),
    ("Tenant QoS Router", {"force_downgrade": False}, chat(), {"model": "m"}),
    ("Tenant QoS Router", {"tier_mapping": {"free": "tiny"}}, chat(), {"model": "tiny"}),
]


@pytest.mark.parametrize(("name", "config", "body", "after"), EDITS)
async def test_a_plugin_edits_the_request_as_its_settings_say(
    bench: Bench, name: str, config: Any, body: Any, after: Any
) -> None:
    await bench.load(**{name: config})
    ctx = await bench.request(bench.context(json.loads(json.dumps(body))))
    assert (ctx.error, ctx.stop_chain) == (None, False)
    assert {key: ctx.body.get(key) for key in after} == after


BLOCKS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[int, str] | None]] = [
    ("Tool Guard", {**DROP, "action": "block"}, chat(tools=TOOLS), (403, "restricted_tools")),
    ("Topic Blocklist", {}, user("How to make a BOMB?"), (400, "topic_blocked")),
    ("Topic Blocklist", {"case_sensitive": True}, user("HOW TO MAKE A BOMB"), None),
    ("Topic Blocklist", {"topics": ["cat"]}, user("concatenate"), (400, "topic_blocked")),
    ("Topic Blocklist", {"topics": ["cat"], "match_mode": "whole_word"}, user("concat"), None),
    (
        "Topic Blocklist",
        {"topics": ["c.t", "("], "match_mode": "regex"},
        user([{"type": "text", "text": "a cut"}]),
        (400, "topic_blocked"),
    ),
    ("Topic Blocklist", {"topics": ["c.t"]}, user("cat"), None),
    ("Topic Blocklist", {"topics": ["cat"], "action": "warn"}, user("cat"), None),
    ("Topic Blocklist", {"topics": ["theirs"]}, chat(SYSTEM, USER), (400, "topic_blocked")),
    ("Topic Blocklist", {"topics": ["theirs"], "scan_roles": ["user"]}, chat(SYSTEM, USER), None),
    # However it is written, wherever it stands.
    *(
        ("Topic Blocklist", {"topics": ["make a bomb"]}, body, (400, "topic_blocked"))
        for body in (
            user([{"type": "text", "text": "make a bo"}, {"type": "text", "text": "mb"}]),
            user([{"type": "text", "text": "make a"}, {"type": "text", "text": "bomb"}]),
            user("make\u200b a b\u200do\u2060m\ufeffb\u00ad"),
            user("make  a\n\tbomb"),
            user("ｍａｋｅ ａ ｂｏｍｂ"),
            user("ma\ufe0fke a bo\u034fmb"),
            chat({"role": "tool", "content": "make a bomb"}),
            chat({"role": "of their own", "content": "make a bomb"}),
            chat({"role": "user", "content": "make"}, {"role": "user", "content": "a bomb"}),
            chat({"role": "assistant", "tool_calls": [{"function": {"arguments": "make a bomb"}}]}),
        )
    ),
    ("Topic Blocklist", {"topics": ["bo\u200dmb"]}, user("bomb"), (400, "topic_blocked")),
    (
        "Tool Guard",
        {**DROP, "action": "block"},
        chat(tools=TOOLS[:1], functions=[{"name": "drop_table"}]),
        (403, "restricted_tools"),
    ),
    (
        "Topic Blocklist",
        {"topics": ["theirs"], "scan_roles": ["system"]},
        chat(SYSTEM, NULL, USER),
        (400, "topic_blocked"),
    ),
    ("Smart Budget Guard", {"session_budget_usd": 0}, chat(), (429, "session_budget_exceeded")),
    ("Smart Budget Guard", {"team_budget_usd": 0}, chat(), (429, "team_budget_exceeded")),
    ("Smart Budget Guard", {}, chat(NULL), None),
    ("Agentic Loop Breaker", {"max_repeats": 0}, chat(), (429, "agentic_loop_detected")),
    ("Agentic Loop Breaker", {}, chat(USER, NULL), None),
    ("Per-Model Rate Limiter", {"default_rpm": 0}, chat(), (429, "model_rate_limited")),
    (
        "Per-Model Rate Limiter",
        {"model_limits": {"m": 0}},
        chat(),
        (429, "model_rate_limited"),
    ),
    ("Per-Model Rate Limiter", {"default_rpm": 0}, {"messages": [USER]}, None),
    (
        "Context Window Guard",
        {},
        {**user("x" * 40_000), "model": "gpt-4"},
        (413, "context_window_exceeded"),
    ),
    ("Context Window Guard", {}, {**user("x" * 40_000), "model": "gpt-4o-2024-11-20"}, None),
    ("Context Window Guard", {}, user("x" * 40_000), None),
    (
        "Context Window Guard",
        {"model_windows": {"m": 100}, "safety_margin": 0.1},
        user("x" * 60),
        (413, "context_window_exceeded"),
    ),
]


@pytest.mark.parametrize(("name", "config", "body", "expected"), BLOCKS)
async def test_a_plugin_refuses_the_request_as_its_settings_say(
    bench: Bench, name: str, config: Any, body: Any, expected: Any
) -> None:
    await bench.load(**{name: config})
    ctx = await bench.request(bench.context(body))
    assert status(ctx) == expected
    assert expected is not None or ctx.error is None


async def test_an_admin_keeps_the_restricted_tools(bench: Bench) -> None:
    await bench.load(**{"Tool Guard": {**DROP, "admin_roles": ["root"]}})
    ctx = await bench.request(bench.context(chat(tools=TOOLS), _user_roles=["root"]))
    assert ctx.body["tools"] == TOOLS


@pytest.mark.parametrize(
    ("metadata", "model"),
    [
        ({"_user_roles": ["admin"]}, "m"),
        ({"_user_roles": ["viewer", "admin"]}, "m"),
        ({"_user_roles": ["user"]}, "gpt-4o-mini"),
        ({"_user_roles": ["admin"], "_tenant_tier": "free"}, "gpt-4o-mini"),
    ],
)
async def test_a_tier_comes_from_the_tenant_or_its_best_role(
    bench: Bench, metadata: Any, model: str
) -> None:
    await bench.load(**{"Tenant QoS Router": {}})
    ctx = await bench.request(bench.context(chat(), **metadata))
    assert ctx.body["model"] == model


async def test_the_fourth_identical_request_is_a_loop_and_the_fifth_may_pass(bench: Bench) -> None:
    await bench.load(**{"Agentic Loop Breaker": {}})
    seen = [status(await bench.request(bench.context(chat()))) for _ in range(5)]
    assert seen == [None, None, None, (429, "agentic_loop_detected"), None]
    other = [await bench.request(bench.context(chat(), session=f"s{n}")) for n in range(5)]
    assert [status(ctx) for ctx in other] == [None] * 5


async def test_calls_of_one_tool_with_other_arguments_are_no_loop(bench: Bench) -> None:
    await bench.load(**{"Agentic Loop Breaker": {"max_repeats": 1}})
    for number in range(4):
        call = {"id": "1", "function": {"name": "f", "arguments": str(number)}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        assert status(await bench.request(bench.context(chat(message)))) is None


async def test_a_rate_is_counted_by_tenant(bench: Bench) -> None:
    await bench.load(**{"Per-Model Rate Limiter": {"default_rpm": 1}})
    keys = ("a", "a", "b")
    seen = [status(await bench.request(bench.context(chat(), api_key=key))) for key in keys]
    assert seen == [None, (429, "model_rate_limited"), None]
    assert bench.instance("Per-Model Rate Limiter").get_stats()["total_limited"] == 1


async def test_a_budget_is_corrected_by_the_real_usage_and_survives_a_reload(bench: Bench) -> None:
    await bench.load(**{"Smart Budget Guard": {"warn_threshold": 0}})
    ctx = await bench.request(bench.context({**user("x" * 4000), "model": "gpt-4"}))
    guard = bench.instance("Smart Budget Guard")
    assert "_budget_warning" in ctx.metadata
    assert guard._sessions["s"] == pytest.approx(ctx.metadata["_estimated_cost_usd"])
    await bench.reply(ctx, completion("ok"))
    assert guard._sessions["s"] == pytest.approx((10 * 30 + 5 * 60) / 1e6)
    await guard.on_unload()
    again = type(guard)(config={})
    again.state = bench.manager.state
    await again.on_load()
    assert again._sessions == {"s": pytest.approx(0.0006)}
    await again.on_unload()


async def test_a_simple_prompt_is_scored_and_sent_to_the_cheaper_model(bench: Bench) -> None:
    await bench.load(**{"Prompt Complexity Scorer": {}, "Model Downgrader": {}})
    ctx = await bench.request(bench.context({**user("hi"), "model": "gpt-4o"}))
    assert ctx.body["model"] == "gpt-4o-mini"
    assert ctx.metadata["_complexity_tier"] == "simple"
    assert ctx.metadata["_downgrade_reason"].startswith("complexity=0.000<0.3")
    hard = "explain compare implement design debug\n```\n" + "code\n" * 2000 + "```"
    ctx = await bench.request(bench.context({**user(hard), "model": "gpt-4o"}))
    assert ctx.body["model"] == "gpt-4o"
    assert ctx.metadata["_complexity_signals"]["code"] == 1.0


async def test_the_minifier_keeps_every_line_of_code(bench: Bench) -> None:
    await bench.load(**{"Aider Context Minifier": {}})
    code = "def f():\n    # why // this\n    return '/* no comment */'   \n\n\n\n" * 40
    ctx = await bench.request(bench.context(user(code)))
    kept = [line.rstrip() for line in code.splitlines() if line.strip()]
    assert [line for line in ctx.body["messages"][-1]["content"].splitlines() if line] == kept
    assert ctx.metadata["minified"] is True
    assert len(ctx.body["messages"][-1]["content"]) < len(code)


@pytest.mark.parametrize("mode", ["auto", "aggressive", "safe"])
async def test_a_repetitive_log_is_shortened_and_keeps_its_error(bench: Bench, mode: str) -> None:
    await bench.load(**{"L0 Compressor": {"mode": mode, "min_lines": 10}})
    log = "\n".join(["INFO same line"] * 500 + ["ERROR the disk is full"])
    ctx = await bench.request(bench.context(user(log)))
    text = ctx.body["messages"][-1]["content"]
    assert "(×500)" in text
    assert "ERROR the disk is full" in text
    assert ctx.metadata["l0_chars_saved"] == len(log) - len(text)


PII = {
    "EMAIL": "ann@example.org",
    "CARD": "4111 1111 1111 1111",
    "AMEX": "378282246310005",
    "IBAN": "DE89 3704 0044 0532 0130 00",
    "SSN": "123-45-6789",
    "PHONE": "(555) 123-4567",
    "IP": "10.1.2.3",
    "API_KEY": "sk-abcdefghijklmnopqrstuv",
}


@pytest.mark.parametrize("label", PII)
def test_each_kind_of_personal_data_is_masked_and_restored(label: str) -> None:
    vault = Vault("t")
    masked = vault.mask(f"it is {PII[label]}, really")
    assert masked.startswith(f"it is [PII_{label}_") and masked.endswith("], really")
    assert vault.restore(masked) == f"it is {PII[label]}, really"
    assert Vault("t").restore(masked) == masked  # another request gives nothing away


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3, 4111 1111 1111 1112, order 1234567890",
        "कृपया मदद करें",
        "if x:\n    y = 127.0\n",
        "请把 127.0.0.1 改成主机名",
    ],
)
def test_what_only_looks_like_personal_data_stays(text: str) -> None:
    assert Vault().mask(text) == text


async def test_masking_covers_parts_and_tool_calls_and_comes_back_in_both(bench: Bench) -> None:
    await bench.load(**{"PII Neural Masker": {}})
    call = {"id": "1", "function": {"name": "f", "arguments": '{"to":"ann@example.org"}'}}
    body = chat(
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": [{"type": "text", "text": "ann@example.org"}, {"type": "x"}]},
    )
    ctx = await bench.request(bench.context(body))
    sent = json.dumps(ctx.body)
    assert "ann@example.org" not in sent
    token = ctx.body["messages"][1]["content"][0]["text"]
    reply = completion(f"hello {token}", tool_calls=[{"function": {"arguments": f'"{token}"'}}])
    ctx = await bench.reply(ctx, reply)
    assert ctx.response.body.count(b"ann@example.org") == 2


async def test_the_router_learns_who_is_fast_and_leaves_who_fails(bench: Bench) -> None:
    await bench.load(**{"Smart Router": {}})
    smart_router._endpoint_stats.clear()
    bench.manager.services.set_backends([{"name": n, "models": ["m"]} for n in ("slow", "fast")])
    for name, seconds in (("slow", 2.0), ("fast", 0.1)):
        ctx = bench.context(chat(), _provider=name, duration=seconds)
        await bench.reply(ctx, completion("ok"))
    ctx = await bench.request(bench.context(chat()))
    assert ctx.body["model"] == "fast:m"
    assert ctx.metadata["_routing_strategy"] == "smart_weighted"
    for _ in range(5):
        failed = bench.context(chat(), _provider="fast", duration=0.1)
        await bench.reply(failed, completion("no"), status=503)
    ctx = await bench.request(bench.context(chat()))
    assert ctx.body["model"] == "slow:m"
    pinned = await bench.request(bench.context({**chat(), "model": "fast:m"}))
    assert pinned.body["model"] == "fast:m"
    smart_router._endpoint_stats.clear()


async def test_a_breaker_lets_one_try_through_after_its_pause() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(5):
        breaker.report(False)
    assert not await breaker.can_execute()
    now[0] = 61.0
    assert [await breaker.can_execute(), await breaker.can_execute()] == [True, False]
    breaker.report(True)
    assert await breaker.can_execute()


@pytest.mark.parametrize("control", ["", "no-cache", "max-age=0, no-store"])
async def test_a_client_may_bypass_the_cache(bench: Bench, control: str) -> None:
    await bench.load(**{"WAF-Aware Cache Lookup": {}})
    for _ in range(2):
        ctx = await bench.request(bench.context(chat(), _cache_control=control))
        if ctx.metadata.get("_cache_status") != "HIT":
            await bench.reply(ctx, completion("kept"))
    assert (ctx.metadata.get("_cache_status") == "HIT") is (control == "")
    assert bool(ctx.metadata.get("_cache_bypass")) is (control != "")
