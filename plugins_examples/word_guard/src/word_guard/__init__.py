"""An example package of ring plugins."""
