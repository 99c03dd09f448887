"""Figures that are not a rate: memory, start, cancellation, a plugin that blocks its loop."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import bodies
from bench.scenarios import OPENAI
from bench.servers import (
    CLIENT_KEY,
    HTTPX_ALONE,
    LOAD_CORE,
    PROXY_CORE,
    BenchError,
    House,
    Running,
    Variant,
    pinned,
)

BLOCKING = Variant(python_backends=True)
HTTPX = Variant("bench-httpx", python_backends=True)
OWN_HTTPX = Variant("bench-own-httpx", python_backends=True)


@dataclass
class Figure:
    """One line of the second table."""

    name: str
    unit: str
    proxy: list[float]
    nginx: list[float] = field(default_factory=list)
    must: float | None = None


@dataclass(frozen=True)
class Settings:
    repeats: int
    streams: int  # for memory per idle stream


def request_head(length: int, path: str = "/v1/chat/completions") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {CLIENT_KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def ask(port: int, body: bytes, timeout: float = 30) -> tuple[int, bytes]:
    """One plain request; its status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"authorization": f"Bearer {CLIENT_KEY}", "content-type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", body, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()


# --- memory ---------------------------------------------------------------------------------------


def memory(house: House, settings: Settings) -> list[Figure]:
    """RSS of a fresh proxy, and what each of many open, silent streams adds."""
    idle: dict[str, list[float]] = {"proxy": [], "nginx": []}
    each: dict[str, list[float]] = {"proxy": [], "nginx": []}
    proxy = house.new_proxy(OPENAI)
    with contextlib.ExitStack() as stack:
        stack.callback(proxy.stop)
        for name, server in (("proxy", proxy), ("nginx", house.nginx)):
            ask(server.port, bodies.chat(bodies.small(), "bench"))
            before = server.tree.rss_kb()
            idle[name].append(before / 1024)
            with held_streams(house, server, settings.streams):
                time.sleep(0.5)
                each[name].append((server.tree.rss_kb() - before) / settings.streams)
    return [
        Figure("memory/idle", "MB RSS", idle["proxy"], idle["nginx"], 70),
        Figure("memory/idle-stream", "KB RSS", each["proxy"], each["nginx"], 24),
    ]


@contextlib.contextmanager
def held_streams(house: House, server: Running, count: int) -> Any:
    body = house.folder / "idle.json"
    body.write_bytes(bodies.chat(bodies.small(), "bench-idle", True))
    command = [str(house.binaries / "load_generator"), "--port", str(server.port), "--hold"]
    command += ["--path", "/v1/chat/completions", "--connections", str(count), "--body", str(body)]
    command += ["--header", f"authorization: Bearer {CLIENT_KEY}", "--seconds", "30"]
    holder = subprocess.Popen(
        pinned(LOAD_CORE, *command), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        said = holder.stdout.readline().decode()
        if not said.startswith("held"):
            raise BenchError(f"{server.name} does not hold {count} streams: {said}")
        yield
    finally:
        holder.stdin.close()
        holder.wait(10)


# --- start ----------------------------------------------------------------------------------------


def cold_start(house: House, settings: Settings) -> list[Figure]:
    """From exec to the first proxied reply."""
    body = bodies.chat(bodies.small(), "bench")
    seconds = []
    for _ in range(settings.repeats):
        proxy = house.new_proxy(OPENAI)
        try:
            status, reply = ask(proxy.port, body)
            seconds.append(time.monotonic() - proxy.started_at)
            if status != 200:
                raise BenchError(f"the first reply is {status}: {reply[:300]!r}")
        finally:
            proxy.stop()
    return [Figure("start/first-reply", "s", seconds, must=0.6)]


# --- cancellation ---------------------------------------------------------------------------------


def cancellation(house: House, settings: Settings) -> list[Figure]:
    """From a client's reset to the close of its upstream connection."""
    figures = []
    tries = range(4 * settings.repeats)
    for name, model, reads in (
        ("cancel/mid-stream", "bench-paced", True),
        ("cancel/before-first-byte", "bench-silent", False),
    ):
        servers: dict[str, Running] = {"proxy": house.proxy(OPENAI), "nginx": house.nginx}
        took = {
            who: [reset_to_close(house, server.port, model, reads) for _ in tries]
            for who, server in servers.items()
        }
        figures.append(Figure(name, "ms", took["proxy"], took["nginx"], 20))
    return figures


def reset_to_close(house: House, port: int, model: str, reads: bool) -> float:
    """Milliseconds."""
    body = bodies.chat(bodies.small(), model, True)
    before = house.mock.stats()
    client = socket.create_connection(("127.0.0.1", port), 5)
    client.sendall(request_head(len(body)) + body)
    if reads:
        client.recv(65536)
    wait_for(lambda: house.mock.stats()["requests"] > before["requests"], "the upstream's request")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset_at = time.monotonic_ns()
    client.close()
    wait_for(lambda: house.mock.stats()["aborted"] > before["aborted"], "the upstream's close")
    closed_at: int = house.mock.stats()["aborts_ns"][-1]
    return (closed_at - reset_at) / 1e6


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.002)


