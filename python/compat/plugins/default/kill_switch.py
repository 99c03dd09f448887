"""`plugins.default.kill_switch` is this very module."""

import sys

from llm_proxy.rings.builtin.default import kill_switch

sys.modules[__name__] = kill_switch
