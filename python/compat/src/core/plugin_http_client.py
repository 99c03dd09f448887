"""Another name of `llm_proxy.backends.runtime.capture.plugin_client`.

The same module, so that what is patched here is patched there.
"""

import sys

from llm_proxy.backends.runtime.capture import plugin_client as backend_http

sys.modules[__name__] = backend_http
