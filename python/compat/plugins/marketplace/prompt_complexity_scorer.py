"""`plugins.marketplace.prompt_complexity_scorer` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import prompt_complexity_scorer

sys.modules[__name__] = prompt_complexity_scorer
