"""`plugins.default.telemetry_ops` is this very module."""

import sys

from llm_proxy.rings.builtin.default import telemetry_ops

sys.modules[__name__] = telemetry_ops
