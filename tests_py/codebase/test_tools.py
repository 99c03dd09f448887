"""The linters, as tests: what they say about the tree is what the build says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import llm_proxy
from repo import ROOT, tracked

BIN = Path(sys.executable).parent


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_ruff_has_nothing_to_say() -> None:
    run(sys.executable, "-m", "ruff", "check", ".")


def test_python_is_formatted() -> None:
    run(sys.executable, "-m", "ruff", "format", "--check", "python", "tests_py")


def test_mypy_strict_has_nothing_to_say() -> None:
    run(sys.executable, "-m", "mypy", "--no-error-summary")


# What stubtest says of every pybind11 class, and no stub can mend.
PYBIND11 = (
    "metaclass differs",
    '__init__ is inconsistent, stub does not have *args parameter "args"',
)


def test_the_stub_says_what_the_extension_has() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "llm_proxy._core", "--concise"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert not done.stderr
    said = done.stdout.splitlines()
    assert any("llm_proxy._core.Server" in line for line in said), "nothing was compared"
    assert [line for line in said if not line.endswith(PYBIND11)] == []


def test_cpp_is_formatted() -> None:
    tool = BIN / "clang-format"
    found = str(tool) if tool.exists() else shutil.which("clang-format-16")
    assert found, "clang-format 16 is part of the dev packages"
    files = [
        str(path)
        for path in tracked("cpp/*.h", "cpp/*.cc", "tests_cpp/*.h", "tests_cpp/*.cc", "bench/*")
        if path.suffix in (".h", ".cc")
    ]
    run(found, "--dry-run", "--Werror", *files)


def test_there_is_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scikit_build_core.build as backend

    assert re.fullmatch(r"0\.1\.\d+", llm_proxy.__version__)
    monkeypatch.chdir(ROOT)
    made = tmp_path / backend.prepare_metadata_for_build_wheel(str(tmp_path)) / "METADATA"
    assert f"\nVersion: {llm_proxy.__version__}\n" in made.read_text()


@pytest.mark.parametrize("script", ["dev", ".ci/run"])
def test_scripts_are_sound(script: str) -> None:
    run("bash", "-n", script)
    assert (ROOT / script).stat().st_mode & 0o111
