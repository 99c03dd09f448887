"""`plugins.marketplace.ab_model_router` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import ab_model_router

sys.modules[__name__] = ab_model_router
