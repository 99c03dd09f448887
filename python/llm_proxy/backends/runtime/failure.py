"""What an exception from a backend means to the client."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_proxy.backends.runtime.lifecycle import START_FAILED
from llm_proxy.backends.upstream import seconds
from llm_proxy.contracts.exceptions import BackendError, LLMProxyError, ResponsesProtocolError
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope
from llm_proxy.import_problem import import_problem

logger = logging.getLogger("llm_proxy.backends")

_MIN_SECRET = 6
_HIDDEN = "***"
_MAX_MESSAGE = 4000
_KEY_LIKE = re.compile(
    r"(?<=Bearer )[\w.~+/=-]{8,}|\bsk-[\w-]{8,}|\bAIza[\w-]{8,}"
    r"|(?<=[?&]key=)[^&\s'\"]+|(?<=api_key=)[^&\s'\"]+"
)


@dataclass(frozen=True)
class Failure:
    """An error on its way to the engine, which gives it the form of the client's own format."""

    status: int
    message: str
    type: str = ""
    code: str = ""
    retry_after: float | None = None


# A mistake in the backend's own code. The engine asks nobody else for it, and blames no provider.
BUG = "backend_bug"
_BUG = Failure(500, "The backend has failed; the log of the proxy says where.", code=BUG)


def bug_of(error: BaseException) -> BaseException | None:
    """The mistake in a backend's own code behind `error`; None: the provider has failed, or the
    backend tells something on purpose."""
    if isinstance(error, BackendError):
        if error.code == START_FAILED and error.__cause__ is not None:
            return bug_of(error.__cause__)
        return error if error.code == BUG else None
    known = isinstance(error, LLMProxyError) or isinstance(getattr(error, "status_code", None), int)
    return error if not known and _transport(error) is None else None


class BugLog:
    """Tells each mistake in full once, with file and line, and in one line after that."""

    LIMIT = 1000  # places that are remembered

    def __init__(self) -> None:
        self._told: set[tuple[str, str, int]] = set()

    def tell(self, instance: str, error: BaseException, secrets: Iterable[str] = ()) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        last = frames[-1] if frames else None
        path, line = (last.filename, last.lineno or 0) if last else ("", 0)
        what = import_problem(error) or f"{type(error).__name__}: {error}"
        place = (type(error).__name__, path, line)
        hidden = list(secrets)
        said = redacted(f"Backend '{instance}' has failed in {path}, line {line}: {what}", hidden)
        if place in self._told or len(self._told) >= self.LIMIT:
            logger.error("%s", said)
            return
        self._told.add(place)
        lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        logger.error("%s\n%s", said, redacted(lines, hidden).rstrip())


def failure_of(error: BaseException, secrets: Iterable[str] = ()) -> Failure:
    """The failure an exception stands for. `secrets` never appear in its message.

    What Python says about a mistake in the backend's code is for the log alone.
    """
    if bug_of(error) is not None:
        failure = _BUG
    elif isinstance(error, LLMProxyError):
        failure = _own(error)
    elif isinstance(getattr(error, "status_code", None), int):
        failure = _foreign(error)
    else:
        failure = _transport(error) or _BUG
    return Failure(
        failure.status if 400 <= failure.status <= 599 else 502,
        redacted(failure.message, secrets)[:_MAX_MESSAGE],
        failure.type,
        failure.code,
        failure.retry_after,
    )


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            text = text.replace(secret, _HIDDEN)
    return _KEY_LIKE.sub(_HIDDEN, text)


def _own(error: LLMProxyError) -> Failure:
    reset_at = getattr(error, "reset_at", None)
    if isinstance(reset_at, (int, float)):
        retry_after: float | None = max(0.0, reset_at - time.time())
    else:
        retry_after = seconds(error.details.get("retry_after"))
    kind = error.error_type if isinstance(error, ResponsesProtocolError) else ""
    code = getattr(error, "code", None) or error.details.get("code")
    return Failure(error.status_code, error.message, kind, str(code or ""), retry_after)


def _foreign(error: Any) -> Failure:
    """`fastapi.HTTPException` and its like: `status_code`, and perhaps `detail` and `headers`."""
    detail = getattr(error, "detail", None)
    code = ""
    if isinstance(detail, Mapping):
        inner = detail.get("error", detail)
        inner = inner if isinstance(inner, Mapping) else {"message": inner}
        code = str(inner.get("code") or "")
        detail = inner.get("message") or detail
    return Failure(
        error.status_code,
        str(detail if detail is not None else error),
        code=code,
        retry_after=_retry_after(getattr(error, "headers", None)),
    )


def _transport(error: BaseException) -> Failure | None:
    """Errors of httpx and of waiting. httpx is looked for, never imported: who raises it has it."""
    httpx: Any = sys.modules.get("httpx")
    if httpx is not None and isinstance(error, httpx.HTTPStatusError):
        response: Any = getattr(error, "response", None)
        return Failure(
            response.status_code,
            f"The backend's upstream answered {response.status_code}.",
            retry_after=_retry_after(response.headers),
        )
    if (httpx is not None and isinstance(error, httpx.TimeoutException)) or isinstance(
        error, (TimeoutError, asyncio.TimeoutError)
    ):
        return Failure(504, "The backend's upstream did not answer in time.", code="timeout")
    if httpx is not None and isinstance(error, httpx.TransportError):
        return Failure(502, "The backend cannot reach its upstream.", code="unreachable")
    if isinstance(error, OSError):  # of whatever else it reaches its upstream with
        return Failure(502, "The backend cannot reach its upstream.", code="unreachable")
    if isinstance(error, asyncio.CancelledError):
        return Failure(502, "The backend gave up this request.", code="backend_cancelled")
    return None


def _retry_after(headers: Any) -> float | None:
    if not isinstance(headers, Mapping):
        return None
    found = (value for name, value in headers.items() if str(name).lower() == "retry-after")
    return seconds(next(found, None))


def failure_in_envelope(envelope: ResponseEnvelope | StreamingResponseEnvelope) -> Failure | None:
    """The failure an envelope with an error status stands for."""
    if envelope.status_code < 400:
        return None
    told: dict[str, Any] = dict(envelope.metadata or {})
    if isinstance(envelope, ResponseEnvelope):
        content = envelope.content
        error = content.get("error", content) if isinstance(content, Mapping) else content
        if isinstance(error, Mapping):
            told.setdefault("error_message", error.get("message"))
            told.setdefault("error_type", error.get("type"))
            told.setdefault("error_code", error.get("code"))
        elif isinstance(error, (str, bytes)):
            text = error if isinstance(error, str) else error.decode("utf-8", "replace")
            told.setdefault("error_message", text)
    details = told.get("error_details")
    retry_after = _retry_after(envelope.headers)
    if retry_after is None and isinstance(details, Mapping):
        retry_after = seconds(details.get("retry_after"))
    return Failure(
        envelope.status_code,
        redacted(str(told.get("error_message") or f"The backend answered {envelope.status_code}.")),
        str(told.get("error_type") or ""),
        str(told.get("error_code") or ""),
        retry_after,
    )
