"""A setting has one name from YAML to C++: its path is that of the member in ServerConfig."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from llm_proxy import _core
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot
from llm_proxy.config.table import SETTINGS
from repo import ROOT

# Made from several settings, from the catalog and from the environment.
MADE = {
    *("backends", "default_backend", "default_model", "static_route", "not_installed"),
    *("ca_file", "ca_dir", "version"),
}
OF_THE_ENGINE = [setting.path for setting in SETTINGS if setting.engine]
MEMBER = re.compile(r'Member\{\s*"(\w+)",\s*&([\w:]+)::(\w+)\s*\}')
STRUCT = re.compile(r"^struct (\w+)[^;{]*\{\n(.*?)^\};", re.M | re.S)
FIELD = re.compile(r"^ {2}([\w:]+(?:<.*>)?) (\w+)(?: = .*|\{.*\})?;", re.M)


def table() -> dict[str, list[str]]:
    """The members that server_config.cc reads, by the C++ type they belong to."""
    text = (ROOT / "cpp/config/server_config.cc").read_text()
    found: dict[str, list[str]] = {}
    for key, owner, member in MEMBER.findall(text):
        assert key == member, f"{owner}::{member} is read from another name, {key}"
        found.setdefault(owner, []).append(key)
    return found


def paths(owner: str, members: dict[str, list[str]], types: dict[str, str]) -> list[str]:
    """Every member below a type, as paths; a section is a member whose type is in the table."""
    made = []
    for member in members[owner]:
        inner = types.get(f"{owner}::{member}", "")
        if inner in members and inner not in ("Backend", "Quirks"):
            made += [f"{member}.{path}" for path in paths(inner, members, types)]
        else:
            made.append(member)
    return made


def types_of_members() -> dict[str, str]:
    text = (ROOT / "cpp/config/server_config.h").read_text()
    return {
        f"{owner}::{member}": kind
        for owner, body in STRUCT.findall(text)
        for kind, member in FIELD.findall(body)
    }


def test_the_engines_members_are_the_settings_and_nothing_else() -> None:
    members = table()
    assert len(members) > 15
    in_cpp = set(paths("ServerConfig", members, types_of_members()))
    assert in_cpp - MADE == set(OF_THE_ENGINE)
    assert in_cpp >= MADE


@pytest.mark.parametrize("path", OF_THE_ENGINE)
def test_the_snapshot_has_the_setting_at_its_own_path_and_the_engine_reads_it_there(
    path: str,
) -> None:
    made = json.loads(snapshot(load(Sources(environment={}))))
    *sections, name = path.split(".")
    section: Any = made
    for part in sections:
        section = section[part]
    assert name in section
    assert _core.check_config(json.dumps(made)) == ""
    section[name] = {"no such": [{}]}
    with pytest.raises(ValueError, match=re.escape(f"config.{path}")):
        _core.check_config(json.dumps(made))


@pytest.mark.parametrize("path", [s.path for s in SETTINGS if not s.engine])
def test_what_python_keeps_to_itself_is_not_in_the_snapshot(path: str) -> None:
    made: Any = json.loads(snapshot(load(Sources(environment={}))))
    for part in path.split("."):
        made = made.get(part) if isinstance(made, dict) else None
    assert made is None
