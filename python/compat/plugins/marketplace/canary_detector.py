"""`plugins.marketplace.canary_detector` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import canary_detector

sys.modules[__name__] = canary_detector
