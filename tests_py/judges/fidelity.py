"""Profile of this proxy for the fidelity judge: four backends, one for each wire format.

Run by the judge (`judge.py --profile tests_py/judges/fidelity.py`), whose `profiles` it imports.
LLM_PROXY_PYTHON names the interpreter that has the proxy (default: the judge's own).
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from profiles import KEY, Profile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BACKENDS = {
    "C": ("openai-compatible", "/v1"),
    "R": ("openai-responses", "/v1"),
    "A": ("anthropic-compatible", ""),
    "G": ("gemini-compatible", ""),
}


class Product(Profile):
    """`cup:model`, `rup:model`, `aup:model`, `gup:model` name the four upstreams."""

    listen = 4610

    def start(self, ports):
        super().start(ports)
        config = {
            "port": self.listen,
            "auth": {"api_keys": [KEY]},
            "backends": {
                y.lower() + "up": {
                    "type": kind,
                    "api_url": f"http://127.0.0.1:{ports[y]}{path}",
                    "api_key": "sk-up",
                }
                for y, (kind, path) in BACKENDS.items()
            },
            "default_backend": "cup",
            # Recorded limits and outages follow each other here: none of them may rest a backend.
            "failure_handling": {"enabled": False},
        }
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="fidelity-"))
        (self.dir / "config.yaml").write_text(json.dumps(config))
        python_path = os.pathsep.join([str(ROOT / "python"), str(ROOT / "python" / "compat")])
        with open(self.dir / "log", "w") as log:
            self.process = subprocess.Popen(
                [
                    os.environ.get("LLM_PROXY_PYTHON", sys.executable),
                    "-m",
                    "cli",
                    "--config",
                    str(self.dir / "config.yaml"),
                ],
                env={**os.environ, "PYTHONPATH": python_path, "NO_PROXY": "*"},
                cwd=self.dir,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait("/health")

    def name(self, X, Y, model):
        return f"{Y.lower()}up:{model}"
