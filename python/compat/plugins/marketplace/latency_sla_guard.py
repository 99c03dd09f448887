"""`plugins.marketplace.latency_sla_guard` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import latency_sla_guard

sys.modules[__name__] = latency_sla_guard
