#!/usr/bin/env python3
"""Measures the proxy beside nginx and prints the table: `./dev bench`, or this file.

The proxy and nginx run on core 0, the mock upstream and the load generator on core 1, and the load
goes to them in turn. The figure to trust is CPU time per request, user and system, of the whole
process tree. docs/performance.md says why and what came out.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import bodies, single
from bench.measure import cpu_model, load_average, machine_ticks, median
from bench.scenarios import LOADS, OPENAI, Load
from bench.servers import (
    CLIENT_KEY,
    LOAD_CORE,
    BenchError,
    House,
    Running,
    build_binaries,
    pinned,
)

MOST_STEAL = 0.02
CHUNKS = 66  # of a stream of the mock


@dataclass
class Sample:
    """One run of the load generator against one server."""

    cpu_us: float  # per reply
    seen: dict[str, Any]
    steal: float
    load: str


@dataclass
class Result:
    load: Load
    proxy: list[Sample] = field(default_factory=list)
    nginx: list[Sample] = field(default_factory=list)
    plain: list[Sample] = field(default_factory=list)  # the proxy without plugins
    direct: list[Sample] = field(default_factory=list)  # no proxy at all
    problem: str = ""

    def cpu(self, samples: list[Sample]) -> float:
        return median([sample.cpu_us for sample in samples])

    @property
    def ratio(self) -> float | None:
        return self.cpu(self.proxy) / self.cpu(self.nginx) if self.proxy and self.nginx else None

    @property
    def added(self) -> float | None:
        return self.cpu(self.proxy) - self.cpu(self.plain) if self.proxy and self.plain else None


@dataclass(frozen=True)
class Options:
    repeats: int
    scale: float  # of the seconds and streams of each run
    without_proxy: bool


class Bench:
    def __init__(self, house: House, options: Options) -> None:
        self._house = house
        self._options = options

    def run(self, load: Load) -> Result:
        result = Result(load)
        servers: list[tuple[list[Sample], Running]] = []
        try:
            if load.upstream:
                servers.append((result.nginx, self._house.nginx))
                servers.append((result.direct, self._house.mock))
            if not self._options.without_proxy:
                # Compared proxies begin together: one that has seen other loads is cheaper.
                self._house.keep_only(() if load.against_plain else (load.variant,))
                if load.against_plain:
                    servers.append((result.plain, self._house.proxy(OPENAI)))
                servers.append((result.proxy, self._house.proxy(load.variant)))
            if load.fill and not self._options.without_proxy:
                seconds = load.fill / self._options.scale
                full = replace(load, rate=0, seconds=seconds)
                self._generate(full, self._house.proxy(load.variant), 1)
            for _, server in servers:
                self._generate(load, server, 0.2)
            for _ in range(self._options.repeats):
                for samples, server in servers:
                    samples.append(self._quiet_sample(load, server))
            self._check_replies(result)
        except BenchError as error:
            result.problem = str(error)
        return result

    def _quiet_sample(self, load: Load, server: Running) -> Sample:
        """Again, at most twice, while the machine's host takes time from it."""
        for _ in range(3):
            sample = self._sample(load, server)
            if sample.steal <= MOST_STEAL:
                break
        return sample

    def _sample(self, load: Load, server: Running) -> Sample:
        ticks, stolen = machine_ticks()
        cpu = server.tree.cpu_us()
        seen = self._generate(load, server, 1)
        cpu = server.tree.cpu_us() - cpu
        ticks_after, stolen_after = machine_ticks()
        if server.process.poll() is not None:
            raise BenchError(f"{server.name} died:\n{server.last_words()}")
        steal = (stolen_after - stolen) / max(1, ticks_after - ticks)
        return Sample(cpu / seen["ok"], seen, steal, load_average())

    def _generate(self, load: Load, server: Running, part: float) -> dict[str, Any]:
        speaks = bodies.FORMATS[load.frontend]
        model = "bench-paced" if load.stream == "paced" else "bench"
        body = self._body(load, model)
        path = (speaks.stream_path if load.stream else speaks.path).replace("{model}", model)
        seconds = max(0.15, load.seconds * self._options.scale * part)
        connections = load.connections
        command = [str(self._house.binaries / "load_generator"), "--port", str(server.port)]
        command += ["--path", path, "--body", str(body)]
        if load.stream == "paced":
            # Whole streams, never fewer at once: a chunk costs less if others keep the core awake.
            connections = connections if part == 1 else 4
            rounds = max(1, round(2 * self._options.scale)) if part == 1 else 1
            command += ["--requests", str(connections * rounds), "--stagger-ms", "20"]
            seconds = 30
        command += ["--connections", str(connections), "--seconds", f"{seconds:.3f}"]
        command += ["--end", speaks.stream_end if load.stream else "}"]
        if load.variant.builtins:
            command += ["--vary", bodies.VARIED]
        if load.rate:
            command += ["--rate", str(load.rate)]
        if load.raw:
            command += ["--same"]
        for header in (f"authorization: Bearer {CLIENT_KEY}", "anthropic-version: 2023-06-01"):
            command += ["--header", header]
        done = subprocess.run(
            pinned(LOAD_CORE, *command), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchError(f"the load generator failed: {done.stderr.strip()}")
        seen: dict[str, Any] = json.loads(done.stdout)
        if seen["first_error"] or not seen["ok"]:
            raise BenchError(f"{server.name}: {seen['first_error'] or 'no reply at all'}")
        return seen

    def _body(self, load: Load, model: str) -> Path:
        stream = bool(load.stream)
        file = self._house.folder / f"{load.frontend}-{load.size}-{model}-{stream}.json"
        if not file.exists():
            conversation = bodies.CONVERSATIONS[load.size]()
            file.write_bytes(bodies.FORMATS[load.frontend].body(conversation, model, stream))
        return file

    def _check_replies(self, result: Result) -> None:
        """What came through a raw path is what the mock sent, byte for byte."""
        if not result.load.raw or not result.direct:
            return
        sent = {sample.seen["hash"] for sample in result.direct}
        for sample in result.nginx + result.proxy + result.plain:
            if {sample.seen["hash"]} != sent:
                raise BenchError("replies differ from what the upstream sent")


# --- printing -------------------------------------------------------------------------------------


def spread(samples: list[Sample]) -> str:
    if not samples:
        return "-"
    values = [sample.cpu_us for sample in samples]
    return f"{median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def number(samples: list[Sample], *keys: str) -> float | None:
    values = []
    for sample in samples:
        value: Any = sample.seen
        for key in keys:
            value = value[key] if value else None
        if value is not None:
            values.append(value)
    return median(values) if values else None


def shown(value: float | None, form: str = ".0f") -> str:
    return "-" if value is None else format(value, form)


HEADER = (
    "| scenario | nginx µs CPU | proxy µs CPU | × nginx | must | rate/s nginx, proxy, direct "
    "| p50, p99 µs nginx | p50, p99 µs proxy | first byte p50, p99 µs nginx | … proxy | note |"
)


def row(result: Result) -> str:
    load = result.load
    if result.problem:
        return f"| {load.name} | failed: {' '.join(result.problem.split())[:400]} |"
    cells = [load.name, spread(result.nginx), spread(result.proxy), shown(result.ratio, ".2f")]
    cells.append(limit(load))
    everyone = (result.nginx, result.proxy, result.direct)
    cells.append(", ".join(shown(number(samples, "rate")) for samples in everyone))
    for key in ("latency_us", "first_byte_us") if load.stream else ("latency_us",):
        for samples in (result.nginx, result.proxy):
            pair = (number(samples, key, "p50"), number(samples, key, "p99"))
            cells.append(", ".join(map(shown, pair)))
    if not load.stream:
        cells += ["", ""]
    return "| " + " | ".join([*cells, note(result)]) + " |"


def limit(load: Load) -> str:
    if load.added_must is not None:
        return f"+{load.added_must:g} µs"
    if load.plain_must is not None:
        return f"{load.plain_must:g} × plain"
    goal = f" (goal {load.goal:g})" if load.goal is not None else ""
    return f"{load.must:g}{goal}" if load.must is not None else ""


def note(result: Result) -> str:
    notes = []
    if result.added is not None:
        times = result.cpu(result.proxy) / result.cpu(result.plain)
        notes.append(
            f"{result.added:+.1f} µs ({times:.2f} ×) over {spread(result.plain)} without plugins"
        )
    if result.load.stream == "paced":
        gaps = [number(samples, "gap_us", "p99") for samples in (result.nginx, result.proxy)]
        per_chunk = [
            shown(result.cpu(samples) / CHUNKS if samples else None, ".1f")
            for samples in (result.nginx, result.proxy)
        ]
        notes.append(f"gap p99 {shown(gaps[0])}, {shown(gaps[1])} µs")
        notes.append(f"CPU a chunk {per_chunk[0]}, {per_chunk[1]} µs")
    direct, others = number(result.direct, "rate"), result.nginx + result.proxy
    paces_itself = result.load.stream == "paced" or result.load.rate
    if direct and others and not paces_itself:
        fastest = max(sample.seen["rate"] for sample in others)
        if direct < 1.5 * fastest:
            notes.append(f"load-bound: direct is only {direct / fastest:.1f}× the fastest rate")
    steal = max((sample.steal for sample in others), default=0)
    if steal > MOST_STEAL:
        notes.append(f"{steal:.0%} stolen")
    return "; ".join(notes)


def is_missed(result: Result) -> bool:
    load = result.load
    if result.problem:
        return True
    if load.added_must is not None and result.added is not None:
        return result.added > load.added_must
    if load.plain_must is not None and result.proxy and result.plain:
        return result.cpu(result.proxy) > load.plain_must * result.cpu(result.plain)
    return load.must is not None and result.ratio is not None and result.ratio > load.must


def figure_row(figure: single.Figure) -> str:
    must = shown(figure.must, "g")
    nginx = single.spread(figure.nginx) if figure.nginx else "-"
    return f"| {figure.name} | {figure.unit} | {nginx} | {single.spread(figure.proxy)} | {must} |"


def as_json(result: Result) -> dict[str, Any]:
    out: dict[str, Any] = {"name": result.load.name, "problem": result.problem}
    out |= {"ratio": result.ratio, "added_us": result.added, "must": result.load.must}
    for who in ("nginx", "proxy", "plain", "direct"):
        samples: list[Sample] = getattr(result, who)
        out[who] = [vars(sample) for sample in samples]
    return out


# --- the command ----------------------------------------------------------------------------------


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="e.g. 'raw/*'")
    parser.add_argument("--all", action="store_true", help="every pair of formats too")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short runs, twice: for a look")
    parser.add_argument("--scale", type=float, default=1, help="of the length of each run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything that was seen")
    parser.add_argument("--without-proxy", action="store_true", help="nginx and direct only")
    parser.add_argument("--binaries", type=Path, help="folder of mock_upstream and load_generator")
    parser.add_argument("--python", default=sys.executable, help="the Python that runs the proxy")
    parser.add_argument("--nginx-body-buffer", default="2m", metavar="SIZE")
    parser.add_argument("--keep", action="store_true", help="keep the folder with configs and logs")
    return parser.parse_args(argv)


