"""What the host does for plugins that leave a note in `ctx.metadata` and expect it to act.

A router names the endpoint in `target_endpoint` and has a module function `update_endpoint_stats`
that wants to hear how it went; a cache names the key of what it did not find in `_cache_key` and
expects the reply under it next time; a masker calls `mask_pii` and expects its values back. For
each plugin that speaks of such a note an entry is added to the rings where the host acts on it.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from llm_proxy.rings.builtin.default import cache_check, pii_masker
from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.runtime.engine import DEFAULT_TIMEOUT_MS, FAIL_OPEN, RingEntry
from llm_proxy.rings.sdk import PluginHook

_REQUEST_RINGS = (PluginHook.INGRESS, PluginHook.PRE_FLIGHT, PluginHook.ROUTING)
_STATS = "update_endpoint_stats"
Step = Callable[[PluginContext], Awaitable[Any]]


def steps_for(made: RingEntry, source: str) -> list[RingEntry]:
    """The host's entries for one plugin of somebody else's; `source` is its text."""
    if made.ring not in _REQUEST_RINGS:
        return []
    found: list[RingEntry] = []

    def add(ring: PluginHook, step: Step, what: str, policy: str = FAIL_OPEN) -> None:
        name = f"{made.name}: {what}"
        found.append(RingEntry(name, ring, "python", step, DEFAULT_TIMEOUT_MS, policy))

    if "target_endpoint" in source:
        add(PluginHook.ROUTING, follow_target, "follow_target", made.fail_policy)
        add(PluginHook.BACKGROUND, _reporting(made.call), "report_target")
    if "_cache_key" in source:
        add(PluginHook.BACKGROUND, keep_reply, "keep_reply")
    if "mask_pii" in source or "pii_vault" in source:
        add(PluginHook.POST_FLIGHT, restore_values, "restore_values")
    return found


# ---- routers


async def follow_target(ctx: PluginContext) -> None:
    """Sends the request to the endpoint that `target_endpoint` names: an endpoint of the pool, a
    mapping with its id, its id, or its URL. RuntimeError where there is no such backend."""
    target = ctx.metadata.get("target_endpoint")
    rotator = ctx.metadata.get("rotator")
    if target is None or rotator is None:
        return
    pool = rotator.store.endpoints
    endpoint = _endpoint_of(target, pool)
    if endpoint is None:
        there = ", ".join(one.id for one in pool) or "none"
        raise RuntimeError(f"'target_endpoint' names no backend: {target!r}; there are: {there}")
    model = _bare_model(str(ctx.body.get("model") or ""), pool)
    model = model or next(iter(endpoint.metadata.get("models") or ()), "")
    if model:
        ctx.body["model"] = f"{endpoint.id}:{model}"


def _endpoint_of(target: Any, pool: list[Any]) -> Any:
    named: tuple[Any, ...]
    if isinstance(target, dict):
        named = (target.get("id"), target.get("name"), target.get("url"))
    else:
        named = (getattr(target, "id", target), getattr(target, "url", None))
    by_name = {one.id: one for one in pool} | {one.url: one for one in pool if one.url}
    return next(
        (by_name[name] for name in named if isinstance(name, str) and name in by_name), None
    )


def _bare_model(model: str, pool: list[Any]) -> str:
    """The model of a selector's first leg, without the backend it names."""
    leg = re.split(r"[|^!]", re.sub(r"^\[[^\]]*\]", "", model))[0]
    for endpoint in pool:
        for separator in ":/":
            if leg.startswith(endpoint.id + separator):
                return leg[len(endpoint.id) + 1 :]
    return leg


def _reporting(call: Any) -> Step:
    """Tells the plugin's module what became of its choice."""
    function = getattr(inspect.unwrap(call), "__func__", call)
    update = getattr(function, "__globals__", {}).get(_STATS)

    async def report_target(ctx: PluginContext) -> None:
        backend, rotator = ctx.metadata.get("_provider"), ctx.metadata.get("rotator")
        if not backend or ctx.metadata.get("target_endpoint") is None or rotator is None:
            return
        status = int(ctx.metadata.get("_status", 200))
        success = status < 500 and status != 429
        rotator.circuit_manager.of(backend).report(success)
        if callable(update):
            told = update(backend, float(ctx.metadata.get("duration", 0)) * 1000, success)
            if inspect.isawaitable(told):
                await told

    return report_target


# ---- caches and maskers


async def keep_reply(ctx: PluginContext) -> None:
    await cache_check.keep(ctx)


async def restore_values(ctx: PluginContext) -> None:
    await pii_masker.restore(ctx)


def source_around(target: Any) -> str:
    """The text of the module that defines `target` and of its package's other loaded modules."""
    home = getattr(target, "__module__", "") or ""
    root = home.partition(".")[0]
    texts = []
    for name, module in list(sys.modules.items()):
        if name == home or ("." in home and (name == root or name.startswith(root + "."))):
            try:
                texts.append(inspect.getsource(module))
            except (OSError, TypeError):
                continue
    return "\n".join(texts)
