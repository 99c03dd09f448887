"""`plugins.marketplace.agentic_loop_breaker` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import agentic_loop_breaker

sys.modules[__name__] = agentic_loop_breaker
