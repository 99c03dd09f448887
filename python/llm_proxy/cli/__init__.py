"""The command line: `llm-proxy [COMMAND] [flags]`; without a command it serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 2 when something must be set right first."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from llm_proxy.cli import commands
    from llm_proxy.config.errors import ConfigError

    try:
        return commands.run(arguments)
    except ConfigError as error:
        commands.complain(error.problems)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130
