"""`plugins.installed.ai_dependency_guard` is this very module."""

import sys

from llm_proxy.rings.builtin.extra import ai_dependency_guard

sys.modules[__name__] = ai_dependency_guard