# --- a plugin that blocks -------------------------------------------------------------------------


def blocked_loop(house: House, settings: Settings) -> list[Figure]:
    """p99 of requests that need no Python while a backend plugin blocks the loop over and over."""
    return [
        beside(house, settings, "blocked-loop/p99", "bench-blocking:bench"),
        beside(house, settings, "busy-loop/p99", "bench-computing:bench"),
    ]


def beside(house: House, settings: Settings, name: str, model: str) -> Figure:
    proxy = house.proxy(BLOCKING)
    blocking = bodies.chat(bodies.small(), model)
    stop = threading.Event()
    answers: list[tuple[int, bytes]] = []

    def keep_blocking() -> None:
        while not stop.is_set():
            answers.append(ask(proxy.port, blocking))

    body = house.folder / "beside.json"
    body.write_bytes(bodies.chat(bodies.small(), "bench"))
    ask(proxy.port, body.read_bytes())  # the first one waits for the lists of models, by design
    thread = threading.Thread(target=keep_blocking)
    thread.start()
    p99: dict[int, list[float]] = {proxy.port: [], house.nginx.port: []}
    try:
        time.sleep(0.2)
        for _ in range(settings.repeats):
            for port, seen in p99.items():
                reply = generate(house, port, body, connections=4, seconds=2, rate=1000)
                seen.append(reply["latency_us"]["p99"] / 1e3)
    finally:
        stop.set()
        thread.join()
    wrong = [answer for answer in answers if answer[0] != 200]
    if wrong or len(answers) < settings.repeats:
        raise BenchError(f"the loop was blocked {len(answers)} times; {wrong[:1]}")
    return Figure(name, "ms", p99[proxy.port], p99[house.nginx.port], must=5)


def generate(house: House, port: int, body: Path, **options: float) -> dict[str, Any]:
    command = [str(house.binaries / "load_generator"), "--port", str(port)]
    command += ["--path", "/v1/chat/completions", "--body", str(body)]
    command += ["--header", f"authorization: Bearer {CLIENT_KEY}"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(
        pinned(LOAD_CORE, *command), capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode:
        raise BenchError(f"the load generator failed: {done.stderr}")
    seen: dict[str, Any] = json.loads(done.stdout)
    if seen["first_error"]:
        raise BenchError(seen["first_error"])
    return seen


# --- a backend plugin on httpx --------------------------------------------------------------------


def httpx_backend(house: House, settings: Settings) -> list[Figure]:
    """What the proxy costs over the httpx calls that a streaming backend plugin makes anyway."""
    body = house.folder / "httpx.json"
    body.write_bytes(bodies.chat(bodies.small(), "bench", True))
    alone: list[float] = []
    through: dict[Variant, list[float]] = {HTTPX: [], OWN_HTTPX: []}
    proxies = {variant: house.proxy(variant) for variant in through}
    for proxy in proxies.values():
        generate(house, proxy.port, body, connections=4, seconds=0.5)
    for _ in range(settings.repeats):
        done = subprocess.run(
            pinned(PROXY_CORE, house.python, "-c", HTTPX_ALONE, "200"),
            env=proxies[HTTPX].environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(done.stderr[-500:])
        alone.append(float(done.stdout))
        for variant, proxy in proxies.items():
            cpu = proxy.tree.cpu_us()
            seen = generate(house, proxy.port, body, connections=4, seconds=10, requests=200)
            through[variant].append((proxy.tree.cpu_us() - cpu) / seen["ok"])

    def ratios(variant: Variant) -> list[float]:
        return [a / b for a, b in zip(through[variant], alone, strict=True)]

    return [
        Figure(
            "python/httpx-stream", "µs CPU; in nginx's place httpx alone", through[HTTPX], alone
        ),
        Figure("python/httpx-ratio", "× httpx alone", ratios(HTTPX), must=1.15),
        Figure("python/own-httpx-ratio", "×; the plugin made its client itself", ratios(OWN_HTTPX)),
    ]


def routing(house: House, settings: Settings) -> list[Figure]:
    """Finding the route, choosing a key and asking the breaker, of a request that goes well."""
    return [Figure("routing/request", "µs", cost_of(house, settings, "route_cost"), must=1.5)]


def empty_rings(house: House, settings: Settings) -> list[Figure]:
    """What an exchange asks of a generation that holds no plugin."""
    return [Figure("rings/empty", "µs", cost_of(house, settings, "ring_cost"), must=0.3)]


def cost_of(house: House, settings: Settings, name: str) -> list[float]:
    program = house.binaries / name
    if not program.exists():
        raise BenchError(f"{name} needs the engine: ./dev build")
    seen = []
    for _ in range(settings.repeats):
        done = subprocess.run([*pinned(PROXY_CORE), program], capture_output=True, check=True)
        seen.append(float(done.stdout) / 1000)
    return seen


FIGURES: dict[str, Callable[[House, Settings], list[Figure]]] = {
    "memory": memory,
    "start": cold_start,
    "cancel": cancellation,
    "blocked-loop": blocked_loop,
    "httpx": httpx_backend,
    "routing": routing,
    "rings": empty_rings,
}


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"
