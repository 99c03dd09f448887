"""`plugins.marketplace.system_prompt_enforcer` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import system_prompt_enforcer

sys.modules[__name__] = system_prompt_enforcer
