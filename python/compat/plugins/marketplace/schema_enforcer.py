"""`plugins.marketplace.schema_enforcer` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import schema_enforcer

sys.modules[__name__] = schema_enforcer
