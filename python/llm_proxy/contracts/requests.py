"""What a backend's `chat_completions` is handed in the canonical call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from llm_proxy.contracts.chat import CanonicalChatRequest, ChatMessage
from llm_proxy.contracts.identity import IAppIdentityConfig
from llm_proxy.contracts.model_bases import InternalDTO
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope
from llm_proxy.contracts.session import ISessionCancellationCoordinator, SessionKey

# Keys of `ConnectorRequestContext.extensions` that reach the metadata of a wire capture.
WIRE_CAPTURE_ACCOUNT_ID_KEY = "wire_capture_account_id"
WIRE_CAPTURE_RETRY_ATTEMPT_KEY = "wire_capture_retry_attempt"
WIRE_CAPTURE_IS_RETRY_KEY = "wire_capture_is_retry"


@dataclass
class ConnectorRequestContext(InternalDTO):
    """Who asked."""

    request_id: str | None
    session_id: str | None
    client_host: str | None
    extensions: dict[str, Any] = field(default_factory=dict)


@dataclass
class ConnectorChatCompletionsRequest(InternalDTO):
    """One turn. `effective_model` is the name to send upstream; `request.model` may still carry
    the selector."""

    request: CanonicalChatRequest
    processed_messages: Sequence[ChatMessage]
    effective_model: str
    identity: IAppIdentityConfig | None
    cancellation_token: SessionKey | None
    cancellation_coordinator: ISessionCancellationCoordinator | None
    context: ConnectorRequestContext | None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ConnectorResponsesRequest(ConnectorChatCompletionsRequest):
    """The same for a backend that speaks Responses."""

    @staticmethod
    def from_chat_completions(
        request: ConnectorChatCompletionsRequest,
    ) -> ConnectorResponsesRequest:
        return ConnectorResponsesRequest(
            **{item.name: getattr(request, item.name) for item in fields(request)}
        )


@runtime_checkable
class ICanonicalChatCompletionsBackend(Protocol):
    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest
    ) -> ResponseEnvelope | StreamingResponseEnvelope: ...
