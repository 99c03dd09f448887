"""A YAML file as a tree that remembers its lines. Imports yaml only when there is a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_proxy.config.errors import ConfigError, Problem
from llm_proxy.config.setting import WrittenFloat, WrittenInt


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


def _unreadable(error: Exception, path: Path, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    position = getattr(error, "position", None)
    line = mark.line + 1 if mark else text.count("\n", 0, position) + 1 if position else 0
    what = getattr(error, "problem", None) or str(error).partition("\n")[0]
    if "'\\t'" in what:
        what = "a tab stands where a line begins: indent with blanks"
    if isinstance(error, RecursionError):
        what = "it is nested too deeply"
    return Problem(f"{path}:{line}" if line else str(path), "", f"is not YAML: {what}")


def _loader(text: str) -> Any:
    """A YAML loader whose numbers remember how they were written."""
    import yaml

    class Loader(yaml.SafeLoader):
        def whole(self, node: yaml.ScalarNode) -> WrittenInt:
            out = WrittenInt(self.construct_yaml_int(node))
            out.written = node.value
            return out

        def number(self, node: yaml.ScalarNode) -> WrittenFloat:
            out = WrittenFloat(self.construct_yaml_float(node))
            out.written = node.value
            return out

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.whole)
    Loader.add_constructor("tag:yaml.org,2002:float", Loader.number)
    return Loader(text)


def read(path: Path) -> Node:
    """The file's top mapping. Raises ConfigError naming the line of what is wrong."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            [Problem(str(path), "", f"cannot be read: {error.strerror or error}")]
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(f"{path}:{line}", "", "is not UTF-8 text")]) from None
    problems: list[Problem] = []

    def convert(loader: Any, node: yaml.Node, line: int) -> Node:
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
            out[key] = convert(loader, value_node, key_line)
        return Node(out, line)

    try:
        loader = _loader(text)
        top = loader.get_single_node()
        root = convert(loader, top, 1) if top is not None else Node({}, 1)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([_unreadable(error, path, text)]) from None
    if not isinstance(root.value, dict):
        problems.append(Problem(f"{path}:1", "", "must hold settings, NAME: VALUE"))
    if problems:
        raise ConfigError(problems)
    return root