def chosen(names: list[str], patterns: list[str] | None) -> list[str]:
    if not patterns:
        return names
    found = [name for name in names if any(fnmatch.fnmatch(name, p) for p in patterns)]
    if not found:
        raise BenchError(f"no scenario is called {', '.join(patterns)}; see --list")
    return found


def main(argv: list[str] | None = None) -> int:
    given = arguments(argv)
    try:
        return run(given)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    everything = [load.name for load in LOADS]
    usual = everything if given.all or given.only else [x.name for x in LOADS if not x.extra]
    figures = [] if given.without_proxy else list(single.FIGURES)
    if given.list:
        print(*everything, *single.FIGURES, sep="\n")
        return 0
    names = chosen([*usual, *figures], given.only)
    if (os.cpu_count() or 1) < 2:
        raise BenchError("two cores are needed: one for the proxy, one for the load")
    repeats, scale = (2, 0.15 * given.scale) if given.quick else (given.repeats, given.scale)
    options = Options(repeats, scale, given.without_proxy)
    folder = Path(tempfile.mkdtemp(prefix="llm-proxy-bench-"))
    binaries = build_binaries(given.binaries)
    missed: list[str] = []
    seen: dict[str, Any] = {
        "machine": cpu_model(),
        "kernel": os.uname().release,
        "when": time.ctime(),
    }
    try:
        with House(binaries, folder, given.python, given.nginx_body_buffer) as house:
            print(
                f"{cpu_model()}, {os.cpu_count()} cores; load {load_average()}; {repeats} repeats\n"
            )
            missed += measure_loads(house, options, names, seen)
            if not given.without_proxy:
                settings = single.Settings(repeats, 200 if given.quick else 2000)
                missed += measure_figures(house, settings, names, seen)
    finally:
        if given.json:
            given.json.write_text(json.dumps(seen, indent=1))
        if given.keep:
            print(f"\nconfigs and logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if missed:
        print(f"\nmissed: {', '.join(missed)}")
    return 1 if missed else 0


def measure_loads(
    house: House, options: Options, names: list[str], seen: dict[str, Any]
) -> list[str]:
    loads = [load for load in LOADS if load.name in names]
    if loads:
        print(HEADER + "\n|" + "---|" * HEADER.count(" |"))
    bench = Bench(house, options)
    missed = []
    seen["loads"] = []
    for load in loads:
        if options.without_proxy and not load.upstream:
            continue
        result = bench.run(load)
        print(row(result), flush=True)
        seen["loads"].append(as_json(result))
        if is_missed(result):
            missed.append(load.name)
    return missed


def measure_figures(
    house: House, settings: single.Settings, names: list[str], seen: dict[str, Any]
) -> list[str]:
    kinds = [kind for kind in single.FIGURES if kind in names]
    if kinds:
        print("\n| figure | unit | nginx | proxy | must |\n|---|---|---|---|---|")
    missed = []
    seen["figures"] = []
    for kind in kinds:
        house.keep_only(())
        try:
            figures = single.FIGURES[kind](house, settings)
        except (BenchError, OSError) as error:
            print(f"| {kind} | failed: {' '.join(str(error).split())[:400]} |", flush=True)
            missed.append(kind)
            continue
        for figure in figures:
            print(figure_row(figure), flush=True)
            seen["figures"].append(vars(figure))
            if figure.must is not None and median(figure.proxy) > figure.must:
                missed.append(figure.name)
    return missed


if __name__ == "__main__":
    sys.exit(main())
