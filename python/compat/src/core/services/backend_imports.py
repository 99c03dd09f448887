"""Importing this finds every backend, once."""

from llm_proxy.plugins.backend_discovery import discover_backends

discover_backends()
