"""`python -m llm_proxy`: the command line."""

import sys

from llm_proxy.cli import main

sys.exit(main())
