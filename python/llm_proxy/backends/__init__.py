"""Backends written in Python: the base classes, the catalog of providers, translation.

`catalog` has a row for each provider · `base`, `openai`, `anthropic` and `gemini` are what packages
derive from · `registry` knows names · `app_config` is what packages read of the configuration ·
`plugin_api` is what a package declares · `runtime` runs them.
"""
