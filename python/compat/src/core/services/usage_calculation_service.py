from llm_proxy.backends.usage import UsageCalculationService, get_usage_calculation_service

__all__ = ["UsageCalculationService", "get_usage_calculation_service"]
