"""Importing this finds every backend, once."""

from llm_proxy.backends.runtime.discovery import discover_backends

discover_backends()
