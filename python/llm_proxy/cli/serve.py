"""Serving: start, say where, wait for a signal, drain, leave.

SIGTERM and SIGINT stop accepting and let requests finish; a second one exits at once.
SIGHUP reads the configuration anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Any

from llm_proxy import __version__
from llm_proxy.cli.commands import Configuration
from llm_proxy.config.errors import ConfigError
from llm_proxy.config.explain import describe
from llm_proxy.config.plugin_view import plugin_view
from llm_proxy.config.settings import Settings
from llm_proxy.config.snapshot import snapshot
from llm_proxy.plugins.swap import SwapRefused
from llm_proxy.rings.store import MEMORY
from llm_proxy.server import Server

logger = logging.getLogger("llm_proxy")


def serve(configuration: Configuration) -> int:
    settings = configuration.settings()
    for name, value in configuration.env_file().items():
        os.environ.setdefault(name, value)  # plugins look there
    _log_to(settings)
    try:
        return asyncio.run(_serve(configuration, settings))
    except OSError as error:
        print(f"llm-proxy: {error}", file=sys.stderr)
        return 1


async def _serve(configuration: Configuration, settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_stop(signum: int) -> None:
        if stop.is_set():
            os._exit(128 + signum)
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, on_stop, signum)
    server = server_of(settings)
    async with server:
        reloads: set[asyncio.Task[None]] = set()

        async def reload() -> None:
            try:
                new = configuration.settings()
                server.reload(snapshot(new))
            except (ConfigError, ValueError) as error:
                logger.error("The old configuration stays, the new one is wrong: %s", error)
                return
            try:
                await server.reload_plugins(new.texts("plugins.enabled"), plugin_options(new))
            except SwapRefused as error:
                logger.error("The old ring plugins stay, the new ones are wrong: %s", error)
            logger.info("The configuration has been read anew.")

        def on_reload() -> None:
            task = loop.create_task(reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, on_reload)
        print(banner(settings, server.port), flush=True)
        await stop.wait()
        logger.info("Stopping: requests under way may finish; a second signal exits at once.")
    return 0


def plugin_options(settings: Settings) -> dict[str, Any]:
    return {
        "config": settings.mapping("plugins.config"),
        "state_file": settings.text("plugins.state_file") or MEMORY,
        "tenants": settings.mapping("plugins.tenants"),
    }


def server_of(settings: Settings) -> Server:
    """The server that these settings describe, not yet started."""
    hosted = any(backend.kind == "python" for backend in settings.backends)
    return Server(
        snapshot(settings),
        plugins_dir=settings.text("plugins.directory") or None,
        plugins=settings.texts("plugins.enabled"),
        plugin_options=plugin_options(settings),
        app_config=plugin_view(settings) if hosted else None,
    )


def banner(settings: Settings, port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{port}"
    backend = settings.backend(settings.default_backend)
    model = settings.default_model or backend.example_model or "MODEL"
    key = "" if not settings.client_keys else " -H 'authorization: Bearer YOUR-KEY'"
    lines = [
        f"llm-proxy {__version__} serves on {address}",
        f"  default backend: {backend.name} {describe(backend)}",
        f"  OpenAI clients: {address}/v1   Anthropic and Gemini clients: {address}",
    ]
    if backend.kind == "echo":
        lines += [
            "  No provider is configured: the built-in 'echo' answers. For a real one set its key:",
            "    OPENAI_API_KEY=... or ANTHROPIC_API_KEY=... or GEMINI_API_KEY=... (also in .env),",
            "    or name a server: OPENAI_API_BASE_URL=http://host:port/v1, or run Ollama here.",
        ]
    body = f'{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}]}}'
    content_type = "-H 'content-type: application/json'"
    lines.append(f"  try: curl {address}/v1/chat/completions{key} {content_type} -d '{body}'")
    return "\n".join(lines)


def _log_to(settings: Settings) -> None:
    file = settings.text("logging.log_file")
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.text("logging.level"), handlers=[handler], force=True)
    # httpx writes whole URLs at INFO, and a URL may hold a key.
    logging.getLogger("httpx").setLevel(logging.WARNING)
