"""`core.pricing` is this very module: what plugins set in it is seen everywhere."""

import sys

from llm_proxy.rings.services import pricing

sys.modules[__name__] = pricing
