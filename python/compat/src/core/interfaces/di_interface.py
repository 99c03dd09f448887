from llm_proxy.contracts.services import (
    IServiceCollection,
    IServiceProvider,
    IServiceScope,
    ServiceLifetime,
)

__all__ = ["IServiceCollection", "IServiceProvider", "IServiceScope", "ServiceLifetime"]
