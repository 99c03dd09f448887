"""An example of a backend plugin whose traffic the engine carries."""
