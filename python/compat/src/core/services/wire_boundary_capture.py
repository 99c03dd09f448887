"""Another name of `llm_proxy.plugins.backend_capture`: the same module, so that what is patched
here is patched there."""

import sys

from llm_proxy.plugins import backend_capture

sys.modules[__name__] = backend_capture
