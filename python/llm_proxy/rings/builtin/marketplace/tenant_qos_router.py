"""Gives each tier of tenants its model."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse

_ROLE_TIERS = {"admin": "premium", "operator": "premium", "user": "basic", "viewer": "free"}
DEFAULT_TIERS = {"free": "gpt-4o-mini", "basic": "gpt-4o-mini", "premium": ""}


class TenantQoSRouter(BasePlugin):
    name = "tenant_qos_router"
    hook = PluginHook.ROUTING
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.tiers = dict(self.config.get("tier_mapping", DEFAULT_TIERS))
        self.default_tier = str(self.config.get("default_tier", "free"))
        self.force_downgrade = bool(self.config.get("force_downgrade", True))

    def _tier(self, metadata: dict[str, Any]) -> str:
        own = metadata.get("_tenant_tier")
        if own:
            return str(own)
        tiers = [_ROLE_TIERS[r] for r in metadata.get("_user_roles") or () if r in _ROLE_TIERS]
        return min(tiers, key=("premium", "basic", "free").index, default=self.default_tier)

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        tier = self._tier(ctx.metadata)
        target, model = self.tiers.get(tier), ctx.body.get("model")
        if not target or target == model or (model and not self.force_downgrade):
            return PluginResponse.passthrough()
        ctx.metadata["_qos_original_model"] = model
        ctx.metadata["_qos_tier"] = tier
        ctx.metadata["_routing_strategy"] = "tenant_qos"
        ctx.body["model"] = target
        return PluginResponse.modify(ctx.body, f"Tier {tier} uses {target}")
