from llm_proxy.backends.gemini_oauth.config import (
    GracefulDegradationConfig,
    GracefulDegradationMetrics,
    ModelRetryState,
)
from llm_proxy.backends.gemini_oauth.models import GeminiOAuthCredentials, TierScore

__all__ = [
    "GeminiOAuthCredentials",
    "GracefulDegradationConfig",
    "GracefulDegradationMetrics",
    "ModelRetryState",
    "TierScore",
]
