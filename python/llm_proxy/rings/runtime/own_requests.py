"""Chat requests of a ring plugin's own, sent through this very proxy as any client sends them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llm_proxy.rings.services.host import SHADOW_HEADER

TIMEOUT_SECONDS = 300


class OwnRequests:
    """`send(body)` posts a chat request and gives its reply.

    `address` gives the URL where the proxy listens now, without a path, and a client key or None.
    Lives on the lane.
    """

    def __init__(self, address: Callable[[], tuple[str, str | None]]) -> None:
        self._address = address

    async def send(self, body: dict[str, Any]) -> dict[str, Any]:
        """Raises RuntimeError for an error status, and what httpx raises."""
        import httpx

        url, key = self._address()
        headers = {SHADOW_HEADER: "1"}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as http:
            response = await http.post(f"{url}/v1/chat/completions", json=body, headers=headers)
        if response.status_code >= 400:
            raise RuntimeError(f"{response.status_code}: {response.text[:200]}")
        reply: dict[str, Any] = response.json()
        return reply
