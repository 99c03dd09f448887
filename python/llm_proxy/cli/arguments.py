"""The command line as argparse has it: one parser for each command, one flag for each setting."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from llm_proxy import __version__
from llm_proxy.config import originals
from llm_proxy.config.errors import ConfigError, Problem, close_to
from llm_proxy.config.setting import Setting, Value
from llm_proxy.config.table import GROUPS, SETTINGS

DESCRIPTION = """\
A proxy for large language models: one address for every client format, provider and plugin.
Without a command it serves.
"""
EPILOG = """\
Settings also come from the environment, where a variable is named, and from the YAML file: flags
win, then the environment, then the file. Keys of providers do not belong on the command line: set
OPENAI_API_KEY, ANTHROPIC_API_KEY, ... or write them into a file named .env.
"""
ELSEWHERE = """\
Every flag of `llm-proxy serve --help` may be given here too, before or after the command.
"""


@dataclass(frozen=True)
class Command:
    """One word of the command line: what it is for and what it takes beside the settings."""

    name: str
    help: str
    add: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    settings: bool = True  # whether it reads the configuration
    words: str = ""  # what stands behind it, for its usage line


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--explain", action="store_true", help="print every setting and where its value came from"
    )
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON schema of the YAML file"
    )


def _add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="check NAME", help="say whether the proxy can use that backend"
    )


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="litellm FILE", help="the file to read")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write; unset: print it")


def _add_completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="SHELL", help="bash, zsh, fish, tcsh or powershell"
    )


COMMANDS = (
    Command("serve", "serve until told to stop; this is what llm-proxy does without a command"),
    Command("check-config", "say what is wrong with the configuration, or that nothing is"),
    Command("config", "print every setting and where its value came from", _add_config),
    Command(
        "plugins",
        "list what is installed, and say of each whether it runs",
        _add_plugins,
        words="[check NAME] ",
    ),
    Command(
        "import",
        "turn another proxy's configuration into one of this",
        _add_import,
        settings=False,
        words="litellm FILE [-o FILE]",
    ),
    Command(
        "completion",
        "print a script that completes commands and flags in your shell",
        _add_completion,
        settings=False,
        words="SHELL",
    ),
    Command("version", "print the version", settings=False),
)
_BY_NAME = {command.name: command for command in COMMANDS}


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


class _TakeVariable(argparse.Action):
    """A flag of the originals that stands for a variable of the environment."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        flag = option_string or ""
        namespace.flag_variables[originals.AS_VARIABLE[flag]] = (flag, str(values))


class _Ignore(argparse.Action):
    """A flag of the originals that has no effect here."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        namespace.ignored_flags.append(option_string)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        print(f"llm-proxy {__version__}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """Raises ConfigError where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError([Problem("", "", f"{message} (see {self.prog} --help)")])


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def parser(full: bool = True) -> argparse.ArgumentParser:
    """The command line: the flags of `serve`, and the commands; not `full`: without their flags."""
    out = _Parser(
        prog="llm-proxy",
        usage="llm-proxy [COMMAND] [flags]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    commands = out.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in COMMANDS:
        made = commands.add_parser(command.name, help=command.help, **_looks(command))
        if full:
            _fill(made, command)
    _add_settings(out, shown=True)
    return out


def _looks(command: Command) -> dict[str, Any]:
    usage = f"llm-proxy {command.name} {command.words}[flags]"
    return {
        "usage": usage if command.settings else usage.replace("[flags]", "").rstrip(),
        "description": f"{command.help[0].upper()}{command.help[1:]}.",
        "epilog": ELSEWHERE if command.settings and command.name != "serve" else None,
        "formatter_class": _Formatter,
        "allow_abbrev": False,
    }


def _fill(made: argparse.ArgumentParser, command: Command) -> None:
    made.prog = f"llm-proxy {command.name}"
    command.add(made)
    if command.settings:
        _add_settings(made, shown=command.name == "serve")


def _parser_of(name: str, argv: Sequence[str]) -> argparse.ArgumentParser:
    """Of one command alone, which is built sooner than all of them."""
    if not name and ("-h" in argv or "--help" in argv):
        return parser(full=False)
    command = _BY_NAME[name or "serve"]
    out = _Parser(prog=f"llm-proxy {name}".strip(), **_looks(command))
    command.add(out)
    if command.settings:
        _add_settings(out, shown=command.name == "serve")
        _add_originals(out, {word.split("=", 1)[0] for word in argv})
    return out


def _add_settings(parser: argparse.ArgumentParser, shown: bool) -> None:
    """Every flag of a setting; not `shown`: they are left out of the help."""

    def told(text: str) -> str:
        return text.replace("%", "%%") if shown else argparse.SUPPRESS

    parser.set_defaults(flags=None, flag_variables=None, ignored_flags=None)
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help=told("print the version"))
    files = parser.add_argument_group("files") if shown else parser
    files.add_argument(
        "--config", metavar="FILE", help=told("YAML file with settings (CONFIG_FILE)")
    )
    files.add_argument(
        "--env-file",
        metavar="FILE",
        help=told(
            "file of NAME=VALUE lines, below the environment (default: .env, if there is one)"
        ),
    )
    grouped = {setting.path: title for title in GROUPS for setting in _of_group(title[1])}
    for group in GROUPS:
        place = parser.add_argument_group(group[0]) if shown else parser
        for setting in SETTINGS:
            if grouped.get(setting.path) == group:
                _add_setting(place, setting, told)


