"""`plugins.marketplace.model_downgrader` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import model_downgrader

sys.modules[__name__] = model_downgrader
