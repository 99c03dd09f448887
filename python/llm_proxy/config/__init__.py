"""Configuration: one table of settings, four sources, one snapshot for the engine.

`table` says what can be set · `load` gathers it · `backends` makes instances from catalog, keys and
file · `snapshot` hands it to C++ · `explain` and `schema` show it. Start reading at `table`.
"""
