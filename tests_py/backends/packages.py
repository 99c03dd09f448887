"""Packages as pip leaves them: modules and a `dist-info` with entry points, in a folder of their
own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from repo import ROOT

EXAMPLES = ROOT / "plugins_examples"


def install(site: Path, name: str, entry_points: dict[str, str], **modules: str) -> None:
    """A distribution `name` with these entry points (name → target) and modules (name → source)."""
    for module, source in modules.items():
        site.joinpath(f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = ["[llm_proxy_backends]", *(f"{key} = {value}" for key, value in entry_points.items())]
    info.joinpath("entry_points.txt").write_text("\n".join(lines) + "\n")


def install_example(site: Path, folder: str) -> None:
    """One of our example packages, with the entry points its own pyproject.toml declares."""
    project = EXAMPLES / folder / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    name = re.search(r'^name = "(.+)"', text, re.MULTILINE)
    group = re.search(r'entry-points."llm_proxy_backends"\]\n((?:.+ = ".+"\n)+)', text)
    assert name is not None
    assert group is not None
    install(site, name[1], dict(re.findall(r'(\S+) = "(.+)"', group[1])))
    shutil.copytree(EXAMPLES / folder / "src", site, dirs_exist_ok=True)
