"""One processed piece of a reply, and the interfaces of what processes it."""

from __future__ import annotations

import abc
import enum
from collections.abc import AsyncIterator
from typing import Any


class ProcessedResponse:
    """A whole reply or one chunk: an OpenAI dict, a server-sent event as text or bytes, or a
    domain model."""

    def __init__(
        self, content: Any = "", usage: Any = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self.content = content
        self.usage = usage
        self.metadata: dict[str, Any] = {} if metadata is None else metadata

    def __repr__(self) -> str:
        return f"ProcessedResponse(content={self.content!r}, usage={self.usage!r})"


class FeatureCapability(str, enum.Enum):
    STREAMING = "streaming"
    NON_STREAMING = "non_streaming"
    BOTH = "both"


class IResponseMiddleware(abc.ABC):
    def __init__(self, priority: int = 0) -> None:
        self.priority = priority

    @abc.abstractmethod
    async def process(
        self,
        response: Any,
        session_id: str,
        context: dict[str, Any],
        is_streaming: bool = False,
        stop_event: Any = None,
    ) -> Any: ...


class IResponseFeature(abc.ABC):
    def __init__(self, priority: int = 0) -> None:
        self.priority = priority

    @property
    @abc.abstractmethod
    def feature_name(self) -> str: ...

    @property
    def capability(self) -> FeatureCapability:
        return FeatureCapability.BOTH

    @abc.abstractmethod
    async def process_chunk(
        self, payload: Any, session_id: str, context: dict[str, Any], *, is_streaming: bool
    ) -> Any: ...


class IResponseProcessor(abc.ABC):
    @abc.abstractmethod
    async def process_response(
        self, response: Any, session_id: str, context: dict[str, Any] | None = None
    ) -> ProcessedResponse: ...

    @abc.abstractmethod
    def process_streaming_response(
        self,
        response_iterator: AsyncIterator[Any],
        session_id: str,
        context: dict[str, Any] | None = None,
    ) -> AsyncIterator[ProcessedResponse]: ...

    @abc.abstractmethod
    async def register_middleware(
        self, middleware: IResponseMiddleware, priority: int = 0
    ) -> None: ...
