"""What the proxy expects of a backend, checked without any network."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import httpx

from llm_proxy.backends.app_config import AppConfig
from llm_proxy.backends.runtime.dispatch import takes_canonical_request
from llm_proxy.backends.translation import TranslationService

# How the proxy calls a `chat_completions` that takes no canonical request.
_LEGACY = {
    "request_data",
    "processed_messages",
    "effective_model",
    "identity",
    "cancellation_token",
    "cancellation_coordinator",
    "session_id",
}


def backend_problems(factory: Any) -> list[str]:
    """Why the proxy could not use what `factory` makes; empty: it can.

    Makes one backend, without `initialize`: nothing is asked of any provider.
    """
    client = httpx.AsyncClient(transport=httpx.MockTransport(_no_network))
    try:
        backend = factory(client, AppConfig({}), TranslationService())
    except TypeError as error:
        return [f"factory(client, config, translation_service) cannot be called: {error}"]
    except Exception as error:
        return [f"the factory failed: {type(error).__name__}: {error}"]
    return list(_problems(backend, factory))


def _problems(backend: Any, factory: Any) -> Iterator[str]:
    initialize = getattr(backend, "initialize", None)
    if not inspect.iscoroutinefunction(initialize):
        yield "initialize must be an async method"
    elif not _takes_any_keyword(initialize):
        yield "initialize must accept **kwargs: every key of the backend's configuration arrives"
    asked = getattr(backend, "chat_completions", None)
    if not inspect.iscoroutinefunction(asked):
        yield "chat_completions must be an async method"
    elif not takes_canonical_request(backend):
        yield from _legacy_problems(asked)
    if not callable(getattr(backend, "get_available_models", None)):
        yield "get_available_models is missing"
    if hasattr(type(backend), "native_spec"):
        if not inspect.iscoroutinefunction(getattr(backend, "credentials", None)):
            yield "credentials must be an async method where there is a native_spec"
        if getattr(factory, "native_spec", None) is None:
            yield "native_spec is asked of the factory: it must be the class itself"
    shutdown = getattr(backend, "shutdown", None)
    if shutdown is not None and not callable(shutdown):
        yield "shutdown must be a method"


def _legacy_problems(asked: Any) -> Iterator[str]:
    parameters = inspect.signature(asked).parameters
    if _takes_any_keyword(asked):
        missing: set[str] = set()
    else:
        missing = _LEGACY - set(parameters)
    needed = {
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    if missing or needed - _LEGACY:
        yield (
            "chat_completions must take (request: ConnectorChatCompletionsRequest), or keywords "
            f"{', '.join(sorted(_LEGACY))} and others as **kwargs"
        )


def _takes_any_keyword(function: Any) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _no_network(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("a factory must not use the network", request=request)
