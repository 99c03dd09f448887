"""Another name of `llm_proxy.plugins.backend_http`: the same module, so that what is patched
here is patched there."""

import sys

from llm_proxy.plugins import backend_http

sys.modules[__name__] = backend_http
