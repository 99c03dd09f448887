"""`plugins.marketplace.shadow_traffic` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import shadow_traffic

sys.modules[__name__] = shadow_traffic
