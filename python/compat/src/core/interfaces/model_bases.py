from llm_proxy.contracts.model_bases import DomainModel, InternalDTO

__all__ = ["DomainModel", "InternalDTO"]
