from llm_proxy.contracts.session import ICancellable, ISessionCancellationCoordinator

__all__ = ["ICancellable", "ISessionCancellationCoordinator"]
