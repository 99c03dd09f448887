"""`core.tokenizer` is this very module: what plugins set in it is seen everywhere."""

import sys

from llm_proxy.rings.services import tokenizer

sys.modules[__name__] = tokenizer
