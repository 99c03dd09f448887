"""A YAML file as a tree that remembers its lines. Imports yaml only when there is a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_proxy.config.errors import ConfigError, Problem


@dataclass(frozen=True)
class Node:
    """One value and the line of its key. A mapping holds Nodes; anything else is plain."""

    value: object
    line: int

    def plain(self) -> object:
        if isinstance(self.value, dict):
            return {name: child.plain() for name, child in self.value.items()}
        return self.value

    def children(self) -> Iterator[tuple[str, Node]]:
        """The members of a mapping; nothing for anything else."""
        if isinstance(self.value, dict):
            yield from self.value.items()


def read(path: Path) -> Node:
    """The file's top mapping. Raises ConfigError naming the line of what is wrong."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            [Problem(str(path), "", f"cannot be read: {error.strerror or error}")]
        ) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), "", "is not UTF-8 text")]) from None
    loader = yaml.SafeLoader(text)
    problems: list[Problem] = []

    def convert(node: yaml.Node, line: int) -> Node:
        if not isinstance(node, yaml.MappingNode):
            return Node(loader.construct_object(node, deep=True), line)
        out: dict[str, Node] = {}
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node, deep=True))
            key_line = key_node.start_mark.line + 1
            if key in out:
                problems.append(
                    Problem(f"{path}:{key_line}", key, f"stands in line {out[key].line} already")
                )
            out[key] = convert(value_node, key_line)
        return Node(out, line)

    try:
        top = loader.get_single_node()
        root = convert(top, 1) if top is not None else Node({}, 1)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error)
        raise ConfigError([Problem(where, "", f"is not YAML: {what}")]) from None
    if not isinstance(root.value, dict):
        problems.append(Problem(f"{path}:1", "", "must hold settings, NAME: VALUE"))
    if problems:
        raise ConfigError(problems)
    return root
