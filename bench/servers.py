"""What runs in the bench, all on 127.0.0.1: the mock provider, nginx, the proxy in its variants."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bench.measure import ProcessTree

ROOT = Path(__file__).resolve().parent.parent
CLIENT_KEY = "bench-client-key-0123456789abcdef"
PROXY_CORE, LOAD_CORE = "0", "1"


class BenchError(Exception):
    """Something of the bench itself does not work; the message is for the user."""


def pinned(core: str, *command: str) -> list[str]:
    return ["taskset", "-c", core, *command]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """A server that runs until it is stopped."""

    def __init__(self, name: str, command: list[str], log: Path, **options: Any) -> None:
        self.name = name
        self.log = log
        self._log_file: IO[bytes] = log.open("wb")
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=self._log_file,
            **{"stdout": self._log_file, **options},
        )
        self.tree = ProcessTree(self.process.pid)
        self.port = 0

    def wait_for_port(self, seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise BenchError(f"{self.name} does not listen:\n{self.last_words()}")

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log_file.close()


class Mock(Running):
    def __init__(self, binary: Path, folder: Path) -> None:
        super().__init__(
            "mock upstream",
            pinned(LOAD_CORE, str(binary)),
            folder / "mock.log",
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if len(words) != 2:
            raise BenchError(f"the mock upstream does not start: {self.last_words()}")
        self.port = int(words[1])

    def stats(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", "/bench/stats")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer


NGINX_CONF = """\
daemon off;
user {user};
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 10000; }}
http {{
  access_log {folder}/nginx-access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size {body_buffer};
  keepalive_requests 100000000;
  upstream mock {{
    server 127.0.0.1:{upstream};
    keepalive 128;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
    }}
  }}
}}
"""


class Nginx(Running):
    def __init__(self, upstream: int, folder: Path, body_buffer: str) -> None:
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        if not os.access(binary, os.X_OK):
            raise BenchError("nginx, the yardstick, is missing: apt-get install nginx-light")
        port = free_port()
        conf = folder / "nginx.conf"
        conf.write_text(
            NGINX_CONF.format(
                folder=folder,
                port=port,
                upstream=upstream,
                body_buffer=body_buffer,
                user=pwd.getpwuid(os.getuid()).pw_name,
            )
        )
        command = pinned(PROXY_CORE, binary, "-p", str(folder), "-c", str(conf))
        super().__init__("nginx", command, folder / "nginx.log")
        self.port = port
        self.wait_for_port()


@dataclass(frozen=True)
class Variant:
    """One way to configure the proxy."""

    backend: str = "openai"  # the default backend
    plugins: tuple[str, ...] = ()  # functions of RING_PLUGINS, in PRE_FLIGHT
    builtins: tuple[str, ...] = ()  # names of plugins that come with the proxy
    python_backends: bool = False


# The bench's ring plugins, as a user would write them.
RING_PLUGINS = '''\
async def _nothing():
    pass


async def direct(ctx):
    """Cannot suspend: driven to its end without a task."""


async def eager(ctx):
    """Might suspend for all the proxy knows: gets a task."""
    await _nothing()
'''

# The bench's backend plugins: `bench-python` answers at once, `bench-blocking` holds the loop
# for a second first, `bench-computing` computes as long, `bench-httpx` streams from the mock as a
# user's connector would, through the client that backends are given; `bench-own-httpx` makes a
# client of its own; `bench-native` lends the engine a key and leaves the rest to it.
BACKEND_PLUGIN = """\
import json
import os
import time

import httpx

from llm_proxy.native import Credentials, NativeBackend, NativeSpec
from src.connectors.base import LLMBackend
from src.connectors.contracts import ConnectorChatCompletionsRequest
from src.core.domain.responses import ResponseEnvelope, StreamingResponseEnvelope
from src.core.interfaces.response_processor_interface import ProcessedResponse
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility

PIECES = [" the", " test", " compares", " numbers", " with", " a", " tolerance", " everywhere"]


def reply(text):
    return {
        "id": "chatcmpl-bench", "object": "chat.completion", "created": 1761998400,
        "model": "bench",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
                     "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 74, "completion_tokens": 62, "total_tokens": 136},
    }


