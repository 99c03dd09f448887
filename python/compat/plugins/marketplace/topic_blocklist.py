"""`plugins.marketplace.topic_blocklist` is this very module."""

import sys

from llm_proxy.rings.builtin.marketplace import topic_blocklist

sys.modules[__name__] = topic_blocklist
