from llm_proxy.plugins.boundary_client import CaptureAwareAsyncClient, HttpxBoundaryCaptureContext

__all__ = ["CaptureAwareAsyncClient", "HttpxBoundaryCaptureContext"]
