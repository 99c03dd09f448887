"""Changing the plugins of a running proxy: build aside, check, publish, and only then write."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from llm_proxy.rings.services.host import SHADOW_HEADER

INSTALLED = Path("installed/manifest.yaml")
OVERRIDES = Path("overrides.yaml")
HEALTH_SECONDS = 10.0
HEALTH_HEADERS = {"x-llm-proxy-health-check": "1", SHADOW_HEADER: "1"}
HEALTH_REQUEST = json.dumps(
    {
        "model": "health-check",
        "messages": [
            {"role": "system", "content": "You answer briefly."},
            {"role": "user", "content": "Is everything well?"},
        ],
        "max_tokens": 16,
    }
).encode()
HEALTH_REPLY = json.dumps(
    {
        "id": "chatcmpl-health",
        "object": "chat.completion",
        "created": 0,
        "model": "health-check",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "Everything is well, thank you."},
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
    }
).encode()


class SwapRefused(RuntimeError):
    """The new plugins are not taken; everything is as it was."""


@dataclass(frozen=True)
class Edits:
    """What the admin has changed on top of the manifests."""

    installed: tuple[Any, ...] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)  # file: what is wrong with it

    @classmethod
    def read(cls, directory: Path | None) -> Edits:
        if directory is None:
            return cls()
        unread: dict[str, str] = {}
        installed = _yaml(directory / INSTALLED, unread).get("plugins") or []
        if not isinstance(installed, list):
            unread[str(directory / INSTALLED)] = "'plugins' must be a list"
            installed = []
        overrides = _yaml(directory / OVERRIDES, unread)
        rows = {str(k): v for k, v in overrides.items() if isinstance(v, Mapping)}
        return cls(tuple(installed), rows, unread)

    def write(self, directory: Path, before: Edits) -> None:
        """Both files or none. A file that could not be read is somebody's work: it stays."""
        if before.unread:
            raise OSError("; ".join(f"{file}: {what}" for file, what in before.unread.items()))
        if self.installed != before.installed:
            rows = [dict(row) if isinstance(row, Mapping) else row for row in self.installed]
            _replace(directory / INSTALLED, {"plugins": rows})
        if self.overrides != before.overrides:
            rows_by_name = {name: dict(row) for name, row in self.overrides.items()}
            try:
                _replace(directory / OVERRIDES, rows_by_name)
            except OSError:
                Edits(before.installed, self.overrides).write(
                    directory, Edits(self.installed, self.overrides)
                )
                raise

    def with_override(self, name: str, **change: Any) -> Edits:
        row = {**self.overrides.get(name, {}), **change}
        return replace(self, overrides={**self.overrides, name: row})

    def with_installed(self, entry: Mapping[str, Any]) -> Edits:
        return replace(self, installed=(*self._but(entry["name"]), entry))

    def without_installed(self, name: str) -> Edits:
        return replace(self, installed=tuple(self._but(name)))

    def has_installed(self, name: str) -> bool:
        return len(self._but(name)) < len(self.installed)

    def _but(self, name: str) -> list[Any]:
        return [
            row
            for row in self.installed
            if not (isinstance(row, Mapping) and row.get("name") == name)
        ]


def _yaml(path: Path, unread: dict[str, str]) -> Mapping[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        unread[str(path)] = f"cannot be read: {error}"
        return {}
    if tree is None or isinstance(tree, Mapping):
        return tree or {}
    unread[str(path)] = "it must be a mapping"
    return {}


def _replace(path: Path, tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


async def check(probe: Any, records: Mapping[str, Any], background: Collection[str]) -> None:
    """Runs one complete exchange through plugins that serve nobody yet.

    SwapRefused names those that raised or were too slow; a block is an answer like any other.
    """
    try:
        await asyncio.wait_for(probe.request(), HEALTH_SECONDS)
        await asyncio.wait_for(probe.reply(200, HEALTH_REPLY), HEALTH_SECONDS)
    except (asyncio.TimeoutError, TimeoutError):
        probe.cancel()
        raise SwapRefused(f"the health check took more than {HEALTH_SECONDS:g} s") from None
    probe.background(200, 12, 6)
    for _ in range(100):  # nobody is told when the background ring has ended
        if all(records[name].invocations for name in background):
            break
        await asyncio.sleep(0)
    failed = [name for name, record in records.items() if record.errors or record.timeouts]
    if failed:
        raise SwapRefused(f"the health check failed in {', '.join(failed)}")
