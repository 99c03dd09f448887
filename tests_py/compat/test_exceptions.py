"""Constructors, status codes and bodies of the exceptions that plugins raise."""

from __future__ import annotations

from typing import Any

import pytest

from src.core.common import exceptions as e

STATUS = {
    e.LLMProxyError("x"): 500,
    e.AuthenticationError(): 401,
    e.BackendError(): 502,
    e.BackendError(status_code=418): 418,
    e.ServiceUnavailableError(): 503,
    e.RateLimitExceededError(): 429,
    e.APIConnectionError(): 502,
    e.APITimeoutError(): 502,
    e.ConfigurationError(): 400,
    e.ValidationError(): 400,
    e.InvalidRequestError(): 400,
    e.InvalidRequestError(status_code=413): 413,
    e.ServiceResolutionError(): 500,
    e.InitializationError(): 500,
    e.QualityVerifierError(): 500,
    e.LoopDetectionError(): 400,
    e.LoopBreakingError(): 200,
    e.TranslationError(): 422,
    e.ParsingError(): 422,
    e.JSONParsingError(): 422,
    e.ToolCallReactorError(): 400,
    e.ToolCallLoopError(): 400,
    e.ToolCallParsingError(): 400,
    e.CommandCreationError(): 500,
    e.RoutingError("x"): 503,
    e.RoutingError("x", {"code": "unknown_model"}): 404,
    e.RoutingError("x", {"code": "unsupported_on_instance"}): 400,
    e.RoutingError("x", {"code": "temporarily_unavailable"}): 503,
    e.RoutingError("x", {"code": "policy_rejected"}): 403,
    e.SessionCancelledError(): 499,
    e.DuplicateRequestError("hash", "session"): 429,
    e.NonForwardableEnforcementError(): 500,
    e.NoForwardableContentError(): 400,
    e.NonForwardableTagLimitExceededError("too many", session_id="s"): 400,
    e.ResponsesProtocolError("m", "c"): 400,
    e.ResponsesProtocolError("m", "c", None, 404): 404,
    e.ResponsesPreviousResponseNotFoundError("resp_1"): 400,
    e.ResponsesProviderLimitationError("images", "x"): 400,
}


@pytest.mark.parametrize("error", STATUS, ids=lambda error: type(error).__name__)
def test_each_error_has_its_status(error: e.LLMProxyError) -> None:
    assert error.status_code == STATUS[error]
    assert isinstance(error, e.LLMProxyError)
    assert error.message == str(error)


BACKEND_KIN = (
    e.ServiceUnavailableError,
    e.RateLimitExceededError,
    e.APIConnectionError,
    e.APITimeoutError,
    e.DuplicateRequestError,
)


@pytest.mark.parametrize("kind", BACKEND_KIN)
def test_upstream_trouble_is_a_backend_error(kind: type[Exception]) -> None:
    assert issubclass(kind, e.BackendError)


@pytest.mark.parametrize(
    "make",
    [
        lambda: e.AuthenticationError("x", status_code=400),
        lambda: e.ServiceUnavailableError("x", status_code=400),
        lambda: e.RateLimitExceededError("x", status_code=400),
        lambda: e.ConfigurationError("x", status_code=400),
        lambda: e.APIConnectionError("x", backend_name="b"),
    ],
)
def test_a_pinned_field_cannot_be_given(make: Any) -> None:
    with pytest.raises(TypeError):
        make()


def test_the_body_names_everything_public_in_order() -> None:
    error = e.BackendError("m", "b", {"at": {1, 2}}, code="c", zeta=1, alpha=b"x", call=print)
    assert error.to_dict() == {
        "error": {
            "message": "m",
            "type": "BackendError",
            "details": {"at": [1, 2]},
            "alpha": "b'x'",
            "backend_name": "b",
            "code": "c",
            "zeta": 1,
        }
    }
    assert list(error.to_dict()["error"]) == [
        "message",
        "type",
        "details",
        "alpha",
        "backend_name",
        "code",
        "zeta",
    ]


def test_backend_errors_say_name_and_code_even_when_unknown() -> None:
    body = e.RateLimitExceededError(backend_name="b").to_dict()["error"]
    assert (body["backend_name"], body["code"], body["reset_at"]) == ("b", None, None)


def test_defaults_of_the_messages() -> None:
    assert str(e.AuthenticationError()) == "Authentication failed"
    assert str(e.BackendError()) == "Backend operation failed"
    assert str(e.SessionCancelledError()) == "Session cancelled"
    assert str(e.LoopBreakingError()) == "Loop detected and breaking initiated"
    assert e.ResponsesPreviousResponseNotFoundError("r").code == "previous_response_not_found"
    assert e.ResponsesProviderLimitationError("f", "p").code == "provider_limitation"


def test_a_duplicate_request_says_when_to_come_back() -> None:
    error = e.DuplicateRequestError("h", "s", retry_after_seconds=2)
    assert error.details == {"content_hash": "h", "session_id": "s", "retry_after": 2}
    assert error.reset_at is not None
