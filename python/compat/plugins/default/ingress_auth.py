"""`plugins.default.ingress_auth` is this very module."""

import sys

from llm_proxy.rings.builtin.default import ingress_auth

sys.modules[__name__] = ingress_auth
