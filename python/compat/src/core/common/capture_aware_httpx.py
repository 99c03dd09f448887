from llm_proxy.backends.runtime.capture.boundary_client import (
    CaptureAwareAsyncClient,
    HttpxBoundaryCaptureContext,
)

__all__ = ["CaptureAwareAsyncClient", "HttpxBoundaryCaptureContext"]
