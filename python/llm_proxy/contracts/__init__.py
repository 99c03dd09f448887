"""What backend plugins and the proxy promise each other: types and errors, no machinery.

`exceptions`, `responses`, `usage`, `session` and `services` cost nothing to import. The modules
that need pydantic (`model_bases`, `chat`, `requests`) are imported only where a
backend plugin is installed.
"""
