"""Serving: start, say where, wait for a signal, drain, leave.

SIGTERM and SIGINT stop accepting and let requests finish; a second one exits at once. A plugin that
holds the interpreter does not hold up either.
SIGHUP reads the configuration anew.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from datetime import datetime, timezone

from llm_proxy import _core
from llm_proxy.assembly import make_server
from llm_proxy.cli.banner import show
from llm_proxy.cli.configuration import Configuration
from llm_proxy.cli.loop import run
from llm_proxy.cli.service import tell_service_manager
from llm_proxy.config.errors import ConfigError, Problem
from llm_proxy.config.files import unusable
from llm_proxy.config.plan import plan, waits_for_a_start
from llm_proxy.config.settings import Settings
from llm_proxy.server import Server

logger = logging.getLogger("llm_proxy")

# What a process that was told to stop has on top of `timeouts.drain`, before it is ended.
EXIT_SECONDS = 1.5


def serve(configuration: Configuration) -> int:
    """Serves until a signal comes. Raises ConfigError for what keeps it from starting."""
    settings = configuration.settings()
    if wrong := list(unusable(settings)):
        raise ConfigError(wrong)
    for name, value in configuration.env_file().items():
        os.environ.setdefault(name, value)  # plugins look there
    try:
        _log_to(settings)
    except (OSError, ValueError) as error:
        where = settings.origins["logging.log_file"].where
        raise ConfigError([Problem(where, "logging.log_file", str(error))]) from None
    return run(_serve(configuration, settings))


async def _serve(configuration: Configuration, settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_stop(signum: int) -> None:
        if stop.is_set():
            os._exit(128 + signum)
        stop.set()

    signals = (signal.SIGTERM, signal.SIGINT)
    for signum in signals:
        loop.add_signal_handler(signum, on_stop, signum)
    watch = _core.ExitWatch(signals, settings.seconds("timeouts.drain") + EXIT_SECONDS)
    server = server_of(settings)
    for doubt in (*settings.notes, *settings.doubts):
        logger.warning("%s", doubt)
    await _start(server, settings)
    try:
        watch.follow(server.lane)
        reread = Reread(configuration, settings, server)
        server.reread = reread
        loop.add_signal_handler(signal.SIGHUP, reread.on_signal)
        show(settings, server, _files(configuration))
        tell_service_manager("READY=1")
        await stop.wait()
        tell_service_manager("STOPPING=1")
        logger.info("Stopping: requests under way may finish; a second signal exits at once.")
    finally:
        await server.stop()
    return 0


async def _start(server: Server, settings: Settings) -> None:
    """Raises ConfigError for a plugin that must run and does not, and for an address in use."""
    try:
        await server.__aenter__()
    except OSError as error:
        raise ConfigError([_not_listening(settings, str(error))]) from None
    except RuntimeError as error:
        from llm_proxy.cli.plugins import missing_plugins
        from llm_proxy.rings.runtime.manager import RequiredPluginMissing

        if not isinstance(error, RequiredPluginMissing):
            raise
        raise ConfigError(missing_plugins(settings, error)) from None


def _not_listening(settings: Settings, said: str) -> Problem:
    """What the engine says of an address that it cannot listen on, at the setting that names it."""
    path = "port"
    if f":{settings.whole('anthropic_port')}:" in said:
        path = "anthropic_port"
    elif "access log" in said:
        path = "logging.access_log_file"
    where = settings.origins[path].where or settings.origins["host"].where
    hint = " Choose another port, or 0 for any free one." if "in use" in said else ""
    return Problem(where, "" if where.startswith("-") else path, said + hint)


def _files(configuration: Configuration) -> list[str]:
    """The files that settings were read from."""
    env_file = configuration.arguments.env_file or ".env"
    read = [configuration.file, env_file if os.path.isfile(env_file) else ""]
    return [name for name in read if name]


class Reread:
    """Reads the configuration anew and hands it to the server: all of it, or nothing."""

    def __init__(self, configuration: Configuration, settings: Settings, server: Server) -> None:
        self.settings = self._at_start = settings
        self._configuration = configuration
        self._server = server
        self._one_at_a_time = asyncio.Lock()
        self._told: set[asyncio.Task[None]] = set()

    async def __call__(self) -> tuple[str, ...]:
        """What was read waits for the next start. Raises ConfigError, ValueError or SwapRefused."""
        async with self._one_at_a_time:
            settings = self._configuration.settings()
            before, after = plan(self.settings), plan(settings)
            self._server.reload(after.config, after.app_config)
            try:
                await self._server.reload_plugins(after.plugins, after.plugin_options)
            except RuntimeError:
                self._server.reload(before.config, before.app_config)
                raise
            later = waits_for_a_start(self.settings, settings)
            self.settings = settings
            _log_from(settings.text("logging.level"), self._at_start)
            return later

    def on_signal(self) -> None:
        """The log says how it went."""
        task = asyncio.get_running_loop().create_task(self._tell())
        self._told.add(task)
        task.add_done_callback(self._told.discard)

    async def _tell(self) -> None:
        try:
            later = await self()
        except (ConfigError, ValueError, RuntimeError) as error:
            logger.error("The old configuration stays, the new one is wrong: %s", error)
            return
        logger.info("The configuration has been read anew.")
        if later:
            logger.warning("These wait for the next start: %s", ", ".join(later))


def server_of(settings: Settings) -> Server:
    """The server that these settings describe, not yet started."""
    made = plan(settings)
    return make_server(
        made.config,
        plugins_dir=made.plugins_dir,
        plugins=made.plugins,
        plugin_options=made.plugin_options,
        app_config=made.app_config,
    )


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what was raised."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        line: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["raised"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _log_to(settings: Settings) -> None:
    file = _log_file(settings)
    handler = logging.FileHandler(file, encoding="utf-8") if file else logging.StreamHandler()
    readable = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.text("logging.format") == "json" else readable)
    logging.basicConfig(handlers=[handler], force=True)
    _log_from(settings.text("logging.level"), settings)
    # httpx writes whole URLs at INFO, and a URL may hold a key.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _log_from(level: str, settings: Settings) -> None:
    """Python's log and the engine's: the same lines, the same place."""
    logging.getLogger().setLevel(level)
    as_json = settings.text("logging.format") == "json"
    _core.set_log(level, as_json, _log_file(settings))


def _log_file(settings: Settings) -> str:
    """Empty: standard error."""
    console = "/dev/stdout" if settings.text("logging.console_stream") == "stdout" else ""
    return settings.text("logging.log_file") or console
