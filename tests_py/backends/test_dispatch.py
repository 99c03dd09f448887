"""In which form a backend is called: parameter name and annotation decide, nothing else."""

# No `from __future__ import annotations`: real annotations are part of what is tested.

from typing import Any, Union

import pytest

from llm_proxy.backends.runtime.dispatch import ConnectorInvoker, takes_canonical_request
from llm_proxy.contracts.chat import CanonicalChatRequest
from llm_proxy.contracts.requests import (
    ConnectorChatCompletionsRequest,
    ConnectorRequestContext,
    ConnectorResponsesRequest,
)

Request = ConnectorChatCompletionsRequest


class RealClass:
    async def chat_completions(self, request: Request) -> Any:
        return request


class Text:
    async def chat_completions(
        self, request: "ConnectorChatCompletionsRequest", extra: int = 1
    ) -> Any:
        return request


class QualifiedText:
    async def chat_completions(self, request: "contracts.ConnectorChatCompletionsRequest") -> Any:  # noqa: F821
        return request


class InUnion:
    async def chat_completions(self, request: Union[dict, Request, None], **kwargs: Any) -> Any:  # noqa: UP007
        return request


class NewUnion:
    async def chat_completions(self, request: Request | None) -> Any:
        return request


class ForwardInUnion:
    async def chat_completions(
        self, request: Union[dict, "ConnectorChatCompletionsRequest"]
    ) -> Any:
        return request


class Normalizing:
    async def chat_completions(self, *args: Any, **kwargs: Any) -> Any:
        return self._normalize_chat_completions_request(*args, **kwargs)

    def _normalize_chat_completions_request(self, *args: Any, **kwargs: Any) -> Request:
        return args[0]


class Guide:
    async def chat_completions(
        self, request_data: Any, processed_messages: list, effective_model: str, **kwargs: Any
    ) -> Any:
        return {"request_data": request_data, "messages": processed_messages, **kwargs}


class Unannotated:
    async def chat_completions(self, request) -> Any:  # type: ignore[no-untyped-def]
        return request


class OtherName:
    async def chat_completions(self, req: Request) -> Any:
        return req


class SecondRequired:
    async def chat_completions(self, request: Request, more: int) -> Any:
        return request


class Anything:
    async def chat_completions(self, *args: Any, **kwargs: Any) -> Any:
        return kwargs


CANONICAL = [RealClass, Text, QualifiedText, InUnion, NewUnion, ForwardInUnion, Normalizing]
LEGACY = [Guide, Unannotated, OtherName, SecondRequired, Anything]


@pytest.mark.parametrize("kind", [*CANONICAL, *LEGACY], ids=lambda kind: kind.__name__)
def test_the_form_is_read_from_the_signature(kind: type) -> None:
    assert takes_canonical_request(kind()) == (kind in CANONICAL)


def request(**options: Any) -> Request:
    chat = CanonicalChatRequest(model="m", messages=[{"role": "user", "content": "x"}])
    extensions = {"client_session_id": "c", "kept": {"a": 1}}
    context = ConnectorRequestContext("r", "s", None, extensions)
    return Request(chat, chat.messages, "m", None, None, None, context, options)


@pytest.mark.parametrize("kind", CANONICAL, ids=lambda kind: kind.__name__)
async def test_a_canonical_backend_is_given_the_request(kind: type) -> None:
    asked = request()
    kept = asked.context.extensions["kept"]
    assert await ConnectorInvoker().invoke(kind(), asked) is asked
    assert asked.context.extensions == {"kept": {"a": 1}}
    assert asked.context.extensions["kept"] is not kept


async def test_a_legacy_backend_is_given_keywords_and_options() -> None:
    asked = request(session_id="s", incoming_headers={"a": "b"})
    told = await ConnectorInvoker().invoke(Guide(), asked)
    assert told["request_data"] is asked.request
    assert told["messages"] == asked.processed_messages
    assert (told["session_id"], told["incoming_headers"]) == ("s", {"a": "b"})
    assert {"identity", "cancellation_token", "cancellation_coordinator"} <= told.keys()
    assert "context" not in told


async def test_an_unannotated_request_is_called_the_old_way_and_fails() -> None:
    with pytest.raises(TypeError):
        await ConnectorInvoker().invoke(Unannotated(), request())


async def test_options_may_not_shadow_what_the_call_itself_carries() -> None:
    with pytest.raises(ValueError, match="effective_model"):
        await ConnectorInvoker().invoke(Guide(), request(effective_model="m"))


async def test_one_instances_own_method_does_not_decide_for_its_class() -> None:
    invoker = ConnectorInvoker()
    special, plain = Guide(), Guide()
    special.chat_completions = RealClass().chat_completions
    assert invoker.is_canonical(special)
    assert not invoker.is_canonical(plain)


def test_a_responses_request_is_made_of_a_chat_request() -> None:
    asked = request(session_id="s")
    made = ConnectorResponsesRequest.from_chat_completions(asked)
    assert isinstance(made, ConnectorResponsesRequest)
    assert vars(made) == vars(asked)
