"""Asks a backend plugin as the engine does, and keeps what it would have sent to the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from llm_proxy.backends.registry import BackendRegistry
from llm_proxy.backends.runtime.bridge import BackendBridge, Running
from llm_proxy.testing.replies import deltas_of, events_of, object_of, text_of


class Answer:
    """What one call brought. Also the sink that the bridge fills.

    `reads=False`: a client that does not read, so that everything above `window` bytes waits.
    """

    def __init__(self, reads: bool = True, window: int = 64 * 1024) -> None:
        self.status = 0
        self.streaming = False
        self.media_type = ""
        self.headers: list[tuple[str, str]] = []
        self.chunks: list[bytes] = []
        self.failure: dict[str, Any] | None = None
        self.ended = False
        self.reads = reads
        self.window = window
        self._changed = asyncio.Event()

    def head(
        self, status: int, streaming: bool, media_type: str, headers: list[tuple[str, str]]
    ) -> None:
        self.status, self.streaming = status, streaming
        self.media_type, self.headers = media_type, headers
        self._changed.set()

    def data(self, chunk: bytes) -> bool:
        self.chunks.append(chunk)
        self._changed.set()
        return not self.reads and self.size > self.window

    def end(self) -> None:
        self.ended = True
        self._changed.set()

    def error(
        self, status: int, type: str, code: str, message: str, retry_after: float | None
    ) -> None:
        self.failure = {
            "status": status,
            "type": type,
            "code": code,
            "message": message,
            "retry_after": retry_after,
        }
        self._changed.set()

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))

    @property
    def settled(self) -> bool:
        return self.ended or self.failure is not None

    @property
    def body(self) -> Any:
        """The JSON of a whole reply."""
        return json.loads(b"".join(self.chunks))

    @property
    def events(self) -> list[str]:
        """The data of every event of a streamed reply, `[DONE]` included."""
        return events_of(b"".join(self.chunks))

    @property
    def text(self) -> str:
        """All text of the reply, whole or streamed; what there is of it if the call failed."""
        if self.streaming:
            return deltas_of(self.events)
        return text_of(object_of(b"".join(self.chunks)))

    def __repr__(self) -> str:
        """What a failed assertion shows: above all, why the call failed."""
        if self.failure is not None:
            return f"<Answer failed: {self.failure}, after the text {self.text!r}>"
        return f"<Answer status={self.status} ended={self.ended} text={self.text!r}>"

    async def changed(self) -> None:
        """Waits until something more has come."""
        self._changed.clear()
        await self._changed.wait()

    async def settle(self) -> Answer:
        while not self.settled:
            await self.changed()
        return self


class BackendProbe:
    """Backends of a registry, configured by `config`, without network, engine or client.

    async with BackendProbe({"mine": MyBackend}, {"backends": {"mine": {"api_key": "k"}}}) as probe:
        answer = await probe.ask("mine", "Hello")
        assert answer.text
    """

    def __init__(
        self, factories: Mapping[str, Any], config: Mapping[str, Any] | None = None
    ) -> None:
        registry = BackendRegistry()
        for name, factory in factories.items():
            registry.register_backend(name, factory)
        self.bridge = BackendBridge(config or {}, registry)

    def start(
        self,
        backend: str,
        prompt: str | Mapping[str, Any],
        *,
        stream: bool = False,
        model: str = "test-model",
        sink: Answer | None = None,
        request_id: str = "req-1",
        session_id: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> tuple[Answer, Running]:
        """Begins a call and returns at once.

        `prompt`: what the user says, or a whole request body.
        """
        answer = Answer() if sink is None else sink
        running = self.bridge.start(
            answer,
            backend,
            model,
            json.dumps(chat(prompt, model)).encode(),
            stream,
            request_id,
            session_id,
            "127.0.0.1",
            headers,
        )
        return answer, running

    async def ask(self, backend: str, prompt: str | Mapping[str, Any], **options: Any) -> Answer:
        answer, _ = self.start(backend, prompt, **options)
        return await answer.settle()

    async def __aenter__(self) -> BackendProbe:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.bridge.close()


def chat(prompt: str | Mapping[str, Any], model: str = "test-model") -> dict[str, Any]:
    """A request body."""
    if isinstance(prompt, Mapping):
        return {"model": model, **prompt}
    return {"model": model, "messages": [{"role": "user", "content": prompt}]}
