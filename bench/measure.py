"""Numbers from /proc, and what to make of several of them."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class ProcessTree:
    """A process and everything it started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def pids(self) -> list[int]:
        found = [self.pid]
        for pid in found:
            for thread in _threads(pid):
                try:
                    children = Path(f"/proc/{pid}/task/{thread}/children").read_text()
                except OSError:
                    continue
                found += [int(child) for child in children.split()]
        return found

    def cpu_us(self) -> float:
        """Microseconds of user and system time so far, children that have ended included.

        Living threads are read to the nanosecond from schedstat, as utime and stime of short runs
        are too coarse; what ended is known from utime and stime only.
        """
        return sum(map(_process_cpu_us, self.pids()))

    def rss_kb(self) -> int:
        return sum(_status_kb(pid, "VmRSS") for pid in self.pids())


def _threads(pid: int) -> Iterable[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return ()


def _process_cpu_us(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        exact = 0
        for thread in _threads(pid):
            exact += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    except OSError:
        return 0.0
    own, of_dead_children = sum(map(int, stat[11:13])), sum(map(int, stat[13:15]))
    # Threads that ended are in `own` and not in `exact`; two ticks are rounding.
    missing = own / TICKS * 1e6 - exact / 1e3
    ended = missing if missing > 2e6 / TICKS else 0.0
    return exact / 1e3 + ended + of_dead_children / TICKS * 1e6


def _status_kb(pid: int, key: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def machine_ticks() -> tuple[int, int]:
    """(all ticks, stolen ticks) of the machine since it started."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields), fields[7]


def load_average() -> str:
    return " ".join(Path("/proc/loadavg").read_text().split()[:3])


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")
