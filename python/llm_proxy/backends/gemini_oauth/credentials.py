"""When a token counts as expired, and how it is renewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKEN_EXPIRY_BUFFER_SECONDS = 30.0
TOKEN_REFRESH_MAX_WAIT_SECONDS = 30.0
TOKEN_REFRESH_POLL_INTERVAL_SECONDS = 1.0
CLI_REFRESH_THRESHOLD_SECONDS = 120.0
CLI_REFRESH_COOLDOWN_SECONDS = 30.0
CLI_REFRESH_COMMAND = ["gemini", "-m", "gemini-2.5-flash", "-y", "-p", "ping"]

TOKEN_ENDPOINT = "https://oauth2.googleapis.com/token"


class _StaticTokenCreds:
    """Credentials that are one fixed token, in the form google-auth asks for."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.valid = True
        self.expired = False

    def before_request(self, request: Any, method: str, url: str, headers: dict[str, str]) -> None:
        headers["Authorization"] = f"Bearer {self.token}"

    def refresh(self, request: Any) -> None:
        """A fixed token stays what it is."""


class GeminiPersonalCredentialsFileHandler:
    """Tells when the login file has changed; `dispatch` is what watchdog calls."""

    def __init__(self, path: str | Path, on_change: Callable[[], None]) -> None:
        self._path = Path(path)
        self._on_change = on_change

    def dispatch(self, event: Any) -> None:
        if not event.is_directory and Path(event.src_path) == self._path:
            self._on_change()
