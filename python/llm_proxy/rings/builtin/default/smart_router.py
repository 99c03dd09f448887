"""Chooses among the backends that offer the model: by what they lately took, failed and cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import PluginHook
from llm_proxy.rings.services.host import endpoint_stats
from llm_proxy.rings.services.pricing import get_pricing

_REDIS = "ep:stats:"


class _Stats(MutableMapping[str, dict[str, float]]):
    """What the engine's workers and this module have learnt of each backend, as rows."""

    def __getitem__(self, name: str) -> dict[str, float]:
        row = endpoint_stats.get(name)
        if row is None:
            raise KeyError(name)
        return {"latency_ms": row[0], "success": row[1], "count": row[2]}

    def __setitem__(self, name: str, row: Mapping[str, float]) -> None:
        endpoint_stats.set(name, row["latency_ms"], row["success"], row["count"])

    def __delitem__(self, name: str) -> None:
        if not endpoint_stats.erase(name):
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(endpoint_stats.ids())

    def __len__(self) -> int:
        return len(endpoint_stats.ids())


_endpoint_stats = _Stats()
_stats_lock = asyncio.Lock()
_rr_index = 0


async def update_endpoint_stats(
    endpoint_id: str, latency_ms: float, success: bool, redis_client: Any = None
) -> None:
    """Moves the averages of one backend by one result; the first sample is the average."""
    endpoint_stats.learn(endpoint_id, latency_ms, success)
    if redis_client is not None:
        await redis_client.hset(_REDIS + endpoint_id, mapping=_endpoint_stats[endpoint_id])


async def sync_endpoint_stats_from_redis(redis_client: Any) -> None:
    """Takes over what other processes have learnt; without a client there is nothing to take."""
    if redis_client is None:
        return
    async for key in redis_client.scan_iter(_REDIS + "*"):
        name = key.decode() if isinstance(key, bytes) else str(key)
        found = await redis_client.hgetall(key)
        row = {k.decode() if isinstance(k, bytes) else k: float(v) for k, v in found.items()}
        if {"latency_ms", "success", "count"} <= row.keys():
            _endpoint_stats[name.removeprefix(_REDIS)] = row


def get_endpoint_stats(endpoint_id: str) -> dict[str, float]:
    return _endpoint_stats.get(endpoint_id, {"latency_ms": 0.0, "success": 1.0, "count": 0})


def _compute_score(
    endpoint: Any, stats: dict[str, float], model: str = "", cost_weight: float = 0.3
) -> float:
    score = stats["success"] ** 2 / max(stats["latency_ms"], 1.0)
    if cost_weight <= 0 or not model:
        return score
    own = endpoint.metadata.get("input_price")
    price = float(own) if own is not None else get_pricing(model)["input"]
    return score * float((1.0 / (price + 0.01)) ** cost_weight)


def _stop(ctx: PluginContext, reason: str) -> None:
    ctx.error = reason
    ctx.stop_chain = True


async def select_endpoint(ctx: PluginContext) -> None:
    global _rr_index
    rotator = ctx.metadata.get("rotator")
    if rotator is None:
        raise RuntimeError("the router needs the proxy it routes for")
    model = str(ctx.body.get("model") or "")
    pool = await rotator.store.get_pool()
    if not pool:
        return _stop(ctx, "No backend is configured")
    if any(model.startswith((f"{endpoint.id}:", f"{endpoint.id}/")) for endpoint in pool):
        return None  # the client says where to
    pinned = ctx.metadata.get("_resolved_provider")
    pool = [e for e in pool if not pinned or e.metadata.get("provider") == pinned]
    exact = [e for e in pool if model in (e.metadata.get("models") or ())]
    candidates = exact or [e for e in pool if not e.metadata.get("models")]
    if not candidates:
        return _stop(ctx, f"No backend offers the model '{model}'")
    able = []
    for endpoint in candidates:
        breaker = await rotator.circuit_manager.get_breaker(endpoint.id)
        if await breaker.can_execute():
            able.append(endpoint)
    if not able:
        return _stop(ctx, "All backends that offer the model are failing")
    weight = rotator.routing_cost_weight
    if rotator.priority_mode:
        chosen = max(able, key=lambda endpoint: endpoint.metadata.get("priority") or 0)
        strategy = "priority"
    elif any(endpoint.id in _endpoint_stats for endpoint in able):
        scores = {e.id: _compute_score(e, get_endpoint_stats(e.id), model, weight) for e in able}
        chosen = max(able, key=lambda endpoint: scores[endpoint.id])
        strategy = "smart_weighted"
        ctx.metadata["_routing_score"] = round(scores[chosen.id], 6)
        ctx.metadata["_routing_cost_weight"] = weight
    else:
        chosen = able[_rr_index % len(able)]
        _rr_index += 1
        strategy = "round_robin"
    ctx.metadata["target_endpoint"] = chosen
    ctx.metadata["_routing_strategy"] = strategy
    if len(exact) > 1:  # with one or none the engine's own routing says the same
        ctx.body["model"] = f"{chosen.id}:{model}"
    return None


async def learn(ctx: PluginContext) -> None:
    """What the backend that answered took, and whether it answered well."""
    backend = ctx.metadata.get("_provider")
    rotator = ctx.metadata.get("rotator")
    if not backend or rotator is None:
        return
    status = int(ctx.metadata.get("_status", 200))
    success = status < 500 and status != 429
    await update_endpoint_stats(backend, float(ctx.metadata.get("duration", 0)) * 1000, success)
    (await rotator.circuit_manager.get_breaker(backend)).report(success)


select_endpoint.also = {PluginHook.BACKGROUND: learn}  # type: ignore[attr-defined]
