"""Where a process takes its settings from: its arguments, its environment and its files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from llm_proxy.cli.arguments import parse
from llm_proxy.config import probe
from llm_proxy.config.environment import Environment, read_env_file
from llm_proxy.config.errors import ConfigError, Problem
from llm_proxy.config.load import Sources, load
from llm_proxy.config.settings import Settings


class Configuration:
    """Where this process takes its settings from; `settings()` reads everything anew."""

    def __init__(
        self,
        argv: Sequence[str] | argparse.Namespace,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.arguments = argv if isinstance(argv, argparse.Namespace) else parse(argv)
        self._environment = dict(os.environ if environment is None else environment)

    def settings(self) -> Settings:
        """Raises ConfigError."""
        arguments = self.arguments
        env_file = self.env_file()
        file = arguments.config or Environment(self._environment).over(env_file).get("CONFIG_FILE")
        return load(
            Sources(
                arguments.flags,
                self._environment,
                env_file,
                Path(file) if file else None,
                probe.installed_backends(),
                probe.answers,
                arguments.flag_variables,
                tuple(arguments.ignored_flags),
            )
        )

    @property
    def file(self) -> str:
        """The YAML file, as it was named; empty: there is none."""
        named = self.arguments.config or self._environment.get("CONFIG_FILE")
        return str(named or self.env_file().get("CONFIG_FILE", ""))

    def env_file(self) -> Environment:
        """The variables of --env-file, or of .env if that is there. Raises ConfigError."""
        given = self.arguments.env_file
        if not given and not os.path.isfile(".env"):
            return Environment({})
        if given and not os.path.lexists(given):
            raise ConfigError([Problem("--env-file", "", f"there is no file {given}")])
        return read_env_file(Path(given or ".env"), given or ".env")
