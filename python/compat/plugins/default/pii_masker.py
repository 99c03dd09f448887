"""`plugins.default.pii_masker` is this very module."""

import sys

from llm_proxy.rings.builtin.default import pii_masker

sys.modules[__name__] = pii_masker
