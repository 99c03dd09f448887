"""`core.stream_faker` is this very module: what plugins set in it is seen everywhere."""

import sys

from llm_proxy.rings.services import stream_faker

sys.modules[__name__] = stream_faker
