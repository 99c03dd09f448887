"""`plugins.default.smart_router` is this very module."""

import sys

from llm_proxy.rings.builtin.default import smart_router

sys.modules[__name__] = smart_router
