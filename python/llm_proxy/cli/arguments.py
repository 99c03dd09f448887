"""Flags from the table of settings: one row, one flag."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from llm_proxy.config.errors import ConfigError, Problem, nearest
from llm_proxy.config.table import SETTINGS, Setting, Value

EPILOG = """\
commands:
  llm-proxy config --explain   every setting, its value and where it came from
  llm-proxy config --schema    the JSON schema of the YAML file
  llm-proxy check-config       says what is wrong with the configuration, or that nothing is
  llm-proxy plugins            what is installed, and why something is left out
  llm-proxy plugins check NAME whether the proxy could use that backend

Settings can also stand in the YAML file and, where a name is shown, in the environment: flags win,
then the environment, then the file. Keys never go on the command line: set OPENAI_API_KEY,
ANTHROPIC_API_KEY, ... or write them into a file named .env.
"""


class _Take(argparse.Action):
    """Keeps the flag as it was given beside the value, for messages and provenance."""

    def __init__(self, *args: Any, setting: Setting, word: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.setting = setting
        self.word = word  # what the flag stands for by itself

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        flags: dict[str, tuple[str, Value]] = namespace.flags
        flag = option_string or ""
        try:
            flags[self.setting.path] = (flag, self._value(flags.get(self.setting.path), values))
        except ValueError as error:
            raise ConfigError([Problem(flag, "", str(error))]) from None

    def _value(self, before: tuple[str, Value] | None, given: Any) -> Value:
        if self.word:
            return self.setting.from_text(self.word)
        if self.setting.kind == "switch":
            return self.setting.flag_value
        if self.setting.kind == "aliases":
            name, equals, target = str(given).partition("=")
            if not equals:
                raise ValueError(f"'{given}' is not NAME=MODEL")
            earlier = before[1] if before else {}
            assert isinstance(earlier, dict)
            new = self.setting.from_tree({name: target})
            assert isinstance(new, dict)
            return {**earlier, **new}
        value = self.setting.from_text(str(given))
        if before and isinstance(before[1], tuple) and isinstance(value, tuple):
            return (*before[1], *value)
        return value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ConfigError([Problem("", "", f"{message} (see --help)")])


def parser() -> argparse.ArgumentParser:
    out = _Parser(
        prog="llm-proxy",
        description="A proxy for large language models.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    out.set_defaults(flags={})
    out.add_argument("--version", action="store_true", help="print the version and exit")
    out.add_argument("--config", metavar="FILE", help="YAML file (CONFIG_FILE)")
    out.add_argument(
        "--env-file",
        metavar="FILE",
        help="file of NAME=VALUE lines read below the environment (default: .env, if there)",
    )
    for setting in SETTINGS:
        if not setting.flags:
            continue
        names = f" ({', '.join(setting.env)})" if setting.env else ""
        out.add_argument(
            *setting.flags,
            action=_Take,
            setting=setting,
            nargs=0 if setting.kind == "switch" else None,
            dest="flags",
            default=argparse.SUPPRESS,
            metavar=None if setting.kind == "switch" else _METAVARS.get(setting.kind, "TEXT"),
            help=f"{setting.help}{names}".replace("%", "%%"),
        )
        for flag, word in setting.words:
            out.add_argument(
                flag,
                action=_Take,
                setting=setting,
                word=word,
                nargs=0,
                dest="flags",
                default=argparse.SUPPRESS,
                help=f"{setting.flags[0]} {word}",
            )
    return out


_METAVARS = {"whole": "N", "seconds": "SECONDS", "aliases": "NAME=MODEL"}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    for argument in argv:
        flag = argument.split("=", 1)[0]
        if flag.startswith("--") and flag.endswith(("-api-key", "-api-keys")):
            variable = flag[2:].upper().replace("-", "_")
            raise ConfigError(
                [
                    Problem(
                        flag,
                        "",
                        "keys are not taken from the command line, which every user here can read; "
                        f"set {variable} in the environment or in .env",
                    )
                ]
            )
    made = parser()
    namespace, unknown = made.parse_known_args(argv)
    if unknown:
        known = [flag for action in made._actions for flag in action.option_strings]
        flag = unknown[0].split("=", 1)[0]
        close = nearest(flag, known).split(" Known:")[0].rstrip(".")
        if flag in ("check-config", "config", "plugins", "serve"):
            close = f"; commands stand first: llm-proxy {flag} ..."
        raise ConfigError([Problem("", "", f"no such argument: {flag}{close} (see --help)")])
    return namespace
