"""Backends that the engine drives: a plugin says where and in which format, and lends the key.

    class MyBackend(NativeBackend):
        @classmethod
        def native_spec(cls, config):
            return NativeSpec("https://api.example.com/v1", "openai-chat")

        async def credentials(self, refused=None):
            token, seconds = await self.log_in()
            return Credentials(token, expires_at=time.time() + seconds)

No byte of a reply passes through Python: a request costs what it costs with a built-in backend.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_proxy.backends.base import LLMBackend
from llm_proxy.contracts.exceptions import ServiceUnavailableError

if TYPE_CHECKING:
    import httpx

    from llm_proxy.backends.app_config import AppConfig, BackendConfig
    from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest
    from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope

NEVER = math.inf


@dataclass(frozen=True)
class NativeSpec:
    """Where a provider is and what it speaks.

    `wire_format`: openai-chat, openai-responses, anthropic-messages or gemini-generate. The key
    goes into `auth_header` behind `auth_prefix`; None: as the format has it. `headers` go along
    with every request.
    """

    base_url: str
    wire_format: str = "openai-chat"
    auth_header: str | None = None
    auth_prefix: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    models: Sequence[str] = ()


@dataclass(frozen=True)
class Credentials:
    """A key and when it ends, in Unix seconds. None: only for the requests that wait for it;
    `NEVER`: until it is refused."""

    token: str
    expires_at: float | None = None


class NativeBackend(LLMBackend, abc.ABC):
    """A backend without a `chat_completions` of its own.

    Made and initialised like any other, when its first key is asked for. The factory that a plugin
    declares must be the class itself: `native_spec` is asked of it before there is an instance.
    """

    def __init__(
        self, client: httpx.AsyncClient, config: AppConfig, translation_service: Any = None
    ) -> None:
        super().__init__(config)
        self.client = client
        self.settings: dict[str, Any] = {}

    async def initialize(self, **kwargs: Any) -> None:
        self.settings = kwargs

    @classmethod
    @abc.abstractmethod
    def native_spec(cls, config: BackendConfig | None) -> NativeSpec:
        """`config` is what the configuration says of the instance; no network here."""

    @abc.abstractmethod
    async def credentials(self, refused: str | None = None) -> Credentials:
        """The key to use from now on. One call at a time; `refused` is a key that the provider
        would not have."""

    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        raise ServiceUnavailableError(f"{self.instance_name} is driven by the engine only.")
