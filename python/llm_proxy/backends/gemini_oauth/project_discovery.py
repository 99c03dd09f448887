"""Which Google Cloud project a login works in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from llm_proxy.backends.gemini_oauth.config import CODE_ASSIST_API_VERSION
from llm_proxy.contracts.exceptions import BackendError

_METADATA: Mapping[str, str] = {
    "ideType": "IDE_UNSPECIFIED",
    "platform": "PLATFORM_UNSPECIFIED",
    "pluginType": "GEMINI",
}
_FREE_TIER = "free-tier"


class _Discovery:
    metadata: Mapping[str, str] = _METADATA
    may_onboard = False

    async def discover(
        self,
        auth_session: Any,
        credentials: Mapping[str, Any] | None,
        base_url: str,
        cached_project_id: str | None = None,
    ) -> str:
        """The project: the one known, the login's own, or the one Code Assist names.

        Raises BackendError when there is none.
        """
        known = cached_project_id or (credentials or {}).get("project_id")
        if known:
            return str(known)
        calls = f"{base_url}/{CODE_ASSIST_API_VERSION}"
        metadata = dict(self.metadata)
        loaded = await auth_session.post(f"{calls}:loadCodeAssist", {"metadata": metadata})
        project = loaded.get("cloudaicompanionProject")
        if not project and self.may_onboard:
            asked = {"tierId": _FREE_TIER, "metadata": metadata}
            onboarded = await auth_session.post(f"{calls}:onboardUser", asked)
            named = (onboarded.get("response") or {}).get("cloudaicompanionProject")
            project = named.get("id") if isinstance(named, Mapping) else named
        if not project:
            raise BackendError("Code Assist names no project for this login.", code="no_project")
        return str(project)


class FreeTierProjectDiscovery(_Discovery):
    may_onboard = True


class PaidTierProjectDiscovery(_Discovery):
    """Never signs up for the free tier by itself."""


class AntigravityProjectDiscovery(_Discovery):
    metadata: Mapping[str, str] = MappingProxyType({**_METADATA, "ideType": "ANTIGRAVITY"})
