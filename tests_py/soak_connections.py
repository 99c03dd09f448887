"""Everything that can happen to connections, at once, for some minutes.

Usage: python -m soak_connections MINUTES, or under sanitizers ./dev soak [address|thread] MINUTES.

Clients cancel, send half a request, pipeline, drip, shut down one direction, reset; ring plugins do
odd things and raise; the plugins are swapped and the configuration is read anew (SIGHUP) all the
while; the provider stalls, cuts and resets. The program under test is `python -m cli` with this
interpreter's environment, so that ./dev soak can put a sanitizer under it.

Exit status 1: the program died, did not answer afterwards, did not end on SIGTERM, or a sanitizer
reported something. What it said is in the file that is named then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from e2e.answers import Answer
from e2e.conftest import PYTHON_PROGRAM
from e2e.upstream import Close, Received, Reply, Reset, Stall, Upstream, answering, error, stream
from rings.test_odd_plugins import DEEDS, RINGS, SOURCE

CLIENTS = 24
REPORTS = (
    b"AddressSanitizer",
    b"ThreadSanitizer",
    b"LeakSanitizer",
    b"runtime error:",
    b"defect:",  # the engine's own word for what must not happen
    b"terminate called",
)
PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
answered = answering(Answer("Zażółć gęślą jaźń. " * 8))


def provide(request: Received) -> Reply:
    """Mostly an answer; now and then what providers do on a bad day."""
    dice = random.random()
    if dice < 0.7:
        return answered(request)
    if dice < 0.75:
        return error(429, "rate_limit", "slow down", ("retry-after", "1"))
    if dice < 0.8:
        return error(503, "overloaded", "later")
    if dice < 0.85:
        return Reply(silent=True)
    said = answered(request)
    ending = random.choice((Stall(), Reset(), Close()))
    steps = list(said.steps)
    if said.streamed:
        return stream([*steps[: random.randrange(1, len(steps) + 1)], ending])
    return Reply(steps=(b"{", ending), streamed=True)


def request(rng: random.Random) -> bytes:
    path = rng.choice(PATHS)
    text = "grüße " * rng.choice((1, 50, 5000))
    asked: dict[str, object] = {"model": rng.choice(("m", "echo:m", "m|echo:m", "m!echo:m"))}
    asked["stream"] = rng.random() < 0.6
    if path == "/v1/responses":
        asked["input"] = text
    else:
        asked |= {"max_tokens": 50, "messages": [{"role": "user", "content": text}]}
    body = json.dumps(asked).encode()
    deed = f"{rng.choice(RINGS)}|{rng.choice(DEEDS)}" if rng.random() < 0.2 else ""
    head = f"POST {path} HTTP/1.{rng.choice('1110')}\r\nhost: x\r\nx-deed: {deed}\r\n".encode()
    if rng.random() < 0.2 and b"HTTP/1.1" in head:
        cut = rng.randrange(1, len(body))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:cut], body[cut:]))
        return head + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEALTH = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


async def whole(pair: Pair, rng: random.Random) -> None:
    pair[1].write(request(rng))
    await asyncio.wait_for(pair[0].readuntil(b"\r\n\r\n"), 3)


async def half(pair: Pair, rng: random.Random) -> None:
    sent = request(rng)
    pair[1].write(sent[: rng.randrange(1, len(sent))])
    await pair[1].drain()
    await asyncio.sleep(rng.random() * 0.1)


async def cancel(pair: Pair, rng: random.Random) -> None:
    pair[1].write(request(rng))
    await asyncio.wait_for(pair[0].read(rng.randrange(1, 2000)), rng.random())


async def finish(pair: Pair, rng: random.Random) -> None:
    pair[1].write(request(rng))
    pair[1].write_eof()
    await asyncio.wait_for(pair[0].read(), rng.random() * 3)


async def pipeline(pair: Pair, rng: random.Random) -> None:
    sent = b"".join(rng.choice((HEALTH, request(rng))) for _ in range(rng.randrange(2, 6)))
    cut = rng.randrange(1, len(sent))
    pair[1].write(sent[:cut])
    await pair[1].drain()
    await asyncio.sleep(rng.random() * 0.05)
    pair[1].write(sent[cut:] + b"A" * rng.choice((0, 0, 100, 200_000)))
    await asyncio.wait_for(pair[0].read(65536), 1)


async def drip(pair: Pair, rng: random.Random) -> None:
    for byte in request(rng)[: rng.randrange(1, 300)]:
        pair[1].write(bytes((byte,)))
        await asyncio.sleep(rng.choice((0, 0, 0.001)))


async def nonsense(pair: Pair, rng: random.Random) -> None:
    pair[1].write(rng.randbytes(rng.randrange(1, 3000)))
    await asyncio.wait_for(pair[0].read(65536), 1)


DEEDS_OF_CLIENTS: tuple[Callable[[Pair, random.Random], Awaitable[None]], ...] = (
    whole,
    whole,
    half,
    cancel,
    finish,
    pipeline,
    drip,
    nonsense,
)


async def client(port: int, number: int, until: float, done: Counter[str]) -> None:
    rng = random.Random(number)
    while asyncio.get_running_loop().time() < until:
        deed = rng.choice(DEEDS_OF_CLIENTS)
        try:
            pair = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            done["refused"] += 1
            await asyncio.sleep(0.1)
            continue
        with suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            await deed(pair, rng)
        pair[1].transport.abort() if rng.random() < 0.5 else pair[1].close()
        done[deed.__name__] += 1  # type: ignore[attr-defined]


def write_configuration(folder: Path, upstream: Upstream, number: int) -> Path:
    """Another generation of everything that a SIGHUP takes up: backends, limits, plugins."""
    (folder / "odd.py").write_text(f"{SOURCE}\nGENERATION = {number}\n")
    rings = RINGS if number % 3 else RINGS[:2]
    rows = [{"name": r, "hook": r, "entrypoint": f"odd:{r}", "fail_policy": "open"} for r in rings]
    (folder / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    provider = {"api_url": upstream.url, "api_key": f"key-{number}"}
    file = folder / "proxy.yaml"
    config = {
        "default_backend": "provider",
        "backends": {"provider": {"type": "openai-compatible", **provider}},
        "timeouts": {"client_body": 1 + number % 3, "keep_alive": 1, "first_byte": 3},
        "failure_handling": {"enabled": bool(number % 2)},
    }
    file.write_text(json.dumps(config))
    return file


@asynccontextmanager
async def serving(
    folder: Path, file: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The program; its port. What it says goes to folder/said."""
    with (folder / "said").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *PYTHON_PROGRAM,
            *("--port", "0", "--config", str(file), "--plugins-dir", str(folder)),
            env={**os.environ, "LLM_PROXY_IO_THREADS": "2"}
            | {"LLM_PROXY_ACCESS_LOG_FILE": os.devnull},
            stdout=asyncio.subprocess.PIPE,
            stderr=said,
        )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode().strip()
        yield process, int(line.rsplit(":", 1)[1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def reload_on_and_on(
    process: asyncio.subprocess.Process, folder: Path, upstream: Upstream, until: float
) -> None:
    number = 1
    while asyncio.get_running_loop().time() < until and process.returncode is None:
        write_configuration(folder, upstream, number)
        process.send_signal(signal.SIGHUP)
        number += 1
        await asyncio.sleep(0.7)


async def healthy(port: int) -> bool:
    with suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEALTH)
        said = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        writer.close()
        return said.startswith(b"HTTP/1.1 200 ")
    return False


async def soak(minutes: float, folder: Path) -> list[str]:
    """What went wrong."""
    wrong: list[str] = []
    done: Counter[str] = Counter()
    async with Upstream(provide) as upstream:
        upstream.requests = deque(maxlen=64)  # type: ignore[assignment]  # what it heard is not kept
        file = write_configuration(folder, upstream, 0)
        async with serving(folder, file) as (process, port):
            until = asyncio.get_running_loop().time() + minutes * 60
            clients = (client(port, number, until, done) for number in range(CLIENTS))
            await asyncio.gather(reload_on_and_on(process, folder, upstream, until), *clients)
            if not await healthy(port):
                wrong.append("it does not answer any more")
            if process.returncode is None:
                process.terminate()
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), 120)
            if process.returncode != 0:
                wrong.append(f"it ended with {process.returncode}")
    said = (folder / "said").read_bytes()
    wrong += [f"it said {report.decode()!r}" for report in REPORTS if report in said]
    if sum(done.values()) < CLIENTS:
        wrong.append("almost nothing was done")
    print(", ".join(f"{count} {name}" for name, count in sorted(done.items())), flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("minutes", type=float)
    minutes = parser.parse_args().minutes
    folder = Path(tempfile.mkdtemp(prefix="soak_connections_"))
    wrong = asyncio.run(asyncio.wait_for(soak(minutes, folder), minutes * 60 + 400))
    for line in wrong:
        print(line, "- see", folder / "said", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
