"""A wheel's list of libraries: what is in it, under valid references."""

from __future__ import annotations

import importlib.util
import json
import shutil
from types import ModuleType

import pytest

from repo import ROOT


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "packaging" / "sbom.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="versions come from Debian's packages")
def test_each_library_of_a_wheel_has_its_version_and_licence(sbom: ModuleType) -> None:
    files = ["libssl-59d05945.so.3", "libcrypto-7c3c55df.so.3"]
    text = sbom.document("llm-interactive-proxy", "1.2", [*sbom.copied(files), *sbom.compiled_in()])
    read = json.loads(text)
    rows = {row["name"]: row for row in read["components"]}
    assert rows.keys() == {"libssl", "libcrypto", "boost", "nlohmann-json", "pybind11"}
    assert rows["libssl"]["version"].startswith("3.")
    assert rows["libssl"]["licenses"] == [{"expression": "Apache-2.0"}]
    references = [row["bom-ref"] for row in read["components"]]
    assert len(set(references)) == len(references)
    assert read["dependencies"][0]["dependsOn"] == references


def test_a_library_without_a_known_licence_ends_the_build(sbom: ModuleType) -> None:
    with pytest.raises((KeyError, ValueError)):
        sbom.copied(["libunknown-0123abcd.so.1"])
