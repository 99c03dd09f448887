"""The command line: `llm-proxy [COMMAND] [flags]`; without a command it serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from llm_proxy import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 2 when something must be set right first."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in (["--version"], ["-V"]):  # asked by scripts: nothing is loaded for it
        print(f"llm-proxy {__version__}")
        return 0
    try:
        from llm_proxy.cli import commands
        from llm_proxy.config.errors import ConfigError
    except ImportError as error:
        problem = _engine_problem(error)
        if problem is None:
            raise
        print(f"llm-proxy: {problem}", file=sys.stderr)
        return 2

    try:
        return commands.run(arguments)
    except ConfigError as error:
        commands.complain(error.problems)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130


def _engine_problem(error: ImportError) -> str | None:
    """One line, if it is the extension that cannot be imported; None: `error` is something else."""
    if error.name not in ("_core", "llm_proxy._core"):  # the first is what the loader calls it
        return None
    if not isinstance(error, ModuleNotFoundError):
        return (
            f"the engine cannot be loaded: {error}; install the wheel for this system, "
            f"or the library that is missing: {sys.executable} -m pip install --force-reinstall "
            "llm-interactive-proxy"
        )
    version = ".".join(map(str, sys.version_info[:2]))
    return (
        f"there is no engine for CPython {version} here; in a clone of the repository: ./dev run, "
        f"else: {sys.executable} -m pip install --force-reinstall llm-interactive-proxy"
    )
