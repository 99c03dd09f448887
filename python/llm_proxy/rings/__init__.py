"""Ring plugins, on four floors.

`sdk` and `context` are what a plugin is written with; `services` is what it reaches the proxy
through; `builtin` holds the plugins that come with the proxy; `runtime` loads, runs and replaces
plugins.
"""
