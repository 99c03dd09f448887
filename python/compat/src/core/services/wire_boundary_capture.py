"""Another name of `llm_proxy.backends.runtime.capture.wire_capture`.

The same module, so that what is patched here is patched there.
"""

import sys

from llm_proxy.backends.runtime.capture import wire_capture as backend_capture

sys.modules[__name__] = backend_capture
