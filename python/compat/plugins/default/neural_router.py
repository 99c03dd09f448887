"""The smart router under its older name."""

from llm_proxy.rings.builtin.default.smart_router import (
    get_endpoint_stats,
    select_endpoint,
    update_endpoint_stats,
)

__all__ = ["get_endpoint_stats", "select_endpoint", "update_endpoint_stats"]
