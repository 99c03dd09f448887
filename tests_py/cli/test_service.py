"""A service manager learns when the proxy listens and when it stops, and the files for it fit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from llm_proxy.cli.service import tell_service_manager
from repo import ROOT

UNIT = ROOT / "packaging" / "systemd" / "llm-proxy.service"


def test_ready_comes_once_it_answers_and_stopping_once_it_is_told_to(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        paths = os.pathsep.join((str(ROOT / "python"), str(ROOT / "python" / "compat")))
        with subprocess.Popen(
            [sys.executable, "-m", "llm_proxy", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "NOTIFY_SOCKET": address, "PYTHONPATH": paths},
        ) as process:
            try:
                assert manager.recv(100) == b"READY=1"
                assert process.stdout is not None
                line = next(line for line in process.stdout if "http://127.0.0.1:" in line)
                port = line.split("http://127.0.0.1:")[1].split("/")[0].split()[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as reply:
                    assert reply.status == 200
                process.send_signal(signal.SIGTERM)
                assert manager.recv(100) == b"STOPPING=1"
                assert process.wait(60) == 0
            finally:
                process.kill()


@pytest.mark.parametrize("address", ["", "relative", "/nope/socket", "@nobody-listens-here"])
def test_a_manager_that_is_not_there_stops_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert tell_service_manager("READY=1") is False


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_the_unit_is_confined() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout
