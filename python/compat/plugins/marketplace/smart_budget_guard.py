"""`plugins.marketplace.smart_budget_guard` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import smart_budget_guard

sys.modules[__name__] = smart_budget_guard
