"""Answers from the tenant's cache; keeps good answers for the next time."""

from __future__ import annotations

import json

from llm_proxy.rings.context import PluginContext, Reply
from llm_proxy.rings.sdk import PluginHook, PluginResponse
from llm_proxy.rings.services.cache import ResponseCache
from llm_proxy.rings.services.chat import operation_of, reply_json

_BYPASS = ("no-cache", "no-store")


async def lookup(ctx: PluginContext) -> PluginResponse | None:
    cache = ctx.state.cache if ctx.state is not None else None
    if operation_of(ctx) != "generate":
        return None  # it keeps chat completions alone
    if cache is None or not getattr(cache, "_enabled", False):
        return None
    control = str(ctx.metadata.get("_cache_control") or "").lower()
    if any(word in control for word in _BYPASS):
        ctx.metadata["_cache_bypass"] = True
        return None
    tenant = str(ctx.metadata.get("api_key") or ctx.session_id)
    key = cache.make_key(ctx.body, tenant)
    own = isinstance(cache, ResponseCache)  # another's may have its own idea of a key
    found = cache.find(key) if own else await cache.get(ctx.body, tenant_id=tenant)
    if found is None:
        ctx.metadata["_cache_key"] = key
        ctx.metadata["_cache_tenant"] = tenant
        ctx.metadata["_cache_status"] = "MISS"
        return None
    ctx.metadata["_cached_response_data"] = found
    ctx.metadata["_cache_status"] = "HIT"
    reply = Reply(json.dumps(found, ensure_ascii=False).encode(), 200)
    reply.headers["X-LLMProxy-Cache"] = "HIT"
    return PluginResponse.cache_hit(reply)


async def keep(ctx: PluginContext) -> None:
    """Stores a whole, good answer; an error, a block or a cut one is not kept."""
    key = ctx.metadata.get("_cache_key")
    cache = ctx.state.cache if ctx.state is not None else None
    reply = reply_json(ctx) if key and ctx.response is not None else None
    status, bypassed = ctx.metadata.get("_status", 200), ctx.metadata.get("_cache_bypass")
    if cache is None or reply is None or ctx.error or status != 200 or bypassed:
        return
    choices = reply.get("choices")
    if choices and all(choice.get("finish_reason") for choice in choices):
        await cache.put(key, reply)


lookup.also = {PluginHook.BACKGROUND: keep}  # type: ignore[attr-defined]
