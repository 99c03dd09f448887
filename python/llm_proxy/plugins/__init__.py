"""Plugins: how they are found, what they are handed, and how the engine calls them.

`backend_*` is about backend plugins: packages of the entry-point group `llm_proxy_backends`. The
rest is about ring plugins: `sdk` and `context` are what they are written with, `manifest`, `gate`
and `loader` bring them in, `engine` says what answers mean, `manager` holds them together.
"""
