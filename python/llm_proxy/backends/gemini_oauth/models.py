"""The values that strategies hand each other."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from llm_proxy.backends.gemini_oauth.credentials import TOKEN_EXPIRY_BUFFER_SECONDS


@dataclass(frozen=True, order=True)
class TierScore:
    """Ranks an account: paid before free, then by how much fits into its context."""

    is_paid: bool
    context_tokens: int
    is_default: bool


class GeminiOAuthCredentials(BaseModel):
    """The login file of the Gemini CLI. `expiry_date`: Unix milliseconds."""

    model_config = ConfigDict(extra="allow")

    access_token: str
    refresh_token: str | None = None
    expiry_date: int | None = None
    project_id: str | None = None

    def is_expired(self, now: float | None = None) -> bool:
        if self.expiry_date is None:
            return False
        seconds = time.time() if now is None else now
        return self.expiry_date / 1000 <= seconds + TOKEN_EXPIRY_BUFFER_SECONDS
