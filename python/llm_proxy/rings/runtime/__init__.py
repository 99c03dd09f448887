"""How ring plugins run: `manifest`, `gate` and `loader` bring them in, `engine` says what their
answers mean, `swap` replaces one, and `manager` holds them together.
"""
