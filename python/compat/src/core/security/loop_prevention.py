from llm_proxy.backends.loop_guard import (
    LOOP_GUARD_HEADER,
    LOOP_GUARD_VALUE,
    ensure_loop_guard_header,
)

__all__ = ["LOOP_GUARD_HEADER", "LOOP_GUARD_VALUE", "ensure_loop_guard_header"]
