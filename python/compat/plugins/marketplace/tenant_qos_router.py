"""`plugins.marketplace.tenant_qos_router` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import tenant_qos_router

sys.modules[__name__] = tenant_qos_router
