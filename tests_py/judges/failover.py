"""Profile of this proxy for the failover judge: one backend a leg, one failover route a scenario.

Run by the judge (`judge.py --profile tests_py/judges/failover.py`), whose `contract` module it
imports.
LLM_PROXY_PYTHON names the interpreter that has the proxy (default: the judge's own).
"""

import json
import os
import pathlib
import sys
import tempfile

from contract import CLIENT_KEY, RETRIES, TIMEOUT, Profile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TYPES = {"openai": ("openai-compatible", "/v1"), "anthropic": ("anthropic-compatible", "/v1")}


class Product(Profile):
    """A route's name is the model a client asks for."""

    port = 4710

    def start(self, routes):
        backends, chains = {}, {}
        for route in routes:
            elements = []
            for leg in route.legs:
                kind, path = TYPES[leg.format]
                name = f"{route.name}-{leg.role}"
                backends[name] = {"type": kind, "api_url": leg.base + path, "api_keys": leg.keys}
                elements.append(f"{name}:{leg.model}")
            chains[route.name] = {"elements": elements, "first_token": TIMEOUT}
        waits = dict.fromkeys(("connect", "first_byte", "stream_idle"), TIMEOUT)
        config = {
            "port": self.port,
            "auth": {"api_keys": [CLIENT_KEY]},
            "backends": backends,
            "failover_routes": chains,
            "failure_handling": {"max_attempts": RETRIES + 1},
            "timeouts": waits,
        }
        self.dir = tempfile.mkdtemp(prefix="failover-")
        pathlib.Path(self.dir, "config.yaml").write_text(json.dumps(config))
        python_path = os.pathsep.join([str(ROOT / "python"), str(ROOT / "python" / "compat")])
        python = os.environ.get("LLM_PROXY_PYTHON", sys.executable)
        self.run(
            [python, "-m", "cli", "--config", "config.yaml"], {"PYTHONPATH": python_path}, "/health"
        )
