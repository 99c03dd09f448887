"""Which of the default plugins the engine runs itself, in C++ and on its io workers.

The Python functions stay what the plugins are: they run behind other Python plugins, and take over
where a native step meets something rare.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from llm_proxy import _core
from llm_proxy.rings.runtime.engine import RingEntry
from llm_proxy.rings.sdk import PluginHook
from llm_proxy.rings.services.host import Identity, Services

_HOME = "llm_proxy.rings.builtin.default."


def native_steps(entries: Sequence[RingEntry], services: Services, own_cache: bool) -> list[str]:
    """For each plugin the name of the native one that does the same here; empty: none does."""
    steps = [_step_of(entry) for entry in entries]
    background = [
        step
        for entry, step in zip(entries, steps, strict=True)
        if entry.ring is PluginHook.BACKGROUND
    ]
    told = logging.getLogger("llm_proxy.telemetry").isEnabledFor(logging.DEBUG)
    others: dict[str, bool] = {
        "ingress_auth.verify": type(services.zt_manager) is not Identity,
        "cache_check.lookup": not own_cache,
        "cache_check.keep": not own_cache,
        "telemetry_ops.record": told or "" in background,  # others may read what it notes
    }
    return ["" if others.get(step) else step for step in steps]


def _step_of(entry: RingEntry) -> str:
    home = getattr(entry.call, "__module__", None) or ""
    name = f"{home.removeprefix(_HOME)}.{getattr(entry.call, '__qualname__', '')}"
    return name if home.startswith(_HOME) and _core.has_native_plugin(name) else ""
