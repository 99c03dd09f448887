"""Where a login is kept: the file of the Gemini CLI, or the state database of Antigravity."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

Credentials = dict[str, Any]

_ANTIGRAVITY_KEY = "antigravityAuthStatus"


class CredentialProvider(Protocol):
    def get_path(self) -> Path | None: ...

    def validate(self, credentials: Mapping[str, Any] | None) -> list[str]: ...

    async def load(self) -> Credentials | None: ...

    def compute_fingerprint(self, credentials: Mapping[str, Any]) -> str: ...


def validate(credentials: Mapping[str, Any] | None) -> list[str]:
    """What is wrong with a login; empty: nothing."""
    if not isinstance(credentials, Mapping):
        return ["there are no credentials"]
    token = credentials.get("access_token")
    refresh = credentials.get("refresh_token")
    if not isinstance(token, str) or not token:
        return [] if isinstance(refresh, str) and refresh else ["access_token is missing"]
    return []


def fingerprint(credentials: Mapping[str, Any]) -> str:
    """Names an account without telling its token."""
    account = str(credentials.get("refresh_token") or credentials.get("access_token") or "")
    return hashlib.sha256(account.encode()).hexdigest()[:16]


class _Provider:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fingerprint = ""

    def get_path(self) -> Path | None:
        return self._path

    def validate(self, credentials: Mapping[str, Any] | None) -> list[str]:
        return validate(credentials)

    def compute_fingerprint(self, credentials: Mapping[str, Any]) -> str:
        self._fingerprint = fingerprint(credentials)
        return self._fingerprint

    def get_fingerprint(self) -> str:
        return self._fingerprint

    def get_file_hash(self) -> str | None:
        try:
            return hashlib.sha256(self._path.read_bytes()).hexdigest()
        except OSError:
            return None

    def get_last_modified(self) -> float | None:
        try:
            return self._path.stat().st_mtime
        except OSError:
            return None


class FileCredentialProvider(_Provider):
    """`oauth_creds.json` in the folder given, or in `~/.gemini`; a path of a file is taken as
    well."""

    def __init__(self, gemini_cli_oauth_path: str | Path | None = None) -> None:
        given = Path(gemini_cli_oauth_path or Path.home() / ".gemini").expanduser()
        super().__init__(given if given.suffix == ".json" else given / "oauth_creds.json")

    async def load(self) -> Credentials | None:
        return await asyncio.to_thread(self._read)

    def _read(self) -> Credentials | None:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    async def save(self, credentials: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._write, dict(credentials))

    def _write(self, credentials: Credentials) -> None:
        """All or nothing, and readable by its owner only."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_suffix(".new")
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(credentials, file)
        aside.replace(self._path)


class AntigravitySQLiteCredentialProvider(_Provider):
    """Read only: Antigravity renews its login itself."""

    def __init__(self, path: str | Path | None = None) -> None:
        kept = Path.home() / ".config" / "Antigravity" / "User" / "globalStorage" / "state.vscdb"
        super().__init__(Path(path or kept))

    async def load(self) -> Credentials | None:
        return await asyncio.to_thread(self._read)

    def _read(self) -> Credentials | None:
        if not self._path.is_file():
            return None
        query = "SELECT value FROM ItemTable WHERE key = ?"
        try:
            with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
                row = database.execute(query, (_ANTIGRAVITY_KEY,)).fetchone()
            status = json.loads(row[0]) if row else None
        except (sqlite3.Error, ValueError):
            return None
        token = status.get("apiKey") if isinstance(status, dict) else None
        return {"access_token": token} if token else None
