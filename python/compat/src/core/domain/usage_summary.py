from llm_proxy.contracts.usage import UsagePayload, UsageSummary

__all__ = ["UsagePayload", "UsageSummary"]