def _add_originals(parser: argparse.ArgumentParser, used: set[str]) -> None:
    """Those flags of the originals that were used: they are many, and mostly none is."""
    for flag in used & originals.AS_VARIABLE.keys():
        parser.add_argument(flag, action=_TakeVariable, metavar="TEXT", help=argparse.SUPPRESS)
    for flag in used & originals.flags().keys():
        nargs = None if originals.flags()[flag] else 0
        parser.add_argument(flag, action=_Ignore, nargs=nargs, help=argparse.SUPPRESS)


def _of_group(prefixes: Iterable[str]) -> Iterable[Setting]:
    return (
        setting
        for setting in SETTINGS
        for prefix in prefixes
        if setting.path == prefix or (prefix.endswith(".") and setting.path.startswith(prefix))
    )


def _add_setting(place: Any, setting: Setting, told: Callable[[str], str]) -> None:
    names = f" ({', '.join(setting.env)})" if setting.env else ""
    switch = setting.kind == "switch"
    shown = f"{setting.default:g}" if setting.kind in ("seconds", "number") else setting.default
    default = "" if switch or setting.default in ("", (), {}, -1) else f"; default {shown}"
    metavar = "{" + ",".join(setting.choices) + "}" if setting.choices else ""
    text = setting.flag_help or setting.help
    if setting.flags:
        place.add_argument(
            *setting.flags,
            action=_Take,
            setting=setting,
            nargs=0 if switch else None,
            dest="flags",
            default=argparse.SUPPRESS,
            metavar=None if switch else metavar or _METAVARS.get(setting.kind, "TEXT"),
            help=told(f"{text}{default}{names}"),
        )
    for flag, word in setting.words:
        same = f"{setting.flags[0]} {word}" if setting.flags and not switch else ""
        off = "do not " + text if switch else f"{text}: {word}"
        place.add_argument(
            flag,
            action=_Take,
            setting=setting,
            word=word,
            nargs=0,
            dest="flags",
            default=argparse.SUPPRESS,
            help=told(f"the same as {same}" if same else off),
        )


_METAVARS = {
    "whole": "N",
    "number": "NUMBER",
    "seconds": "SECONDS",
    "aliases": "NAME=MODEL",
    "texts": "TEXT[,TEXT...]",
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command and what it was given; flags and words in any order. Raises ConfigError.

    Exits with 0 after `--help` and `--version`, as argparse does.
    """
    _refuse_keys(argv)
    name, rest = _command(argv)
    made = _parser_of(name, rest)
    namespace = argparse.Namespace(flags={}, flag_variables={}, ignored_flags=[])
    try:
        if _takes_words(made):
            namespace, unknown = made.parse_known_intermixed_args(rest, namespace)
        else:
            namespace, unknown = made.parse_known_args(rest, namespace)
    except argparse.ArgumentError as error:
        made.error(str(error))
    if unknown:
        _refuse(made, name, unknown[0])
    namespace.command = name or "serve"
    return namespace


def _takes_words(made: argparse.ArgumentParser) -> bool:
    return any(action.dest == "words" for action in made._actions)


def _values_follow() -> dict[str, bool]:
    """Every flag of any command, and whether a value follows it."""
    out = {"--config": True, "--env-file": True, "-o": True, "--output": True}
    out |= dict.fromkeys(("-h", "--help", "-V", "--version", "--explain", "--schema"), False)
    out |= dict.fromkeys(originals.AS_VARIABLE, True) | originals.flags()
    for setting in SETTINGS:
        out |= dict.fromkeys(setting.flags, setting.kind != "switch")
        out |= dict.fromkeys((flag for flag, _ in setting.words), False)
    return out


def _command(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The first word that is no flag and no flag's value, and everything else."""
    follows = _values_follow()
    value = stranger = False
    for index, word in enumerate(argv):
        if word.startswith("--") or (word.startswith("-") and not value):
            value = "=" not in word and follows.get(word, False)
            stranger = stranger or word.split("=", 1)[0] not in follows
        elif value:
            value = False
        elif word in _BY_NAME:
            return word, [*argv[:index], *argv[index + 1 :]]
        elif not stranger:  # else it may be the value of a flag that nobody knows
            hint = close_to(word, _BY_NAME) or f". Commands: {', '.join(_BY_NAME)}"
            raise ConfigError([Problem("", "", f"no such command: {word}{hint}")])
    return "", list(argv)


def _refuse(made: argparse.ArgumentParser, name: str, word: str) -> NoReturn:
    """Names an argument that nobody takes, and the nearest one of this command."""
    flag = word.split("=", 1)[0]
    known = [flag for action in made._actions for flag in action.option_strings]
    known += [*originals.AS_VARIABLE, *originals.flags()]
    own = {
        flag: command.name
        for command in COMMANDS
        for flag in _flags_of(command)
        if command.name != name
    }
    if flag in own:
        made.error(f"no such argument: {flag}; it belongs to llm-proxy {own[flag]}")
    made.error(f"no such argument: {flag}{close_to(flag, known)}")


def _flags_of(command: Command) -> list[str]:
    alone = argparse.ArgumentParser(add_help=False)
    command.add(alone)
    return [flag for action in alone._actions for flag in action.option_strings]


def _refuse_keys(argv: Sequence[str]) -> None:
    for argument in argv:
        flag = argument.split("=", 1)[0]
        if flag in originals.AS_VARIABLE or not flag.startswith("--"):
            continue
        if flag.endswith(("-api-key", "-api-keys")):
            variable = flag[2:].upper().replace("-", "_")
            message = (
                "keys are not taken from the command line, which every user here can read; "
                f"set {variable} in the environment or in .env"
            )
            raise ConfigError([Problem(flag, "", message)])
