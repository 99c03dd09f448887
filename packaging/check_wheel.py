"""Installs a wheel where no compiler is in reach and measures what a user meets first.

    python3 packaging/check_wheel.py WHEEL [--plant-ca]

--plant-ca (as root, on a machine that may be thrown away) also puts a certificate authority of its
own into the system's store, to show that an HTTPS provider is verified against that store: refused
before, answered after. Ends with status 1 if something does not hold. Needs python3 with venv.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

REPLY = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "verified"},
            "finish_reason": "stop",
        }
    ],
}
failures: list[str] = []


def hold(what: str, held: bool) -> None:
    print(f"{'ok  ' if held else 'FAIL'} {what}", flush=True)
    if not held:
        failures.append(what)


def ask(port: int, model: str) -> tuple[int, str]:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        body.encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Proxy:
    """A server on a free port, ended on leaving."""

    def __init__(self, command: Path, folder: Path, *flags: str) -> None:
        environment = {"HOME": str(folder), "PATH": str(command.parent)}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [command, "--port", "0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
        )
        assert self.process.stdout is not None
        first = ""
        for first in self.process.stdout:
            if "http://127.0.0.1:" in first:
                break
        self.port = int(first.split("http://127.0.0.1:")[1].split("/")[0].split()[0])
        self.listens = time.monotonic() - self.started
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)


class Provider(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(REPLY).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


MAKE_CA = """
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
def name(text): return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
def made(subject, key, issuer, issuer_key, *extensions):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2)))
    for extension in extensions: builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
folder = sys.argv[1]
open(folder + "/ca.crt", "wb").write(made("wheel check", ca_key, "wheel check", ca_key,
    x509.BasicConstraints(True, None)))
open(folder + "/server.pem", "wb").write(made("localhost", key, "wheel check", ca_key,
    x509.SubjectAlternativeName([x509.DNSName("localhost")]))
    + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
"""


def check_https(python: Path, command: Path, folder: Path) -> None:
    subprocess.run([python, "-c", MAKE_CA, folder], check=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "config.yaml"
    config.write_text(
        "backends:\n  local:\n    type: openai\n    api_key: a-key\n"
        f"    api_url: https://localhost:{server.server_port}/v1\n"
    )
    with Proxy(command, folder, "--config", str(config)) as proxy:
        status, _ = ask(proxy.port, "local:m")
        hold(f"an unknown certificate authority is refused ({status})", status >= 500)
    shutil.copy(folder / "ca.crt", "/usr/local/share/ca-certificates/wheel-check.crt")
    subprocess.run(["update-ca-certificates"], check=True, stdout=subprocess.DEVNULL)
    with Proxy(command, folder, "--config", str(config)) as proxy:
        status, text = ask(proxy.port, "local:m")
        hold(
            "an HTTPS provider is verified by the system's store",
            status == 200 and "verified" in text,
        )
    server.shutdown()


def main(wheel: Path, plant_ca: bool) -> int:
    hold(
        "no compiler is here" if plant_ca else "checked beside a compiler",
        not plant_ca or not shutil.which("c++"),
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        begun = time.monotonic()
        subprocess.run([*pip, "--no-deps", wheel], check=True)
        took = time.monotonic() - begun
        site = next((folder / "venv" / "lib").glob("python3*/site-packages"))
        ours = [
            p
            for n in ("llm_proxy", "llm_interactive_proxy*", "cli", "core", "src", "plugins")
            for p in site.glob(n)
        ]
        size = sum(f.stat().st_size for p in ours for f in p.rglob("*") if f.is_file()) / 1e6
        hold(
            f"pip install without dependencies: {took:.1f} s, {size:.1f} MB",
            took <= 10 and size <= 30,
        )
        subprocess.run([*pip, wheel], check=True)
        command = folder / "venv" / "bin" / "llm-proxy"
        times = []
        for _ in range(5):
            begun = time.monotonic()
            subprocess.run([command, "--version"], check=True, stdout=subprocess.DEVNULL)
            times.append(time.monotonic() - begun)
        hold(f"llm-proxy --version: {sorted(times)[2]:.2f} s", sorted(times)[2] <= 0.2)
        answers = []
        for _ in range(3):
            with Proxy(command, folder) as proxy:
                status, _text = ask(proxy.port, "echo")
                answers.append(time.monotonic() - proxy.started if status == 200 else 60.0)
        shown = ", ".join(f"{seconds:.2f}" for seconds in answers)
        hold(
            f"first answer after the process began: {shown} s; the best counts", min(answers) <= 0.3
        )
        if plant_ca:
            check_https(python, command, folder)
    return 1 if failures else 0


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main(Path(sys.argv[1]).resolve(), "--plant-ca" in sys.argv[2:]))
