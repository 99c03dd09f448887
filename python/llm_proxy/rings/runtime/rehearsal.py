"""Runs one plugin file in a process of its own: what ends or hangs that harms nobody.

    python rehearsal.py FILE SECONDS SYS_PATH <the file's text

Says READY, runs the text, says DONE whatever it raised: that is told where it is loaded for good.
Not a sandbox either: the process has the rights of the proxy.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import subprocess
import sys
from types import ModuleType

READY, DONE = b"[ready]", b"[done]"


def rehearse(text: str, path: str, seconds: float) -> str | None:
    """What is wrong with loading it, if it does not come to an end. Blocks for so long at most."""
    command = [sys.executable, __file__, path, str(seconds), json.dumps(sys.path)]
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing it takes more than {seconds:g} s"
    except OSError as error:
        said = str(error)
    else:
        if done.stdout.endswith(DONE):
            return None
        if done.stdout.startswith(READY):
            return f"importing it ends the process with {_end(done.returncode)}"
        said = f"it ended with {_end(done.returncode)}"
    # Python is not to be had beside this very process: nothing speaks against the plugin.
    logging.getLogger("llm_proxy.plugins").warning("%s is not tried out: %s", sys.executable, said)
    return None


def _end(code: int) -> str:
    return f"status {code}" if code >= 0 else signal.Signals(-code).name


def main() -> None:
    path, seconds, search = sys.argv[1:]
    signal.alarm(math.ceil(float(seconds)) + 1)  # should nobody be waiting any more
    sys.path[:] = json.loads(search)
    module = ModuleType("_llm_proxy_plugin_rehearsed")
    module.__file__ = path
    sys.modules[module.__name__] = module
    text = sys.stdin.buffer.read().decode()
    os.write(1, READY)
    with contextlib.suppress(BaseException):  # the proxy will see the same, and say it
        exec(compile(text, path, "exec"), module.__dict__)
    os.write(1, DONE)
    os._exit(0)  # threads it has started do not count


if __name__ == "__main__":
    main()
