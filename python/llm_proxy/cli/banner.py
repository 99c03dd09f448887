"""What is printed once the proxy listens: with what it serves, whom, and where to look."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from llm_proxy import __version__
from llm_proxy.config.guards import is_loopback
from llm_proxy.config.settings import Backend, Settings

if TYPE_CHECKING:
    from llm_proxy.server import Server

_BOLD, _DIM, _PLAIN = "\033[1m", "\033[2m", "\033[0m"
_WIDTH = 16


def show(settings: Settings, server: Server, files: Iterable[str]) -> None:
    """Prints it: one JSON object if the log is in JSON, else lines for people."""
    rings = rings_of(server)
    if settings.text("logging.format") == "json":
        facts = _facts(settings, server.port, server.anthropic_port, rings, files)
        print(json.dumps(facts, ensure_ascii=False), flush=True)
        return
    text = banner(settings, server.port, server.anthropic_port, rings, files)
    print(_coloured(text) if _colours(settings) else text, flush=True)


def rings_of(server: Server) -> dict[str, list[str]]:
    """The names of the plugins that run, by ring, in the order they run."""
    out: dict[str, list[str]] = {}
    if server.plugins is not None:
        for ring, rows in server.plugins.rings.items():
            names = [str(row["name"]) for row in rows]
            if names:
                out[ring.value] = names
    return out


def banner(
    settings: Settings,
    port: int,
    anthropic_port: int = 0,
    rings: Mapping[str, list[str]] | None = None,
    files: Iterable[str] = (),
) -> str:
    """The lines for people, without colours. The first ends with the address."""
    host, address = _address(settings, port)
    backend = settings.backend(settings.default_backend)
    rows = [
        ("configuration", ", ".join(files) or "no file: flags, environment and defaults"),
        ("backends", _backends(settings)),
        *(("plugins", f"{ring}: {', '.join(names)}") for ring, names in (rings or {}).items()),
        ("limits", _limits(settings)),
        ("clients", _clients(settings)),
        ("metrics", f"{address}/metrics   health: {address}/health"),
        ("OpenAI", f"{address}/v1   Anthropic and Gemini: {address}"),
    ]
    if anthropic_port:
        rows.append(("Anthropic alone", f"http://{host}:{anthropic_port}"))
    lines = [f"llm-proxy {__version__} serves on {address}"]
    lines += [f"  {name + ':':{_WIDTH}} {text}" for name, text in rows]
    if backend.kind == "echo":
        lines += [
            "  No provider is configured: the built-in 'echo' answers. For a real one set its key:",
            "    OPENAI_API_KEY=... or ANTHROPIC_API_KEY=... or GEMINI_API_KEY=... (also in .env),",
            "    or name a server: OPENAI_API_BASE_URL=http://host:port/v1, or run Ollama here.",
        ]
    lines.append(f"  try: {_example(settings, address, backend)}")
    return "\n".join(lines)


def _facts(
    settings: Settings,
    port: int,
    anthropic_port: int,
    rings: Mapping[str, list[str]],
    files: Iterable[str],
) -> dict[str, Any]:
    _, address = _address(settings, port)
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return {
        "time": now.replace("+00:00", "Z"),
        "level": "info",
        "logger": "llm_proxy",
        "message": f"llm-proxy {__version__} serves on {address}",
        "version": __version__,
        "address": address,
        "port": port,
        "anthropic_port": anthropic_port or None,
        "configuration": list(files),
        "default_backend": settings.default_backend,
        "backends": [
            {"name": backend.name, "keys": len(backend.keys)} for backend in settings.backends
        ],
        "plugins": dict(rings),
        "limits": {
            path: settings.values[path]
            for path in settings.values
            if path.startswith(("limits.", "timeouts."))
        },
        "clients": _clients(settings),
        "metrics": f"{address}/metrics",
    }


def _address(settings: Settings, port: int) -> tuple[str, str]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return host, f"http://{host}:{port}"


def _backends(settings: Settings) -> str:
    parts = []
    for backend in settings.backends:
        count = len(backend.keys)
        told = [f"{count} key{'s' if count > 1 else ''}"] if count else []
        if backend.name == settings.default_backend:
            told.append(f"default, {backend.base_url}" if backend.base_url else "default")
        parts.append(f"{backend.name} ({', '.join(told)})" if told else backend.name)
    return ", ".join(parts)


def _limits(settings: Settings) -> str:
    return (
        f"request bodies {_bytes(settings.whole('limits.body_bytes'))}, "
        f"silent providers {settings.seconds('timeouts.stream_idle'):g} s, "
        f"attempts {settings.whole('failure_handling.max_attempts')} a backend, "
        f"stop within {settings.seconds('timeouts.drain'):g} s"
    )


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count} bytes"


def _clients(settings: Settings) -> str:
    keys, trusted = len(settings.client_keys), settings.texts("auth.trusted_ips")
    if not keys:
        near = "this machine" if is_loopback(settings.host) else "every machine that reaches it"
        return f"anybody on {near}, without a key"
    free = f", or who comes from {', '.join(trusted)}" if trusted else ""
    which = "the client key" if keys == 1 else f"one of {keys} client keys"
    return f"whoever presents {which}{free}"


def _example(settings: Settings, address: str, backend: Backend) -> str:
    model = settings.default_model or backend.example_model or "MODEL"
    key = "" if not settings.client_keys else " -H 'authorization: Bearer YOUR-KEY'"
    body = f'{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}]}}'
    content_type = "-H 'content-type: application/json'"
    return f"curl {address}/v1/chat/completions{key} {content_type} -d '{body}'"


def _colours(settings: Settings) -> bool:
    wanted = settings.text("logging.use_colors")
    if wanted != "auto":
        return wanted == "true"
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def _coloured(text: str) -> str:
    first, *rest = text.split("\n")
    out = [f"{_BOLD}{first}{_PLAIN}"]
    for line in rest:
        name, colon, told = line.partition(": ")
        row = colon and name.startswith("  ") and not name.startswith("   ")
        out.append(f"{_DIM}{name}:{_PLAIN} {told}" if row else line)
    return "\n".join(out)
