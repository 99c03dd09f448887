"""The command line: `llm-proxy [flags]`, `llm-proxy config`, `llm-proxy check-config`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from llm_proxy.cli import commands
    from llm_proxy.config.errors import ConfigError

    try:
        return commands.run(arguments)
    except ConfigError as error:
        for problem in error.problems:
            print(f"llm-proxy: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
