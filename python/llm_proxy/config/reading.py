"""A configuration while it is being read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from llm_proxy.config.backends import SectionValues
from llm_proxy.config.errors import Problem
from llm_proxy.config.setting import Value
from llm_proxy.config.settings import DEFAULT, Origin
from llm_proxy.config.table import SETTINGS


@dataclass
class Reading:
    """Values and origins by path, the sections of backends, and what is to be said of them.

    `problems` end the start. `doubts` are what cannot work as it stands, though the proxy can run:
    they are logged at the start and fail `check-config`. `notes` have to be known, no more.
    """

    values: dict[str, Value] = field(
        default_factory=lambda: {setting.path: setting.default for setting in SETTINGS}
    )
    origins: dict[str, Origin] = field(
        default_factory=lambda: {setting.path: DEFAULT for setting in SETTINGS}
    )
    sections: dict[str, SectionValues] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)  # where the members of a mapping stand
    problems: list[Problem] = field(default_factory=list)
    doubts: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def put(self, path: str, value: Value, origin: Origin) -> None:
        self.values[path], self.origins[path] = value, origin

    def problem(self, where: str, key: str, message: str) -> None:
        self.problems.append(Problem(where, key, message))

    def wrong(self, path: str, message: str) -> None:
        """A problem with the value of one setting, wherever that came from."""
        self.problem(self.origins[path].where, path, message)

    def texts(self, path: str) -> tuple[str, ...]:
        value = self.values[path]
        assert isinstance(value, tuple)
        return value

    def ignored(self, told: Iterable[tuple[str, str, str]]) -> None:
        """Notes on (where, name, why) of what has no effect: one for each reason and file."""
        by_reason: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for where, name, why in told:
            file = where.rpartition(":")[0]
            by_reason.setdefault((file, why), []).append((where, name))
        for (_, why), names in by_reason.items():
            where, first = names[0]
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            self.notes.append(Problem(where, f"{first}{more}", f"has no effect: {why}"))
