"""Calls a backend's `chat_completions` in the form it was written for: canonical or legacy."""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest, ConnectorRequestContext

_CANONICAL = ConnectorChatCompletionsRequest.__name__
_NOT_OPTIONS = frozenset(
    {"context", "request", "processed_messages", "effective_model", "identity"}
    | {"cancellation_token", "cancellation_coordinator"}
)
_NOT_PROJECTED = ("client_session_id", "a_session_id", "auth_scope_id")


class ConnectorInvoker:
    """Decides per method, from parameter name and annotation alone, and remembers the decision."""

    def __init__(self) -> None:
        self._canonical: dict[Any, bool] = {}

    async def invoke(self, backend: Any, request: ConnectorChatCompletionsRequest) -> Any:
        forbidden = _NOT_OPTIONS & request.options.keys()
        if forbidden:
            raise ValueError(f"options may not contain {', '.join(sorted(forbidden))}")
        if self.is_canonical(backend):
            request.context = project_context(request.context)
            return await backend.chat_completions(request)
        return await backend.chat_completions(
            request_data=request.request,
            processed_messages=list(request.processed_messages),
            effective_model=request.effective_model,
            identity=request.identity,
            cancellation_token=request.cancellation_token,
            cancellation_coordinator=request.cancellation_coordinator,
            **request.options,
        )

    def is_canonical(self, backend: Any) -> bool:
        method = backend.chat_completions
        key = getattr(method, "__func__", method)
        try:
            known = self._canonical.get(key)
        except TypeError:
            return takes_canonical_request(backend)
        if known is None:
            known = self._canonical[key] = takes_canonical_request(backend)
        return known


def takes_canonical_request(backend: Any) -> bool:
    """`(request: ConnectorChatCompletionsRequest, …optional)`, or `(*args, **kwargs)` with a
    normaliser for it."""
    try:
        parameters = list(inspect.signature(backend.chat_completions).parameters.values())
    except (TypeError, ValueError):
        return False
    kinds = [parameter.kind for parameter in parameters]
    if kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]:
        normalize = getattr(type(backend), "_normalize_chat_completions_request", None)
        return normalize is not None and _names_canonical(_returned(normalize))
    if not parameters or parameters[0].name != "request":
        return False
    if kinds[0] not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        return False
    return _names_canonical(parameters[0].annotation) and all(map(_optional, parameters[1:]))


def _optional(parameter: inspect.Parameter) -> bool:
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.kind in starred or parameter.default is not inspect.Parameter.empty


def _returned(function: Callable[..., Any]) -> Any:
    try:
        return inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return inspect.Signature.empty


def _names_canonical(annotation: Any) -> bool:
    """The class itself, its name in text or a forward reference, or a union with it."""
    if annotation is ConnectorChatCompletionsRequest:
        return True
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return _CANONICAL in annotation
    return any(_names_canonical(argument) for argument in typing.get_args(annotation))


def project_context(context: ConnectorRequestContext | None) -> ConnectorRequestContext | None:
    """The context a backend may see: its own copy, without the identifiers of the client's side."""
    if context is None:
        return None
    extensions: Mapping[str, Any] = {
        name: value for name, value in context.extensions.items() if name not in _NOT_PROJECTED
    }
    return ConnectorRequestContext(
        request_id=context.request_id,
        session_id=context.session_id,
        client_host=context.client_host,
        extensions=copy.deepcopy(dict(extensions)),
    )
