"""`plugins.default.shield_sanitizer` is this very module."""

import sys

from llm_proxy.rings.builtin.default import shield_sanitizer

sys.modules[__name__] = shield_sanitizer
