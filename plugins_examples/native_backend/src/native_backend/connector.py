"""Logs in with a refresh token; everything else is the engine's."""

from __future__ import annotations

import time
from typing import Any

from llm_proxy.native import Credentials, NativeBackend, NativeSpec
from src.core.common.exceptions import AuthenticationError, ConfigurationError


class NativeExample(NativeBackend):
    backend_type: str = "native"

    @classmethod
    def native_spec(cls, config: Any) -> NativeSpec:
        # Whatever stands in the configuration of the instance; without an address there is none.
        if config is None or not config.api_url:
            raise ConfigurationError("backends.native: set api_url")
        return NativeSpec(config.api_url, config.extra.get("wire_format", "openai-chat"))

    async def credentials(self, refused: str | None = None) -> Credentials:
        login = self.settings["refresh_token"]
        form = {"grant_type": "refresh_token", "refresh_token": login}
        response = await self.client.post(self.settings["token_url"], data=form)
        if response.status_code != 200:
            raise AuthenticationError("The login has expired; log in again.")
        told = response.json()
        return Credentials(told["access_token"], expires_at=time.time() + told["expires_in"])
