"""`plugins.marketplace.response_quality_gate` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import response_quality_gate

sys.modules[__name__] = response_quality_gate
