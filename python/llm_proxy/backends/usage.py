"""Usage where a provider has told none, and as one provider tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict

from llm_proxy.backends.tokens import count_tokens, extract_prompt_text
from llm_proxy.contracts.model_bases import DomainModel
from llm_proxy.contracts.usage import UsageSummary


class OpenRouterUsage(DomainModel):
    """The `usage` object of OpenRouter: the counts of Chat and what the call cost, in credits.

    Fields it does not name are kept.
    """

    model_config = ConfigDict(extra="allow")

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost: float | None = None
    is_byok: bool | None = None
    prompt_tokens_details: dict[str, Any] | None = None
    completion_tokens_details: dict[str, Any] | None = None
    cost_details: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> OpenRouterUsage:
        return cls.model_validate({k: v for k, v in (data or {}).items() if v is not None})

    def to_dict(self) -> dict[str, Any]:
        """Without what is not known."""
        return self.model_dump(exclude_none=True)

    def to_usage_summary(self) -> UsageSummary:
        return UsageSummary.from_dict(self.to_dict())


class UsageCalculationService:
    """Counts tokens with the proxy's own estimate, for providers that tell no usage.

    Stateless and thread-safe; never touches disk or network.
    """

    def count_prompt_tokens(self, messages: Iterable[Any], model: str | None = None) -> int:
        return count_tokens(extract_prompt_text(messages), model)

    def count_completion_tokens(self, text: str | None, model: str | None = None) -> int:
        return count_tokens(text or "", model)

    def calculate_usage(
        self,
        messages: Iterable[Any] = (),
        completion: str | None = "",
        model: str | None = None,
        **known: Any,
    ) -> UsageSummary:
        """`known` counts (`prompt_tokens`, `completion_tokens`) are taken; the rest is counted."""
        prompt, reply = known.get("prompt_tokens"), known.get("completion_tokens")
        if prompt is None:
            prompt = self.count_prompt_tokens(messages, model)
        if reply is None:
            reply = self.count_completion_tokens(completion, model)
        return UsageSummary(prompt, reply, prompt + reply)


@lru_cache(maxsize=1)
def get_usage_calculation_service() -> UsageCalculationService:
    """The one of the process."""
    return UsageCalculationService()
