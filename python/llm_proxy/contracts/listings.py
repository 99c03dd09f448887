"""Small models that backends return: what they offer, and whether something is valid."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ConfigDict, Field

from llm_proxy.contracts.model_bases import DomainModel


class ModelInfo(DomainModel):
    model_config = ConfigDict(extra="allow")

    id: str
    name: str | None = None
    object: str = "model"
    created: int | None = None
    owned_by: str | None = None
    context_window: int | None = None


class ModelsListingResponse(DomainModel):
    model_config = ConfigDict(extra="allow")

    object: str = "list"
    data: list[ModelInfo] = Field(default_factory=list)


@dataclass
class ValidationResult:
    is_valid: bool
    errors: list[str] = field(default_factory=list)

    @classmethod
    def success(cls) -> ValidationResult:
        return cls(True)

    @classmethod
    def failure(cls, errors: list[str] | str) -> ValidationResult:
        return cls(False, [errors] if isinstance(errors, str) else list(errors))

    def __bool__(self) -> bool:
        return self.is_valid


@dataclass
class BackendCapabilityDescriptor:
    """What a backend can be sent."""

    protocol_family: str = "openai"
    supports_streaming: bool = True
    supports_tool_calls: bool = True
    supports_vision: bool = False
    supports_json_mode: bool = False
    max_context_tokens: int | None = None
