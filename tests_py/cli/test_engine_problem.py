"""An engine that is missing or cannot be loaded ends in one line that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from repo import ROOT


@pytest.fixture
def without_engine(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "python" / "llm_proxy",
        tmp_path / "llm_proxy",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    return tmp_path


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    others = [path for path in sys.path if path and not path.startswith(str(ROOT / "python"))]
    argv = ["llm-proxy", *(arguments or ("config", "--explain"))]
    code = f"import sys; sys.path[:] = {[str(site), *others]!r}; sys.argv = {argv!r}\n"
    code += "from llm_proxy.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )


def test_a_missing_engine(without_engine: Path) -> None:
    done = run(without_engine)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("llm-proxy: there is no engine for CPython 3.")
    assert "pip install" in line


def test_an_engine_that_the_system_refuses_to_load(without_engine: Path) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (without_engine / "llm_proxy" / f"_core{suffix}").write_bytes(b"\x7fELF, cut off")
    done = run(without_engine)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "cannot be loaded" in line and f"_core{suffix}" in line


def test_the_version_is_told_without_the_engine(without_engine: Path) -> None:
    done = run(without_engine, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("llm-proxy ")
