"""The bench itself: it builds, runs for a moment, and what it prints and writes can be read."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from bench.servers import build_binaries

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset"),
    pytest.mark.skipif(
        not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()), reason="needs nginx"
    ),
]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "bench/run.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
    )


def test_a_short_run_measures_nginx_and_the_mock_and_writes_what_it_saw(tmp_path: Path) -> None:
    out = tmp_path / "seen.json"
    done = bench(
        "--quick",
        "--without-proxy",
        "--only",
        "raw/small",
        "--only",
        "raw/stream",
        "--json",
        str(out),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| raw/")]
    assert [row.split("|")[1].strip() for row in rows] == ["raw/small", "raw/stream"]
    for load in json.loads(out.read_text())["loads"]:
        assert load["problem"] == ""
        assert len(load["nginx"]) == len(load["direct"]) == 2
        for sample in load["nginx"]:
            assert sample["cpu_us"] > 1
            assert sample["seen"]["ok"] > 10
            assert sample["seen"]["hash"] == load["direct"][0]["seen"]["hash"]


def test_an_unknown_scenario_is_named() -> None:
    done = bench("--only", "raw/nothing")
    assert done.returncode == 2
    assert "no scenario is called raw/nothing" in done.stderr


def test_varied_requests_differ_in_the_marked_letters_only(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    class Upstream(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever).start()
    try:
        body = tmp_path / "body"
        body.write_bytes(b'{"a":"qqqq","b":"qq"}')
        generator = str(build_binaries(None) / "load_generator")
        command = [generator, "--port", str(server.server_port), "--body", str(body)]
        command += ["--requests", "30", "--seconds", "30", "--vary", "qqqq"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    finally:
        server.shutdown()
        server.server_close()
    assert json.loads(done.stdout)["ok"] == len(bodies) == len(set(bodies)) == 30
    assert {(each[:6], len(each[6:10]), each[10:]) for each in bodies} == {
        (b'{"a":"', 4, b'","b":"qq"}')
    }
