"""Plugins: how they are found, what they are handed, and how the engine calls them.

`backend_*` is about backend plugins: packages of the entry-point group `llm_proxy_backends`.
"""
