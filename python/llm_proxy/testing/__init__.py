"""For the tests of plugin authors: a backend asked as the proxy asks it, plugins inside a proxy."""

from llm_proxy.backends.runtime.check import backend_problems
from llm_proxy.testing.backends import Answer, BackendProbe
from llm_proxy.testing.proxy import Received, Reply, ScriptedUpstream, running_proxy
from llm_proxy.testing.rings import Outcome, RingProbe

__all__ = [
    "Answer",
    "BackendProbe",
    "Outcome",
    "Received",
    "Reply",
    "RingProbe",
    "ScriptedUpstream",
    "backend_problems",
    "running_proxy",
]
