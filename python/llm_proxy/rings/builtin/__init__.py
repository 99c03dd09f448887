"""The ring plugins that come with the proxy: one file each, and `manifest.yaml` lists them."""
