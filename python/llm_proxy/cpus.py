"""How many processors this process may use at once, and what says so."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class Cpus:
    """`count` is at least 1; `reason` is a phrase for people that says what set it."""

    count: int
    reason: str


def usable_cpus(root: Path = Path("/")) -> Cpus:
    """The processors of the affinity mask, or fewer where a cgroup's quota allows fewer.

    A quota of one and a half processors counts as two. `root` is where `proc` and `sys` lie. The
    two kinds of cgroup files are those of Linux: Documentation/admin-guide/cgroup-v2.rst (cpu.max)
    and Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us). A file that is missing or cannot
    be read limits nothing. Safe on any thread.
    """
    count, reason = _affinity()
    for file, quota in _quotas(root):
        allowed = max(1, math.ceil(quota))
        if allowed < count:
            count, reason = allowed, f"{file} allows {quota:g} processors' time"
    return Cpus(count, reason)


def _affinity() -> tuple[int, str]:
    here = os.cpu_count() or 1
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on every system
        return here, "this machine's processors"
    if allowed < here:
        return max(1, allowed), f"the affinity mask allows {allowed} of {here} processors"
    return here, "this machine's processors"


def _quotas(root: Path) -> Iterator[tuple[Path, float]]:
    """Each file that sets a quota, with the quota in processors: this process's group and all
    groups around it, for a quota holds for what lies below."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            for folder in _groups((mounts, mounts / "unified"), group):
                yield from _quota(folder / "cpu.max", _text(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for folder in _groups((mounts / controllers, mounts / "cpu"), group):
                file = folder / "cpu.cfs_quota_us"
                yield from _quota(
                    file, [_text(file).strip(), _text(folder / "cpu.cfs_period_us").strip()]
                )


def _groups(mounts: tuple[Path, ...], group: str) -> Iterator[Path]:
    """The folder of `group` below the first mount that is there, and those above it. In a container
    `group` may be the host's name of it: then the mount's own folder is what is left."""
    mount = next((mount for mount in reversed(mounts) if mount.is_dir()), None)
    if mount is None or ".." in PurePosixPath(group).parts:
        return
    folder = PurePosixPath(group.lstrip("/"))
    for part in (folder, *folder.parents):
        if str(part) != ".":
            yield mount / part
    yield mount


def _quota(file: Path, words: list[str]) -> Iterator[tuple[Path, float]]:
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such file
        return
    if quota > 0 and period > 0:
        yield file, quota / period


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
