from llm_proxy.contracts.model_bases import Entity, ValueObject

__all__ = ["Entity", "ValueObject"]
