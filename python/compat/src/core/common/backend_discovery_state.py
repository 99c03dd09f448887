"""Another name of `llm_proxy.backends.runtime.discovery_state`.

The same module, so that what is patched here is patched there.
"""

import sys

from llm_proxy.backends.runtime import discovery_state as backend_state

sys.modules[__name__] = backend_state
