"""Every error a backend plugin may raise, and the HTTP status each one means."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar


def json_safe(value: Any) -> Any:
    """`value` as JSON can say it: containers are kept, anything foreign becomes its text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_safe(item) for item in value]
    return str(value)


class LLMProxyError(Exception):
    """The base of all. Keyword arguments beyond the named ones become attributes and appear in
    `to_dict`."""

    def __init__(
        self,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        status_code: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = details if details is not None else {}
        self.status_code = 500 if status_code is None else status_code
        for name, value in kwargs.items():
            setattr(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        shown = {"message", "details", "status_code"}
        error: dict[str, Any] = {
            "message": self.message,
            "type": type(self).__name__,
            "details": json_safe(self.details),
        }
        for name in sorted(vars(self)):
            value = getattr(self, name)
            if name not in shown and not name.startswith("_") and not callable(value):
                error[name] = json_safe(value)
        return {"error": error}


class _PinnedError(LLMProxyError):
    """An error whose class alone decides message default and status."""

    default_message: ClassVar[str] = "Internal error"
    pinned_status: ClassVar[int] = 500

    def __init__(
        self, message: str | None = None, details: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        text = type(self).default_message if message is None else message
        super().__init__(text, details, status_code=type(self).pinned_status, **kwargs)


class AuthenticationError(_PinnedError):
    default_message = "Authentication failed"
    pinned_status = 401


class ConfigurationError(_PinnedError):
    default_message = "Configuration error"
    pinned_status = 400


class ValidationError(_PinnedError):
    default_message = "Validation failed"
    pinned_status = 400


class ServiceResolutionError(_PinnedError):
    default_message = "Service resolution failed"


class InitializationError(_PinnedError):
    default_message = "Initialization failed"


class QualityVerifierError(_PinnedError):
    default_message = "Quality verification failed"


class LoopDetectionError(_PinnedError):
    default_message = "Loop detected in response"
    pinned_status = 400


class LoopBreakingError(_PinnedError):
    default_message = "Loop detected and breaking initiated"
    pinned_status = 200


class TranslationError(_PinnedError):
    default_message = "Translation failed"
    pinned_status = 422


class ParsingError(_PinnedError):
    default_message = "Parsing failed"
    pinned_status = 422


class JSONParsingError(ParsingError):
    default_message = "JSON parsing failed"


class ToolCallReactorError(_PinnedError):
    default_message = "Tool call reactor failed"
    pinned_status = 400


class ToolCallLoopError(_PinnedError):
    default_message = "Tool call loop detected"
    pinned_status = 400


class ToolCallParsingError(_PinnedError):
    default_message = "Tool call parsing failed"
    pinned_status = 400


class NonForwardableEnforcementError(_PinnedError):
    default_message = "Non-forwardable content could not be removed"


class NoForwardableContentError(_PinnedError):
    default_message = "Nothing is left to forward"
    pinned_status = 400


class InvalidRequestError(LLMProxyError):
    def __init__(
        self,
        message: str = "Invalid request",
        details: dict[str, Any] | None = None,
        *,
        status_code: int = 400,
        **kwargs: Any,
    ) -> None:
        super().__init__(message, details, status_code=status_code, **kwargs)


class CommandCreationError(LLMProxyError):
    def __init__(
        self,
        message: str = "Command creation failed",
        command_name: str | None = None,
        details: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message, details, status_code=500, command_name=command_name, **kwargs)


class BackendError(LLMProxyError):
    """Something went wrong upstream, or in the backend itself."""

    backend_name: str | None
    code: str | None

    def __init__(
        self,
        message: str = "Backend operation failed",
        backend_name: str | None = None,
        details: dict[str, Any] | None = None,
        *,
        status_code: int = 502,
        code: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message, details, status_code=status_code, **kwargs)
        self.backend_name = backend_name
        self.code = code


class ServiceUnavailableError(BackendError):
    def __init__(
        self,
        message: str = "Service temporarily unavailable",
        details: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message, details=details, status_code=503, **kwargs)


class RateLimitExceededError(BackendError):
    """`reset_at`: Unix seconds at which asking again makes sense."""

    def __init__(
        self,
        message: str = "Rate limit exceeded",
        details: dict[str, Any] | None = None,
        *,
        reset_at: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(message, details=details, status_code=429, **kwargs)
        self.reset_at = reset_at


class APIConnectionError(BackendError):
    def __init__(
        self,
        message: str = "API connection error",
        details: dict[str, Any] | None = None,
        *,
        code: str | None = None,
    ) -> None:
        super().__init__(message, details=details, status_code=502, code=code)


class APITimeoutError(BackendError):
    def __init__(
        self,
        message: str = "API timeout",
        details: dict[str, Any] | None = None,
        *,
        code: str | None = None,
    ) -> None:
        super().__init__(message, details=details, status_code=502, code=code)


class DuplicateRequestError(BackendError):
    def __init__(
        self,
        content_hash: str,
        session_id: str,
        message: str | None = None,
        details: dict[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        merged = {**(details or {}), "content_hash": content_hash, "session_id": session_id}
        if retry_after_seconds is not None:
            merged["retry_after"] = retry_after_seconds
        super().__init__(message or "Duplicate request", details=merged, status_code=429)
        self.reset_at = None if retry_after_seconds is None else time.time() + retry_after_seconds


_ROUTING_STATUS = {
    "unknown_model": 404,
    "unsupported_on_instance": 400,
    "temporarily_unavailable": 503,
    "policy_rejected": 403,
}


class RoutingError(LLMProxyError):
    """No backend can take this request; `details["code"]` says why and decides the status."""

    def __init__(
        self,
        message: str = "Routing failed",
        details: dict[str, Any] | None = None,
        *,
        status_code: int | None = None,
        **kwargs: Any,
    ) -> None:
        if status_code is None:
            status_code = _ROUTING_STATUS.get(str((details or {}).get("code")), 503)
        super().__init__(message, details, status_code=status_code, **kwargs)


class SessionCancelledError(LLMProxyError):
    def __init__(
        self,
        session_key: Any = None,
        reason: Any = None,
        message: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message or "Session cancelled", details, status_code=499)
        self.session_key = session_key
        self.reason = reason


class NonForwardableTagLimitExceededError(LLMProxyError):
    def __init__(
        self,
        message: str = "The session exceeds the limit of tagged identities",
        *,
        session_id: str | None = None,
        max_limit: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        told = {"session_id": session_id, "max_limit": max_limit}
        known = {name: value for name, value in told.items() if value is not None}
        super().__init__(message, {**known, **(details or {})}, status_code=400)
        self.session_id = session_id
        self.max_limit = max_limit


class ResponsesProtocolError(LLMProxyError):
    def __init__(
        self,
        message: str,
        code: str,
        param: str | None = None,
        status_code: int = 400,
        *,
        error_type: str = "invalid_request_error",
    ) -> None:
        super().__init__(message, status_code=status_code)
        self.code = code
        self.param = param
        self.error_type = error_type


class ResponsesValidationError(ResponsesProtocolError):
    def __init__(
        self, message: str, code: str = "invalid_request", param: str | None = None
    ) -> None:
        super().__init__(message, code, param)


class ResponsesPreviousResponseNotFoundError(ResponsesProtocolError):
    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"Previous response with id '{response_id}' not found.",
            "previous_response_not_found",
            "previous_response_id",
        )
        self.response_id = response_id


class ResponsesProviderLimitationError(ResponsesProtocolError):
    def __init__(self, feature: str, provider: str) -> None:
        super().__init__(f"{provider} does not support {feature}.", "provider_limitation")
        self.feature = feature
        self.provider = provider
