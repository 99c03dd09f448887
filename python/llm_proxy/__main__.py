import sys

from llm_proxy.cli import main

sys.exit(main())
