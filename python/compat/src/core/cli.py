"""`python -m src.core.cli`: the command line of llm_proxy under the name existing guides type."""

import sys

from llm_proxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
