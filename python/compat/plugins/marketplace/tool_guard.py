"""`plugins.marketplace.tool_guard` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import tool_guard

sys.modules[__name__] = tool_guard
