"""Files and folders that settings name: whether this process can use them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from llm_proxy.config.errors import Problem
from llm_proxy.config.settings import Settings

# Files that are appended to, or written beside: their folder is there and lets us.
_WRITTEN = (
    "logging.log_file",
    "logging.access_log_file",
    "logging.capture_file",
    "plugins.state_file",
)


def unusable(settings: Settings) -> Iterator[Problem]:
    """One problem for each path that cannot be used. Nothing is created."""
    for path in _WRITTEN:
        name = settings.text(path)
        if not name or name == ":memory:":
            continue
        why = _not_writable(Path(name))
        if not why and path == "plugins.state_file":
            why = _no_database(Path(name))
        if why:
            yield Problem(settings.origins[path].where, path, f"cannot write {name}: {why}")
    name = settings.text("plugins.directory")
    if name and (why := _no_folder(Path(name)) or _no_manifest(Path(name))):
        origin = settings.origins["plugins.directory"]
        yield Problem(origin.where, "plugins.directory", f"{name}: {why}")


def _not_writable(path: Path) -> str:
    try:
        if path.is_dir():
            return "it is a folder: name a file in it"
        if path.exists():
            if not os.access(path, os.W_OK):
                return "permission denied"
            return ""
        folder = path.parent
        if folder.is_dir():
            writable = os.access(folder, os.W_OK | os.X_OK)
            return "" if writable else f"this user may not write in {folder}"
        if folder.exists():
            return f"{folder} is not a folder"
        return f"there is no folder {folder}: make it first (mkdir -p {folder})"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def _no_database(path: Path) -> str:
    """SQLite writes its name at the beginning of each of its files."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return ""
    return "" if start in (b"", b"SQLite format 3\0") else "it is no SQLite file: name another"


def _no_manifest(folder: Path) -> str:
    if any((folder / name).exists() for name in ("manifest.yaml", "installed/manifest.yaml")):
        return ""
    return "there is no manifest.yaml in it: write one with plugins: [], or name another folder"


def _no_folder(path: Path) -> str:
    try:
        if path.is_dir():
            return "" if os.access(path, os.R_OK | os.X_OK) else "this user may not read it"
        return "it is a file: name the folder" if path.exists() else "there is no such folder"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
