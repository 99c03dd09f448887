from llm_proxy.contracts.request_context import (
    ContentModificationTracker,
    ProcessingContext,
    RequestContext,
    RequestCookies,
    RequestHeaders,
)

__all__ = [
    "ContentModificationTracker",
    "ProcessingContext",
    "RequestContext",
    "RequestCookies",
    "RequestHeaders",
]
