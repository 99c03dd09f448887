"""Which backend names exist, and how each is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

logger = logging.getLogger(__name__)

BackendFactory = Callable[..., Any]

# Names of the core. The engine serves them; a plugin that wants one of them is ignored.
CORE_BACKEND_NAMES: tuple[str, ...] = (
    "agy-cli-acp",
    "alibaba-token-plan-intl",
    "anthropic",
    "commandcode",
    "commandcode-anthropic",
    "commandcode-openai",
    "commandcode_anthropic",
    "commandcode_openai",
    "cursor-cli-acp",
    "eve-acp",
    "freebuff-cli-acp",
    "gemini",
    "gemini-cli-acp",
    "gemini-cli-cloud-project",
    "hybrid",
    "internlm",
    "kimi-code",
    "minimax",
    "nvidia",
    "ollama",
    "openai",
    "openai-codex",
    "openai-codex-app-server",
    "openai-codex-v2",
    "openai-responses",
    "opencode-go",
    "openrouter",
    "zai",
    "zai-coding-plan",
    "zenmux",
)

# The core names that also exist as a Python base class.
_CORE_CLASSES = {
    "openai": "llm_proxy.backends.openai:OpenAIConnector",
    "anthropic": "llm_proxy.backends.anthropic:AnthropicBackend",
    "gemini": "llm_proxy.backends.gemini:GeminiBackend",
}


class UnregisteredBackendError(ValueError):
    """No factory has this name; the text is for the client."""

    status_code = 404


class BackendRegistry:
    """Name → factory. The first to take a name keeps it."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._factories: dict[str, BackendFactory] = {
            name: _core_factory(name) for name in reserved
        }
        self._reserved = frozenset(self._factories)

    def register_backend(self, name: str, factory: BackendFactory) -> bool:
        """False, with a warning, when the name is taken."""
        if not isinstance(name, str) or not name.strip():
            raise ValueError("Backend name must be a non-empty string.")
        if not callable(factory):
            raise TypeError(f"Backend factory for '{name}' must be callable.")
        if name in self._factories:
            owner = "the core" if name in self._reserved else "another package"
            logger.warning("Backend '%s' is already registered by %s; ignored.", name, owner)
            return False
        self._factories[name] = factory
        return True

    # The name that the guide for authors uses.
    register = register_backend

    def unregister_backend(self, name: str) -> None:
        self._factories.pop(name, None)

    def get_backend_factory(self, name: str) -> BackendFactory:
        factory = self._factories.get(name)
        if factory is None:
            raise UnregisteredBackendError(f"Backend '{name}' is not registered.")
        return factory

    def get_registered_backends(self) -> list[str]:
        return list(self._factories)

    def plugin_backends(self) -> list[str]:
        """The names that did not come with the core."""
        return [name for name in self._factories if name not in self._reserved]


def _core_factory(name: str) -> BackendFactory:
    def build(*args: Any, **kwargs: Any) -> Any:
        target = _CORE_CLASSES.get(name)
        if target is None:
            raise ValueError(
                f"Backend '{name}' is served by the engine; it has no Python connector."
            )
        module, attribute = target.split(":")
        return getattr(import_module(module), attribute)(*args, **kwargs)

    return build


backend_registry = BackendRegistry(CORE_BACKEND_NAMES)
