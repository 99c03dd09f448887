"""The table of folders in docs/architecture.md, made from what the folders say of themselves.

PYTHONPATH=python:tests_py python -m docs.architecture_page      writes it anew

A folder of cpp/ says it in the first sentence of its README, a Python package or module in the
first sentence of its docstring. The rows stand in the order of the floors, the lowest first.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from codebase import test_layers, test_python_layers
from repo import ROOT

PAGE = ROOT / "docs" / "architecture.md"
_PLACE = re.compile(r"(<!-- folders -->\n).*?(<!-- /folders -->)", re.S)
_OTHERS = (
    ("python/compat", "the names existing packages and users type: `src`, `core`, `cli`"),
    ("plugins_examples", "packages a plugin author can start from"),
    ("tests_cpp", "mirrors `cpp`"),
    ("tests_py", "mirrors `python`; also `e2e` and `codebase`"),
    ("bench", "load generator, provider stand-in, nginx as the yardstick"),
    ("packaging", "wheels, their list of libraries and their check; systemd unit, Containerfile"),
)


def first_sentence(text: str) -> str:
    return re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0].replace("|", r"\|")


def _of_readme(folder: str) -> str:
    text = (ROOT / "cpp" / folder / "README.md").read_text().lstrip("> ")
    start = f"**{folder}/** — "
    assert text.startswith(start), f"cpp/{folder}/README.md does not begin with {start}"
    return first_sentence(text.removeprefix(start))


def _of_docstring(path: Path) -> str:
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert said, f"{path.relative_to(ROOT)} does not say what it is"
    return first_sentence(said)


def _python(room: str) -> tuple[str, str]:
    place = Path("python/llm_proxy") / room.replace(".", "/")
    if (ROOT / place).is_dir():
        return str(place), _of_docstring(ROOT / place / "__init__.py")
    return f"{place}.py", _of_docstring(ROOT / f"{place}.py")


def table() -> str:
    rows = [(f"cpp/{folder}", _of_readme(folder)) for folder in test_layers.MAY_INCLUDE]
    rows += [_python(room) for room in test_python_layers.MAY_IMPORT if room]
    lines = [f"| `{place}` | {said} |\n" for place, said in (*rows, *_OTHERS)]
    return "| folder | what |\n|---|---|\n" + "".join(lines)


def renewed(page: str) -> str:
    assert _PLACE.search(page), "docs/architecture.md has no place for the table"
    return _PLACE.sub(lambda place: place[1] + table() + place[2], page)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
