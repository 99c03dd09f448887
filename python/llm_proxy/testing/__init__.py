"""For the tests of plugin authors: a backend asked as the proxy asks it, or behind a proxy."""

from llm_proxy.backends.runtime.check import backend_problems
from llm_proxy.testing.backends import Answer, BackendProbe
from llm_proxy.testing.proxy import Received, Reply, ScriptedUpstream, running_proxy

__all__ = [
    "Answer",
    "BackendProbe",
    "Received",
    "Reply",
    "ScriptedUpstream",
    "backend_problems",
    "running_proxy",
]
