"""The variables that settings are read from: the environment, and below it a file of NAME=VALUE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path

from llm_proxy.backends.catalog import CATALOG
from llm_proxy.config.errors import ConfigError, Problem
from llm_proxy.config.settings import Origin

_KEY = "_API_KEY"


class Environment(Mapping[str, str]):
    """Variables by name, and where each of them was set. Immutable."""

    def __init__(self, values: Mapping[str, str], places: Mapping[str, str] | None = None) -> None:
        self._values = dict(values)
        self._places = dict(places or {})  # of those that a file or a flag set: "where"

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def over(self, below: Environment) -> Environment:
        """These variables, and those of `below` that are not among them."""
        places = {name: at for name, at in below._places.items() if name not in self._values}
        return Environment({**below._values, **self._values}, {**places, **self._places})

    def origin(self, *names: str) -> Origin:
        """Where the values of these variables came from."""
        return Origin("environment", ", ".join(map(self._told, names)))

    def place(self, name: str) -> str:
        """Where to look for a variable that is wrong."""
        place = self._places.get(name)
        return f"{place}: {name}" if place else f"environment variable {name}"

    def _told(self, name: str) -> str:
        place = self._places.get(name)
        return f"{name}, {place}" if place else name


def read_env_file(path: Path, shown: str) -> Environment:
    """The variables of a file. Raises ConfigError with the line of what cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = Problem(shown, "", f"cannot be read: {error.strerror or error}")
        raise ConfigError([problem]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(f"{shown}:{line}", "", "is not UTF-8 text")]) from None
    import io

    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    places: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        blank = written[: len(written) - len(written.lstrip())].count("\n")
        place = f"{shown}:{binding.original.line + blank}"
        if binding.error or (binding.key and binding.value is None):
            name = f" '{binding.key}'" if binding.key else ""
            message = f"this line{name} is not NAME=VALUE; a comment begins with #"
            problems.append(Problem(place, "", message))
        elif binding.key:
            values[binding.key], places[binding.key] = binding.value or "", place
    if problems:
        raise ConfigError(problems)
    return Environment(values, places)


def misspelt(environment: Environment, known: Iterable[str]) -> Iterator[Problem]:
    """Variables that are nobody's and one slip away from one that is read."""
    names = set(known)
    patterns = sorted(name for name in names if len(name) >= 8)
    for name in environment:
        if name in names or not environment[name].strip() or len(name) < 8:
            continue
        meant = next((other for other in patterns if _slip(name, other)), None)
        if meant is not None and meant not in environment:
            yield Problem(environment.place(name), "", f"is not read; did you mean {meant}?")


def known_variables(settings: Iterable[str]) -> set[str]:
    """`settings`, and the variables of every row of the catalog."""
    out = set(settings)
    for row in CATALOG.values():
        out |= {*row.key_variables, *row.url_env, row.timeout_env} - {""}
    return out


def _slip(name: str, other: str) -> bool:
    """Whether two names differ by one letter, or by two that changed places.

    Short names of vendors are often one letter apart: XAI_API_KEY is not ZAI_API_KEY.
    """
    if abs(len(name) - len(other)) > 1 or name[0] != other[0]:
        return False
    if name.endswith(_KEY) and other.endswith(_KEY) and len(other) < len(_KEY) + 6:
        return False
    edits = [
        (name[a:b], other[c:d])
        for tag, a, b, c, d in SequenceMatcher(None, name, other, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    if any(char.isdigit() for old, new in edits for char in old + new):
        return False  # a number tells variables apart on purpose
    if len(edits) == 1:
        return all(len(part) <= 1 for part in edits[0])
    swapped = len(edits) == 2 and sorted("".join(o for o, _ in edits)) == sorted(
        "".join(n for _, n in edits)
    )
    return swapped and sum(len(old) + len(new) for old, new in edits) == 2
