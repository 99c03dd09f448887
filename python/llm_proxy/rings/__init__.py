"""The ring plugins that come with the proxy, and what they stand on.

`manifest.yaml` lists them; `default`, `marketplace` and `extra` hold one file a plugin; `host` is
what plugins reach the proxy through.
"""
