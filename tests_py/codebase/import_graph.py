"""The imports between modules of one Python package, read from the source text."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """`source` imports `target`; both are dotted module names of the package."""

    source: str
    target: str
    line: int
    lazy: bool  # inside a function: it runs when the function is called


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name → file, for the package and everything below it; stub files count as modules."""
    found = {}
    for path in sorted(package.rglob("*.py*")):
        if path.suffix in (".py", ".pyi"):
            parts = path.relative_to(package.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(package: Path) -> list[Import]:
    """Every import of one module of `package` by another one.

    Imports below `if TYPE_CHECKING` are left out: they do not run. Module names that are put
    together at run time cannot be seen. An import of `a.b.c` runs `a/__init__.py` and
    `a/b/__init__.py` as well; these count unless the importing module lies in the same package,
    where they have run already.
    """
    modules = modules_of(package)
    found = []
    for name, path in modules.items():
        if path.suffix == ".pyi":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        home = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node, lazy in _statements(tree.body, lazy=False):
            for wanted in _named(node, home):
                if not wanted.startswith(package.name):
                    continue
                target = _module(wanted, modules)
                for module in _run_by(target, name, modules):
                    found.append(Import(name, module, node.lineno, lazy))
    return found


def _statements(
    body: Iterable[ast.AST], *, lazy: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom | ast.Constant, bool]]:
    """The import statements, and the names that stand in calls of `import_module`."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, lazy
        elif isinstance(node, ast.Call) and _imports_a_text(node):
            yield from ((name, lazy) for name in node.args if isinstance(name, ast.Constant))
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _statements(node.orelse, lazy=lazy)
        else:
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _statements(ast.iter_child_nodes(node), lazy=lazy or function)


def _imports_a_text(node: ast.Call) -> bool:
    called = node.func
    name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
    return name == "import_module" and isinstance(getattr(node.args[0], "value", None), str)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _named(node: ast.Import | ast.ImportFrom | ast.Constant, home: str) -> list[str]:
    """What a statement imports, in full: `from a import b` may name the module a.b."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    start = node.module or ""
    if node.level:
        above = home.split(".")[: len(home.split(".")) - node.level + 1]
        start = ".".join([*above, start] if start else above)
    return [f"{start}.{alias.name}" for alias in node.names]


def _module(wanted: str, modules: Mapping[str, Path]) -> str | None:
    """The module that has what is `wanted`; None: it lies outside the package."""
    if wanted in modules:
        return wanted
    parent = wanted.rpartition(".")[0]
    return parent if parent in modules else None


def _run_by(target: str | None, source: str, modules: Mapping[str, Path]) -> Iterator[str]:
    if target is None or target == source:
        return
    yield target
    parent = target.rpartition(".")[0]
    while parent:
        if parent in modules and parent != source and not source.startswith(parent + "."):
            yield parent
        parent = parent.rpartition(".")[0]


def circles(imports: Iterable[Import]) -> list[list[str]]:
    """The groups of modules that reach each other (strongly connected components of more than
    one module), each sorted; Tarjan's algorithm."""
    edges: dict[str, set[str]] = {}
    for entry in imports:
        edges.setdefault(entry.source, set()).add(entry.target)
        edges.setdefault(entry.target, set())
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return sorted(groups)
