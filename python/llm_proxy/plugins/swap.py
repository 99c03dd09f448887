"""Changing the plugins of a running proxy: build aside, check, publish, and only then write."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HEALTH_SECONDS = 10.0
HEALTH_HEADERS = {"x-llm-proxy-health-check": "1", "x-llm-proxy-shadow": "1"}
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

    installed: tuple[Mapping[str, Any], ...] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path | None) -> Edits:
        if directory is None:
            return cls()
        installed = _yaml(directory / "installed" / "manifest.yaml").get("plugins")
        rows = installed if isinstance(installed, list) else []
        return cls(
            tuple(row for row in rows if isinstance(row, Mapping)),
            {
                k: v
                for k, v in _yaml(directory / "overrides.yaml").items()
                if isinstance(v, Mapping)
            },
        )

    def write(self, directory: Path, before: Edits) -> None:
        if self.installed != before.installed:
            rows = [dict(row) for row in self.installed]
            _replace(directory / "installed" / "manifest.yaml", {"plugins": rows})
        if self.overrides != before.overrides:
            rows_by_name = {name: dict(row) for name, row in self.overrides.items()}
            _replace(directory / "overrides.yaml", rows_by_name)

    def with_override(self, name: str, **change: Any) -> Edits:
        row = {**self.overrides.get(name, {}), **change}
        return Edits(self.installed, {**self.overrides, name: row})

    def with_installed(self, entry: Mapping[str, Any]) -> Edits:
        kept = [row for row in self.installed if row.get("name") != entry["name"]]
        return Edits((*kept, entry), self.overrides)

    def without_installed(self, name: str) -> Edits:
        return Edits(
            tuple(row for row in self.installed if row.get("name") != name), self.overrides
        )


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}  # what is wrong with a manifest is said by its reader
    return tree if isinstance(tree, Mapping) else {}


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
