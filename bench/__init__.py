"""Measures the proxy beside nginx on one machine: `./dev bench` or `python bench/run.py`."""
