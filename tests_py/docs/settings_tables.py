"""The tables of docs/configuration.md and docs/backends.md, made from the tables of the code.

PYTHONPATH=python:tests_py python -m docs.settings_tables      writes them anew
"""

from __future__ import annotations

import re

from llm_proxy.backends.catalog import CATALOG, OAUTH_PACKAGE_BACKENDS, QUIRKS, Row
from llm_proxy.config import originals
from llm_proxy.config.table import BACKEND_SETTINGS, SETTINGS, Setting, Value
from repo import ROOT

PAGES = {
    name: ROOT / "docs" / f"{name}.md" for name in ("configuration", "backends", "compatibility")
}
_PLACE = "<!-- {0} -->\n{1}<!-- /{0} -->"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    return (
        ""
        if value in ("", (), {})
        else f"`{value:g}`"
        if isinstance(value, float)
        else f"`{value}`"
    )


def _of(setting: Setting) -> str:
    named = bool(setting.choices) and setting.path != "quirks"
    cells = (
        f"`{setting.path}`",
        ", ".join(f"`{flag}`" for flag in (*setting.flags, *(f for f, _ in setting.words))),
        ", ".join(f"`{name}`" for name in setting.env),
        _shown(setting.default),
        _cell(setting.help) + (f" ({', '.join(setting.choices)})" if named else ""),
    )
    return f"| {' | '.join(cells)} |\n"


def settings() -> str:
    head = "| in YAML | flag | variable | default | what it is |\n|---|---|---|---|---|\n"
    return head + "".join(map(_of, SETTINGS))


def backend_settings() -> str:
    rows = "".join(
        f"| `{setting.path}` | {_cell(setting.help)}"
        + (f" ({', '.join(setting.choices)})" if setting.path in ("key_policy", "format") else "")
        + (" *(plugin backends)*" if setting.plugin_only else "")
        + " |\n"
        for setting in BACKEND_SETTINGS
    )
    return "| key | what it is |\n|---|---|\n" + rows


def _row(row: Row) -> str:
    formats = row.format + (f", {row.other.format}" if row.other else "")
    variables = ", ".join(f"`{name}`" for name in (row.key_env, *row.url_env) if name)
    quirks = ", ".join((*row.quirks, *(row.other.quirks if row.other else ())))
    url = row.base_url or ("" if row.kind == "echo" else "*yours*")
    return f"| `{row.type}` | {row.title} | {formats} | {url} | {variables} | {quirks} |\n"


def rows() -> str:
    head = "| backend | provider | speaks | address | variables | quirks |\n"
    return f"{head}|{'---|' * 6}\n" + "".join(_row(row) for row in CATALOG.values())


def quirks() -> str:
    return "| quirk | what it does |\n|---|---|\n" + "".join(
        f"| `{name}` | {_cell(what)} |\n" for name, what in QUIRKS.items()
    )


def optional() -> str:
    return ", ".join(f"`{name}`" for name in sorted(OAUTH_PACKAGE_BACKENDS)) + "\n"


def same() -> str:
    """Flags of the originals that are settings here."""
    of = {flag: s for s in SETTINGS for flag in (*s.flags, *(word for word, _ in s.words))}
    rows = "".join(
        f"| `{flag}` | `{of[flag].path}` | {_cell(of[flag].flag_help or of[flag].help)} |\n"
        for flag in originals.SAME
        if flag in of
    )
    return "| flag | setting | what it does |\n|---|---|---|\n" + rows


def as_variables() -> str:
    rows = (f"| `{flag}` | `{name}` |\n" for flag, name in originals.AS_VARIABLE.items())
    return "| flag | sets |\n|---|---|\n" + "".join(rows)


def ignored() -> str:
    """What the originals know and this proxy takes without effect, area by area."""
    out = "| area | why it has no effect | in YAML | flags | variables |\n|---|---|---|---|---|\n"
    for area in originals.AREAS:
        options = list(area.options())
        cells = (
            [option.path for option in options if not option.path.startswith("(")],
            [flag for option in options for flag in option.flags],
            [name for option in options for name in option.variables],
        )
        lists = " | ".join(", ".join(f"`{name}`" for name in names) for names in cells)
        out += f"| {area.title} | {_cell(area.why)} | {lists} |\n"
    return out


def absent() -> str:
    rows = (f"| `{name}` | {why} |\n" for name, why in originals.BACKENDS.items())
    keys = (f"| `backends.NAME.{name}` | {why} |\n" for name, why in originals.OF_BACKENDS.items())
    return "| backend, or key of one | why |\n|---|---|\n" + "".join((*rows, *keys))


TABLES = {
    "absent": absent,
    "same": same,
    "as variables": as_variables,
    "ignored": ignored,
    "settings": settings,
    "backend settings": backend_settings,
    "rows": rows,
    "quirks": quirks,
    "optional": optional,
}


def renewed(page: str) -> str:
    for name, table in TABLES.items():
        place = re.compile(
            re.escape(f"<!-- {name} -->") + ".*?" + re.escape(f"<!-- /{name} -->"), re.S
        )
        page = place.sub(lambda _, n=name, t=table: _PLACE.format(n, t()), page)  # type: ignore[misc]
    return page


if __name__ == "__main__":
    for file in PAGES.values():
        file.write_text(renewed(file.read_text()))
