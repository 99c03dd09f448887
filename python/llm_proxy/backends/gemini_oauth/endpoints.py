"""Which host answers, and what it wants to be told in headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_proxy.backends.gemini_oauth.config import (
    ANTIGRAVITY_SANDBOX_ENDPOINT,
    CODE_ASSIST_ENDPOINT,
)


class StandardCodeAssistEndpoint:
    base_url = CODE_ASSIST_ENDPOINT
    user_agent = "llm-interactive-proxy"

    def get_base_url(self) -> str:
        return self.base_url

    def get_api_headers(self, credentials: Mapping[str, Any] | None = None) -> dict[str, str]:
        headers = {"Content-Type": "application/json", **self.get_session_headers()}
        if token := (credentials or {}).get("access_token"):
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def get_session_headers(self) -> dict[str, str]:
        return {"User-Agent": self.user_agent}


class AntigravitySandboxEndpoint(StandardCodeAssistEndpoint):
    base_url = ANTIGRAVITY_SANDBOX_ENDPOINT
    user_agent = "antigravity"
