"""What `llm-proxy` can be told to do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_proxy import __version__
from llm_proxy.config.errors import ConfigError, Problem, nearest
from llm_proxy.config.load import Sources, load
from llm_proxy.config.settings import Settings


def run(argv: Sequence[str]) -> int:
    command = argv[0] if argv and not argv[0].startswith("-") else ""
    rest = argv[1:] if command else argv
    if command not in COMMANDS:
        hint = nearest(command, filter(None, COMMANDS))
        raise ConfigError([Problem("", "", f"no such command: {command}{hint}")])
    return COMMANDS[command](rest)


class Configuration:
    """Where this process takes its settings from; `settings()` reads everything anew."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        from llm_proxy.cli.arguments import parse

        self.arguments = parse(argv)
        self._environment = dict(os.environ if environment is None else environment)

    def settings(self) -> Settings:
        from llm_proxy.config import probe

        file = self.arguments.config or self._environment.get("CONFIG_FILE")
        return load(
            Sources(
                self.arguments.flags,
                self._environment,
                self.env_file(),
                Path(file) if file else None,
                probe.installed_backends(),
                probe.answers,
            )
        )

    def env_file(self) -> dict[str, str]:
        given = self.arguments.env_file
        path = Path(given or ".env")
        if not path.is_file():
            if given:
                raise ConfigError([Problem("--env-file", "", f"there is no file {given}")])
            return {}
        from dotenv import dotenv_values

        return {k: v for k, v in dotenv_values(path, interpolate=False).items() if v is not None}


def _serve(argv: Sequence[str]) -> int:
    configuration = Configuration(argv)
    if configuration.arguments.version:
        print(f"llm-proxy {__version__}")
        return 0
    from llm_proxy.cli.serve import serve

    return serve(configuration)


def _config(argv: Sequence[str]) -> int:
    wanted = [flag for flag in argv if flag in ("--explain", "--schema")]
    if "--schema" in wanted:
        import json

        from llm_proxy.config.schema import schema

        print(json.dumps(schema(), indent=2))
        return 0
    from llm_proxy.config.explain import explain

    settings = Configuration([flag for flag in argv if flag not in wanted]).settings()
    print("\n".join(explain(settings)))
    return 0


def _check_config(argv: Sequence[str]) -> int:
    settings = Configuration(argv).settings()
    model = f":{settings.default_model}" if settings.default_model else ""
    print(f"The configuration is good. Default backend: {settings.default_backend}{model}")
    from llm_proxy.config.routes import unconfigured

    for line in unconfigured(settings):
        print(f"note: {line}")
    return 0


def _plugins(argv: Sequence[str]) -> int:
    from llm_proxy.cli.plugins import plugins

    words = [word for word in argv[:2] if not word.startswith("-")]
    return plugins(words, Configuration(argv[len(words) :]).settings())


COMMANDS = {
    "": _serve,
    "serve": _serve,
    "config": _config,
    "check-config": _check_config,
    "plugins": _plugins,
}
