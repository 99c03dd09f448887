"""`plugins.default.context_minifier` is this very module."""

import sys

from llm_proxy.rings.builtin.default import context_minifier

sys.modules[__name__] = context_minifier
