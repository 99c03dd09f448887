"""What a plugin would meet for the first time inside its budget, done before the first request.

Many plugins import inside a function, to begin sooner. Such an import would take its tens of
milliseconds from the first request, whose budget is a few: it is made while the plugin is loaded.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from llm_proxy.rings.runtime.patience import aside

logger = logging.getLogger("llm_proxy.plugins")

SECONDS = 30.0


async def import_ahead(source: str, name: str, package: str = "") -> None:
    """Imports what the functions of `source` will import. `package`: what its dots begin at.

    An import that fails is left to the plugin, which may do without. One that takes more than
    `SECONDS` is given up, and the log says so.
    """
    wanted = tuple(lazy_imports(source, package))
    if not all(module in sys.modules for module, _ in wanted):
        try:
            await aside(lambda: _import_all(wanted), SECONDS, "importing what it uses")
        except TimeoutError as error:
            logger.warning("Plugin %s: %s; its first request may have to wait.", name, error)


def source_of(target: Any) -> tuple[str, str]:
    """The text of the module that defines `target`, and its package; empty: there is no text."""
    module = sys.modules.get(getattr(target, "__module__", "") or "")
    try:
        return inspect.getsource(module) if module else "", getattr(module, "__package__", "") or ""
    except (OSError, TypeError):
        return "", ""


def lazy_imports(source: str, package: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """(module, names) of each import statement inside a function of `source`."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    inside = (node for outer in ast.walk(tree) if isinstance(outer, functions)
              for node in ast.walk(outer))  # fmt: skip
    for node in inside:
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            if base:
                yield base, tuple(alias.name for alias in node.names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    if not package or node.level > len(parents):
        return ""
    return ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])


def _import_all(wanted: Iterable[tuple[str, tuple[str, ...]]]) -> None:
    for module, names in wanted:
        try:
            made = importlib.import_module(module)
            for name in names:
                if name != "*" and not hasattr(made, name):
                    importlib.import_module(f"{module}.{name}")
        except (Exception, SystemExit) as error:
            logger.debug("%s cannot be imported ahead: %r", module, error)
