from llm_proxy.contracts.identity import (
    IAppIdentityConfig,
    IBackendConfig,
    IBackendSpecificConfig,
    IConfig,
    ILoopDetectionConfig,
    IPlanningPhaseConfig,
    IReasoningConfig,
)

__all__ = [
    "IAppIdentityConfig",
    "IBackendConfig",
    "IBackendSpecificConfig",
    "IConfig",
    "ILoopDetectionConfig",
    "IPlanningPhaseConfig",
    "IReasoningConfig",
]
