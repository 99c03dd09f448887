"""Writes docs/plugins_builtin.md from the manifest of the built-in ring plugins.

PYTHONPATH=python python tests_py/docs/builtin_page.py > docs/plugins_builtin.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_proxy.rings.runtime.engine import CLASS_TIMEOUT_MS, DEFAULT_TIMEOUT_MS, default_fail_policy
from llm_proxy.rings.runtime.manifest import built_in
from llm_proxy.rings.sdk import PluginHook

HEAD = """# The built-in plugins, one by one

Rings run in this order, and the plugins of a ring by priority. **Stock** are those that `--plugins stock` runs. How they are
switched on and set is told in [ring_plugins.md](ring_plugins.md). This page is written by `tests_py/docs/builtin_page.py` from the
manifest; a test holds it to that, and another tries every setting.
"""
# What a plugin does beyond its one-line description: refusals, marks for other plugins, limits.
NOTES = {
    "Ingress Auth": "Marks `zt_user` and `zt_node` where the host knows who an address belongs to. Refuses nobody: keys are the "
    "proxy's own business.",
    "Tool Guard": "`strip` takes the tools out, with a `tool_choice` that named one, and marks `_tool_guard_stripped`; `block` is "
    "403 `restricted_tools`. Whoever has one of `admin_roles` (`plugins.tenants`) keeps them.",
    "Max Tokens Enforcer": "Looks at `max_tokens` and `max_completion_tokens`; what is no number is left to the provider.",
    "System Prompt Enforcer": "`prepend` puts it before the first system message, `append` at the end, `replace` in the place of "
    "all of them.",
    "Topic Blocklist": "`block` is 400 `topic_blocked`; `warn` and `log` only write to the log. `keyword` finds the words anywhere, "
    "`whole_word` at word edges, `regex` takes each topic as an expression. Letters without a width, and gaps between the parts of a "
    "message, hide nothing; `scan_roles` names the roles, `all` every one.",
    "Smart Budget Guard": "Costs are estimated before and corrected after each request, a UTC day at a time, over restarts if there "
    "is a `state_file`. 429 `session_budget_exceeded` or `team_budget_exceeded`; a team is a client key. Marks `_budget_warning`, "
    "`_estimated_cost_usd`, `_estimated_input_tokens`.",
    "Agentic Loop Breaker": "429 `agentic_loop_detected` for the one after `max_repeats` equal requests of a session; then it "
    "counts anew. Calls of one tool with other arguments are not equal.",
    "Per-Model Rate Limiter": "By client key, else session, and model: 429 `model_rate_limited` with the seconds to wait. Marks "
    "`_model_rpm_used` and `_model_rpm_limit`.",
    "Prompt Complexity Scorer": "Marks `_prompt_complexity` (0 to 1), `_complexity_tier` (simple below 0.3, complex from 0.7) and "
    "`_complexity_signals`, for the Model Downgrader and for yours.",
    "Aider Context Minifier": "Only texts of more than 1,000 characters; indentation, comments and fenced code stay. Marks "
    "`minified`.",
    "Model Downgrader": "Needs the Prompt Complexity Scorer before it. Marks `_original_model`, `_downgraded_to`, "
    "`_downgrade_reason`.",
    "Context Window Guard": "413 `context_window_exceeded`. A model is known by its name or its longest known beginning; one that "
    "is not known is not judged. Marks `_estimated_total_tokens`, `_context_window_usage`.",
    "ONNX PII Masker": "Needs the extra `onnx` (onnxruntime, numpy, tokenizers) and a token classification model: a folder with "
    "`config.json`, `tokenizer.json` and `onnx/model….onnx`, or the name of one downloaded beforehand (`hf download MODEL`). "
    "Nothing is fetched while the proxy serves; without them it masks nothing, and the plugin list says so in `warning`. It runs on "
    "a thread beside the loop. Its tokens have the form of the other masker's and come back the same way.",
    "PII Neural Masker": "E-mail and IP addresses, telephone, card, IBAN and social security numbers, well-known kinds of API keys, "
    "each checked where it can be (Luhn, mod 97). A value becomes `[PII_KIND_1a2b3c4d]` and comes back in the reply of the same "
    "request, streamed or not, in texts and in tool calls. Marks `pii_masked`.",
    "L0 Compressor": "Folds equal and similar lines, the unchanged parts of diffs and, in aggressive mode, the middle of long logs. "
    "`auto` is aggressive with what looks like a log. Marks `l0_compressed`, `l0_chars_saved`.",
    "WAF-Aware Cache Lookup": "`Cache-Control: no-cache` or `no-store` goes round it. A hit has the header `x-llmproxy-cache: HIT`, "
    "and is told as a stream where one was asked for. Marks `_cache_status`.",
    "Tenant QoS Router": "Tier by `plugins.tenants` (`tier`, else the best of `roles`: admin and operator premium, user basic, "
    "viewer free). An empty model leaves the request alone. Marks `_qos_tier`, `_qos_original_model`.",
    "A/B Model Router": "Runs once both models are set, for requests that name one of them or none. Marks `_ab_meta`.",
    "Smart Router": "Success and latency as moving averages, price as a weight (`routing_cost_weight`); round robin until there is "
    "something to go by; a backend that failed five times in a row rests a minute. `backend:model` goes where it says.",
    "Speculative Kill-Switch": "A word sixteen times in a row, or three times ten line breaks. Whole replies end in "
    "`[LLMPROXY_ERROR: …_SNIPPED]`, streams in an error. Marks `_kill_switch`.",
    "Response Quality Gate": "Never refuses. Marks `_quality_score`, `_quality_status` (ok, degraded, refused, failed, cached) and "
    "`_quality_issues`.",
    "Latency SLA Guard": "Never refuses. Marks `_sla_status` (ok, warning, breach, cached), `_sla_violations`, `_latency_ms`, "
    "`_ttft_ms`.",
    "Canary Detector": "Compares the answer with the first system message, word by word. Marks `_canary_leak`, `_canary_ratio`, "
    "`_canary_method`; with `block_on_leak` 403 `system_prompt_leak`.",
    "Schema Enforcer": "The schema comes from the header `x-expected-schema` or the body's `_expected_schema`. Knows type, required, "
    "properties, items, enum, minLength, maxLength, minimum, maximum. `block` is 422 `schema_validation_failed`. Marks "
    "`_schema_valid`, `_schema_errors`.",
    "Post-Flight Sanitizer": "Control and reordering characters go; links to `plugins.config.blocked_domains` become "
    "`[link removed]`. Code, any script and any word stay.",
    "AI Dependency Guard": "Reads install commands and pinned requirements. The **names** of the packages go to the public "
    "registries; what they do not answer plainly is not judged. Marks `_depguard_flagged`, `_depguard_packages`; with "
    "`block_on_hallucination` 403 `hallucinated_dependency`. A listed package is flagged without asking.",
    "JSON Auto-Healer": "Closes what is open where JSON was asked for (`response_format`); the sanitizer sees the result. A reply "
    "whose own envelope is cut is the provider's failure, which the proxy tries again: no plugin sees it.",
    "Token Counter": "Marks `_actual_tokens_in`, `_actual_tokens_out`, `_actual_cost_usd`, `_cost_delta_usd`.",
    "Shadow Traffic": "The copy is not streamed, costs what it costs, and no client waits for it; at most 16 at once. Results are "
    "kept under `shadow:N` in the plugin state, the last thousand.",
    "Unified Telemetry & FinOps": "Marks `metrics`: tokens, cost, model, time.",
}


def page() -> str:
    out = [HEAD]
    rows = sorted(built_in().values(), key=lambda row: float(row["priority"]))
    for hook in PluginHook:
        out.append(f"\n## {hook.value}\n")
        out += [_plugin(row) for row in rows if row["hook"] == hook.value]
    return "".join(out)


def _plugin(row: Mapping[str, Any]) -> str:
    is_class = row["entrypoint"].rpartition(":")[2][0].isupper()
    limit = row.get("timeout_ms", CLASS_TIMEOUT_MS if is_class else DEFAULT_TIMEOUT_MS)
    policy = row.get("fail_policy") or default_fail_policy(PluginHook(row["hook"]))
    facts = f"priority {row['priority']}, {limit:g} ms, fails {policy}"
    stock = " · **stock**" if row["enabled"] else ""
    text = f"\n### {row['name']}\n\n{row['description']} {NOTES[row['name']]}\n\n{facts}{stock}\n"
    fields = row.get("ui_schema") or ()
    if not fields:
        return text
    lines = [
        f"| `{f['key']}` | {_kind(f)} | {_shown(f['default'])} | {f['label']} |\n" for f in fields
    ]
    return text + "\n| setting | values | default | |\n|---|---|---|---|\n" + "".join(lines)


def _kind(field: Mapping[str, Any]) -> str:
    if field["type"] == "select":
        return ", ".join(f"`{option}`" for option in field["options"])
    least, most = field.get("min"), field.get("max")
    if least is not None and most is not None:
        return f"{field['type']}, {least} to {most}"
    return f"{field['type']}, from {least}" if least is not None else str(field["type"])


def _shown(value: Any) -> str:
    if isinstance(value, dict) and len(value) > 3:
        return f"{len(value)} models"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


if __name__ == "__main__":
    print(page(), end="")
