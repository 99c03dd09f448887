"""`plugins.installed.onnx_pii_masker` is this very module."""

import sys

from llm_proxy.rings.builtin.extra import onnx_pii_masker

sys.modules[__name__] = onnx_pii_masker
