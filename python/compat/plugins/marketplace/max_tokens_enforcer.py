"""`plugins.marketplace.max_tokens_enforcer` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import max_tokens_enforcer

sys.modules[__name__] = max_tokens_enforcer
