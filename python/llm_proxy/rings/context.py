"""What a ring plugin sees of an exchange: one context, shared by all plugins of all its rings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_proxy._core import ContextSource


@dataclass
class PluginState:
    """What all contexts of a process share."""

    cache: Any = None
    metrics: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


class PluginContext:
    """One exchange. Everything is mutable; the engine reads it back after every plugin.

    The engine fills `request`, `body`, `metadata` and `session_id` when they are first read: a
    body nobody reads is never parsed.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_reply",
        "_source",
        "body",
        "error",
        "metadata",
        "placeholders",
        "request",
        "response",
        "session_id",
        "state",
        "stop_chain",
    )

    request: Any
    body: dict[str, Any]
    response: Any
    metadata: dict[str, Any]
    session_id: str
    error: str | None
    stop_chain: bool
    # What a plugin put in the place of values of this request, "[LABEL_1a2b]": value; may be unset.
    # The engine puts them back into a streamed reply.
    placeholders: dict[str, str]
    state: PluginState | None
    _source: ContextSource | None
    _reply: tuple[Reply, bytes, int, dict[str, str]]  # as it came, for the reply ring

    def __init__(
        self,
        request: Any = None,
        body: dict[str, Any] | None = None,
        response: Any = None,
        metadata: dict[str, Any] | None = None,
        session_id: str = "default",
        error: str | None = None,
        stop_chain: bool = False,
        state: PluginState | None = None,
    ) -> None:
        self.request = request
        self.body = {} if body is None else body
        self.response = response
        self.metadata = {} if metadata is None else metadata
        self.session_id = session_id
        self.error = error
        self.stop_chain = stop_chain
        self.state = state
        self._source = None

    def __getattr__(self, name: str) -> Any:
        # Only reached for a name that is not set.
        if name in _LAZY and self._source is not None:
            value = self._source.fill(name)
            setattr(self, name, value)
            if name == "metadata" and _unset(self, "placeholders"):
                self.placeholders = value["rotator"].placeholders
            return value
        raise AttributeError(f"'PluginContext' object has no attribute '{name}'")

    def __repr__(self) -> str:
        return (
            f"PluginContext(session_id={self.session_id!r}, error={self.error!r}, "
            f"stop_chain={self.stop_chain!r})"
        )


def _unset(ctx: PluginContext, name: str) -> bool:
    try:
        object.__getattribute__(ctx, name)
    except AttributeError:
        return True
    return False


_LAZY = frozenset(("request", "body", "metadata", "session_id"))


class Headers(dict[str, str]):
    """Header names in any case, kept in lower case."""

    def __init__(self, pairs: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        super().__init__((name.lower(), value) for name, value in items)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __setitem__(self, name: str, value: str) -> None:
        super().__setitem__(name.lower(), value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass(slots=True)
class Reply:
    """The reply on its way to the client, in the shape of a Starlette response."""

    body: bytes
    status_code: int = 200
    headers: Headers = field(default_factory=Headers)
    media_type: str | None = "application/json"


@dataclass(slots=True)
class Client:
    host: str
    port: int = 0


@dataclass(slots=True)
class Url:
    path: str
    query: str = ""

    def __str__(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(slots=True)
class ClientRequest:
    """The client's request, as far as plugins may see it; credentials are not among the headers."""

    client: Client
    method: str
    url: Url
    headers: Headers

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ClientRequest:
        path, _, query = str(facts["path"]).partition("?")
        return cls(
            client=Client(facts["client_host"] or "0.0.0.0"),
            method=facts["method"],
            url=Url(path, query),
            headers=Headers(facts["headers"]),
        )
