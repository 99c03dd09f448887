"""A proxy for large language models. Importing it costs nothing: parts load where used."""

__version__ = "0.1.0"
