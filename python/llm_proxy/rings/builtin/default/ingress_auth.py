"""Notes who a client's address belongs to on the private network."""

from __future__ import annotations

from llm_proxy.rings.context import PluginContext


async def verify(ctx: PluginContext) -> None:
    rotator = ctx.metadata.get("rotator")
    if ctx.request is None or rotator is None:
        return
    client = getattr(ctx.request, "client", None)
    host = getattr(client, "host", None) or "0.0.0.0"
    identity = await rotator.zt_manager.verify_tailscale_identity(host)
    if identity.get("status") == "verified":
        ctx.metadata["zt_user"] = identity.get("user")
        ctx.metadata["zt_node"] = identity.get("node")
        await rotator._add_log(f"Zero trust: {host} is {identity.get('user')}", level="SECURITY")
