"""For the tests of plugin authors: a backend asked as the proxy asks it, without a proxy."""

from llm_proxy.testing.backends import Answer, BackendProbe

__all__ = ["Answer", "BackendProbe"]
