from llm_proxy.contracts.processors import (
    FeatureCapability,
    IResponseFeature,
    IResponseMiddleware,
    IResponseProcessor,
    ProcessedResponse,
)

__all__ = [
    "FeatureCapability",
    "IResponseFeature",
    "IResponseMiddleware",
    "IResponseProcessor",
    "ProcessedResponse",
]
