"""How Python backends run.

`discovery` finds their packages, `factory` and `lifecycle` make and start them, `bridge` is what
the engine calls, `dispatch` calls a backend, `reply` and `failure` turn its answer or its exception
into what the engine relays. `check` tests that a package keeps the contract.
"""