def chunk(delta, finish=None):
    return {
        "id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1761998400,
        "model": "bench", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


async def chunks():
    yield ProcessedResponse(content=chunk({"role": "assistant", "content": ""}))
    for n in range(64):
        yield ProcessedResponse(content=chunk({"content": PIECES[n % len(PIECES)]}))
    yield ProcessedResponse(content=chunk({}, "stop"))


class BenchBackend(LLMBackend):
    backend_type = "bench-python"
    hold = 0.0

    def __init__(self, client, config, translation_service=None):
        super().__init__(config)

    async def initialize(self, **kwargs):
        pass

    def get_available_models(self):
        return ["bench"]

    async def chat_completions(self, request: ConnectorChatCompletionsRequest):
        if self.hold:
            time.sleep(self.hold)
        if request.request.stream:
            return StreamingResponseEnvelope(content=chunks())
        return ResponseEnvelope(content=reply("harmless after the switch to single precision."))


class BlockingBackend(BenchBackend):
    backend_type = "bench-blocking"
    hold = 1.0


class ComputingBackend(BenchBackend):
    backend_type = "bench-computing"

    async def chat_completions(self, request: ConnectorChatCompletionsRequest):
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            pass
        return await super().chat_completions(request)


async def httpx_chunks(client):
    body = {"model": "bench", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    async with client.stream("POST", os.environ["BENCH_UPSTREAM"], json=body) as reply:
        async for line in reply.aiter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line[6:])


class HttpxBackend(BenchBackend):
    backend_type = "bench-httpx"

    def __init__(self, client, config, translation_service=None):
        super().__init__(client, config, translation_service)
        self.client = client

    async def chat_completions(self, request: ConnectorChatCompletionsRequest):
        async def stream():
            async for content in httpx_chunks(self.client):
                yield ProcessedResponse(content=content)

        return StreamingResponseEnvelope(content=stream())


class OwnHttpxBackend(HttpxBackend):
    backend_type = "bench-own-httpx"

    def __init__(self, client, config, translation_service=None):
        super().__init__(httpx.AsyncClient(), config, translation_service)


class Native(NativeBackend):
    backend_type = "bench-native"

    @classmethod
    def native_spec(cls, config):
        upstream = os.environ["BENCH_UPSTREAM"].removesuffix("/chat/completions")
        return NativeSpec(upstream, "openai-chat")

    async def credentials(self, refused=None):
        return Credentials("bench-upstream-key", expires_at=time.time() + 3600)


def _definition(name, factory):
    return BackendPluginDefinition(
        backend_name=name, factory=factory, plugin_name=name,
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )


def python():
    return _definition("bench-python", BenchBackend)


def blocking():
    return _definition("bench-blocking", BlockingBackend)


def computing():
    return _definition("bench-computing", ComputingBackend)


def given_client():
    return _definition("bench-httpx", HttpxBackend)


def own_client():
    return _definition("bench-own-httpx", OwnHttpxBackend)


def native():
    return _definition("bench-native", Native)
"""

# The calls of `bench-httpx` with no proxy around them; prints CPU-µs a stream.
HTTPX_ALONE = """\
import asyncio
import sys
import time

import httpx

from bench_backends import httpx_chunks


async def streams(client, count):
    for _ in range(count):
        async for _chunk in httpx_chunks(client):
            pass


async def main():
    async with httpx.AsyncClient() as client:
        await asyncio.gather(*(streams(client, 5) for _ in range(4)))
        before, count = time.process_time(), int(sys.argv[1])
        await asyncio.gather(*(streams(client, count // 4) for _ in range(4)))
        print((time.process_time() - before) * 1e6 / (count // 4 * 4))


asyncio.run(main())
"""


class Proxy(Running):
    """`python -m cli` with client keys, routing and the access log on, as a user starts it."""

    def __init__(self, variant: Variant, upstream: int, folder: Path, python: str) -> None:
        self.variant = variant
        folder.mkdir(parents=True)
        self._folder = folder
        self._write_config(upstream)
        path = [str(ROOT / "python"), str(ROOT / "python" / "compat")]
        if variant.python_backends:
            path.append(str(self._write_backend_plugin()))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(path),
            "API_KEYS": CLIENT_KEY,
            "BENCH_UPSTREAM": f"http://127.0.0.1:{upstream}/v1/chat/completions",
        }
        self.started_at = time.monotonic()
        super().__init__(
            f"the proxy ({folder.name})",
            pinned(PROXY_CORE, python, "-m", "cli", "--config", "config.yaml"),
            folder / "proxy.log",
            stdout=subprocess.PIPE,
            cwd=folder,
            env=self.environment,
        )
        self.port = self._port_of_banner()

    def _write_config(self, upstream: int) -> None:
        sections = ("openai", "anthropic", "gemini", "openai-responses")
        lines = ["host: 127.0.0.1", "port: 0", "io_threads: 1", "logging:"]
        lines += ["  access_log: true", f"  access_log_file: {self._folder / 'access.log'}"]
        lines += ["backends:", f"  default_backend: {self.variant.backend}"]
        for section in sections:
            version = "v1beta" if section == "gemini" else "v1"
            lines += [f"  {section}:", f"    api_url: http://127.0.0.1:{upstream}/{version}"]
            lines += ["    api_key: bench-upstream-key"]
        if self.variant.plugins:
            plugins = self._folder / "plugins"
            plugins.mkdir()
            (plugins / "bench_rings.py").write_text(RING_PLUGINS)
            manifest = ["plugins:"]
            for n, name in enumerate(self.variant.plugins):
                manifest += [f"  - name: {name} {n}", "    hook: pre_flight", "    type: python"]
                manifest += [f"    entrypoint: bench_rings:{name}", f"    priority: {n}"]
            (plugins / "manifest.yaml").write_text("\n".join(manifest) + "\n")
            lines += ["plugins:", f"  directory: {plugins}"]
        elif self.variant.builtins:
            lines += ["plugins:", f"  enabled: {json.dumps(self.variant.builtins)}"]
        (self._folder / "config.yaml").write_text("\n".join(lines) + "\n")

    def _write_backend_plugin(self) -> Path:
        site = self._folder / "site"
        info = site / "bench_backends-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "bench_backends.py").write_text(BACKEND_PLUGIN)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: bench-backends\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(
            "[llm_proxy_backends]\n"
            "bench-python = bench_backends:python\n"
            "bench-blocking = bench_backends:blocking\n"
            "bench-computing = bench_backends:computing\n"
            "bench-httpx = bench_backends:given_client\n"
            "bench-own-httpx = bench_backends:own_client\n"
            "bench-native = bench_backends:native\n"
        )
        return site

    def _port_of_banner(self) -> int:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.search(rb"http://127\.0\.0\.1:(\d+)", line):
                return int(found[1])
        raise BenchError(f"{self.name} does not start:\n{self.last_words()}")


def build_binaries(folder: Path | None) -> Path:
    """The folder with the two programs, built if it has to be."""
    programs = ("mock_upstream", "load_generator")
    for candidate in (folder, ROOT / "build/dev/bench"):
        if candidate and all((candidate / program).exists() for program in programs):
            return candidate
    build = ROOT / "build/bench"
    for command in (
        ["cmake", "-S", str(ROOT / "bench"), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release"],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return build


@dataclass
class House:
    """Everything that runs, started when first asked for and stopped at the end."""

    binaries: Path
    folder: Path
    python: str = sys.executable
    nginx_body_buffer: str = "2m"
    _proxies: dict[Variant, Proxy] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> House:
        self.mock = Mock(self.binaries / "mock_upstream", self.folder)
        self._stack.callback(self.mock.stop)
        with contextlib.ExitStack() as undo:
            undo.callback(self.mock.stop)
            self.nginx = Nginx(self.mock.port, self.folder, self.nginx_body_buffer)
            undo.pop_all()
        self._stack.callback(self.nginx.stop)
        return self

    def __exit__(self, *error: object) -> None:
        self.keep_only(())
        self._stack.close()

    def proxy(self, variant: Variant) -> Proxy:
        if variant not in self._proxies:
            self._proxies[variant] = self.new_proxy(variant)
        return self._proxies[variant]

    def new_proxy(self, variant: Variant) -> Proxy:
        n = sum(1 for path in self.folder.iterdir() if path.name.startswith("proxy-"))
        return Proxy(variant, self.mock.port, self.folder / f"proxy-{n}", self.python)

    def keep_only(self, variants: tuple[Variant, ...]) -> None:
        """Stops the proxies of other variants, so that they take neither memory nor ticks."""
        for variant in [known for known in self._proxies if known not in variants]:
            self._proxies.pop(variant).stop()
