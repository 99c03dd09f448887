"""`pip install .`: what is in the wheel, and that it runs from there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import llm_proxy
from repo import ROOT

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as pip installs it, in a folder of its own; ccache makes it short."""
    folder = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w"]
    done = subprocess.run(
        [*pip, str(folder), str(ROOT)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    (wheel,) = folder.glob("llm_interactive_proxy-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_the_extension_and_every_top_level_name(installed: Path) -> None:
    assert len(list((installed / "llm_proxy").glob("_core*.so"))) == 1
    assert (installed / "llm_proxy" / "py.typed").is_file()
    for name in ("cli/__main__.py", "src/core/cli.py", "src/core/plugin_api.py", "core"):
        assert (installed / name).exists(), name
    assert {path.name for path in installed.iterdir()} == {
        "llm_proxy",
        "cli",
        "src",
        "core",
        "plugins",
        f"llm_interactive_proxy-{llm_proxy.__version__}.dist-info",
    }


def test_the_metadata_names_the_command_and_the_version(installed: Path) -> None:
    (info,) = installed.glob("*.dist-info")
    assert f"Version: {llm_proxy.__version__}\n" in (info / "METADATA").read_text()
    assert "llm-proxy = llm_proxy.cli:main" in (info / "entry_points.txt").read_text()


@pytest.mark.parametrize("module", ["cli", "src.core.cli"])
def test_it_runs_from_where_it_was_installed(installed: Path, module: str) -> None:
    code = (
        f"import sys; sys.path[:0] = [{str(installed)!r}]; sys.argv = ['llm-proxy', '--version'];"
        "import llm_proxy._core, runpy;"
        f"assert llm_proxy.__file__.startswith({str(installed)!r});"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == f"llm-proxy {llm_proxy.__version__}\n", done.stderr
