from llm_proxy.contracts.usage import (
    CanonicalUsageRecord,
    UsageCompletionOutcome,
    UsageIncompleteReason,
)

__all__ = ["CanonicalUsageRecord", "UsageCompletionOutcome", "UsageIncompleteReason"]
