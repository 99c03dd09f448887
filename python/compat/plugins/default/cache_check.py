"""`plugins.default.cache_check` is this very module."""

import sys

from llm_proxy.rings.builtin.default import cache_check

sys.modules[__name__] = cache_check
