"""Chat Completions behind an OAuth token: renewed before it expires, and once after a 401.

However many requests find it expired, it is asked for once.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from src.connectors.contracts import ConnectorChatCompletionsRequest
from src.connectors.openai import OpenAIConnector
from src.core.common.exceptions import AuthenticationError
from src.core.domain.responses import ResponseEnvelope, StreamingResponseEnvelope

# Renewed this long before it expires: a request under way must not be overtaken.
_MARGIN_SECONDS = 30.0


class RenewedBackend(OpenAIConnector):
    backend_type: str = "renewed"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token_url = ""
        self._refresh_token = ""
        self._valid_until = 0.0
        self._renewing = asyncio.Lock()

    async def initialize(self, **kwargs: Any) -> None:
        """`token_url` and `refresh_token` come from the backend's `extra` section."""
        await super().initialize(**kwargs)
        self._token_url = kwargs["token_url"]
        self._refresh_token = kwargs["refresh_token"]

    @property
    def has_static_credentials(self) -> bool:
        return False

    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        await self._renew_if_older_than(time.monotonic() + _MARGIN_SECONDS)
        try:
            return await super().chat_completions(request)
        except AuthenticationError:
            await self._renew(unless_changed=self.api_key)
            return await super().chat_completions(request)

    async def _renew_if_older_than(self, moment: float) -> None:
        if self._valid_until < moment:
            await self._renew(unless_changed=self.api_key)

    async def _renew(self, unless_changed: str | None) -> None:
        async with self._renewing:
            if self.api_key != unless_changed:
                return  # another request has done it
            form = {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
            try:
                response = await self.client.post(self._token_url, data=form)
                response.raise_for_status()
                token = response.json()
            except httpx.HTTPError as error:
                raise AuthenticationError(f"The token could not be renewed: {error}") from error
            self.api_key = token["access_token"]
            self._refresh_token = token.get("refresh_token", self._refresh_token)
            self._valid_until = time.monotonic() + float(token.get("expires_in", 3600))
