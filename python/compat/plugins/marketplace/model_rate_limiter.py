"""`plugins.marketplace.model_rate_limiter` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import model_rate_limiter

sys.modules[__name__] = model_rate_limiter
