"""The tests that the example package of ring plugins ships are what its authors copy: they pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from repo import ROOT

EXAMPLE = ROOT / "plugins_examples" / "word_guard"


def run(tests: Path, source: Path) -> subprocess.CompletedProcess[str]:
    paths = [source, ROOT / "python", ROOT / "python" / "compat"]
    options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(tests)]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tests)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(map(str, paths))},
    )


def test_the_tests_of_the_example_pass() -> None:
    done = run(EXAMPLE / "tests", EXAMPLE / "src")
    assert (done.returncode, "3 passed" in done.stdout) == (0, True), done.stdout[-3000:]


def test_they_fail_with_the_reason_when_the_plugin_has_a_bug(tmp_path: Path) -> None:
    package = tmp_path / "word_guard"
    package.mkdir()
    (package / "__init__.py").touch()
    text = (EXAMPLE / "src" / "word_guard" / "plugins.py").read_text()
    asked = 'ctx.body.get("messages")'
    assert asked in text
    (package / "plugins.py").write_text(text.replace(asked, 'ctx.body["mesages"]'))
    done = run(EXAMPLE / "tests", tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'mesages'" in done.stdout
