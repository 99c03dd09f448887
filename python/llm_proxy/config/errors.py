"""What is wrong with a configuration, said so that the reader can mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    where: str  # "proxy.yaml:12", "environment variable APP_PORT", "--port"
    key: str  # "backends.openai.api_url"; empty when the place says it all
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class ConfigError(Exception):
    """Every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def close_to(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing if none of `known` is like `name`."""
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'? Known: a, b, c` for a name that is not among `known`."""
    names = sorted(known)
    return f"{close_to(name, names) or '.'} Known: {', '.join(names)}"
