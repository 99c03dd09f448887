"""What `llm-proxy` can be told to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from llm_proxy import __version__
from llm_proxy.cli.arguments import parse
from llm_proxy.cli.configuration import Configuration
from llm_proxy.config.errors import ConfigError, Problem, close_to


def run(argv: Sequence[str]) -> int:
    """Runs the command of these arguments. Raises ConfigError."""
    arguments = parse(argv)
    return COMMANDS[arguments.command](arguments)


def complain(problems: Iterable[Problem]) -> None:
    """One line on standard error for each."""
    for problem in problems:
        line = " ".join(str(problem).split("\n"))
        print(f"llm-proxy: {line}", file=sys.stderr)


def _serve(arguments: argparse.Namespace) -> int:
    from llm_proxy.cli.serve import serve

    return serve(Configuration(arguments))


def _version(arguments: argparse.Namespace) -> int:
    print(f"llm-proxy {__version__}")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        import json

        from llm_proxy.config.schema import schema

        print(json.dumps(schema(), indent=2))
        return 0
    from llm_proxy.config.explain import explain

    print("\n".join(explain(Configuration(arguments).settings())))
    return 0


def _check_config(arguments: argparse.Namespace) -> int:
    """0: all is well; 2: something is wrong or cannot work."""
    from llm_proxy.cli.plugins import ring_problems
    from llm_proxy.config.files import unusable

    settings = Configuration(arguments).settings()
    refused, left_out = ring_problems(settings)
    wrong = [*settings.doubts, *unusable(settings), *refused]
    for note in (*settings.notes, *left_out):
        print(f"note: {note}")
    if wrong:
        complain(wrong)
        return 2
    model = f":{settings.default_model}" if settings.default_model else ""
    print(f"The configuration is good. Default backend: {settings.default_backend}{model}")
    return 0


def _plugins(arguments: argparse.Namespace) -> int:
    from llm_proxy.cli.plugins import plugins
    from llm_proxy.config.files import unusable

    settings = Configuration(arguments).settings()
    if wrong := [problem for problem in unusable(settings) if problem.key == "plugins.directory"]:
        raise ConfigError(wrong)
    return plugins(arguments.words, settings)


def _import(arguments: argparse.Namespace) -> int:
    from llm_proxy.cli.import_litellm import import_litellm

    words = list(arguments.words)
    if len(words) != 2:
        raise ConfigError([Problem("", "", "say `llm-proxy import litellm FILE`")])
    if words[0] != "litellm":
        close = close_to(words[0], ["litellm"])
        message = f"only a configuration of litellm can be imported, not of '{words[0]}'{close}"
        raise ConfigError([Problem("", "", message)])
    return import_litellm(Path(words[1]), Path(arguments.output) if arguments.output else None)


def _completion(arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ModuleNotFoundError:
        message = f"the package 'shtab' is needed: {sys.executable} -m pip install shtab"
        raise ConfigError([Problem("completion", "", message)]) from None
    from llm_proxy.cli.arguments import parser

    shells = ", ".join(shtab.SUPPORTED_SHELLS)
    if len(arguments.words) != 1 or arguments.words[0] not in shtab.SUPPORTED_SHELLS:
        word = arguments.words[0] if arguments.words else ""
        close = close_to(word, shtab.SUPPORTED_SHELLS)
        said = f"'{word}' is not a shell this knows{close}; say" if word else "say"
        message = f"{said} `llm-proxy completion SHELL`, one of {shells}"
        raise ConfigError([Problem("", "", message)])
    print(shtab.complete(parser(), arguments.words[0]))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "serve": _serve,
    "check-config": _check_config,
    "config": _config,
    "plugins": _plugins,
    "import": _import,
    "completion": _completion,
    "version": _version,
}
