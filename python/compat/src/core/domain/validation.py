from llm_proxy.contracts.listings import ValidationResult

__all__ = ["ValidationResult"]
