"""Another name of `llm_proxy.backends.runtime.discovery`.

The same module, so that what is patched here is patched there.
"""

import sys

from llm_proxy.backends.runtime import discovery as backend_discovery

sys.modules[__name__] = backend_discovery
