"""`plugins.marketplace.context_window_guard` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import context_window_guard

sys.modules[__name__] = context_window_guard
