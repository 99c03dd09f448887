"""`body_iterator` and the small domain models, in the terms of the contract."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from src.connectors.base import LLMBackend, add_vendor_prefix, strip_vendor_prefix
from src.core.common.backend_discovery_state import filter_oauth_style_backend_names
from src.core.config.app_config import AppConfig, BackendConfig
from src.core.config.parameter_resolution import ParameterResolution, ParameterSource
from src.core.domain.chat import ChatMessage, ChatRequest, MessageContentPartText, ToolCall
from src.core.domain.responses import ProcessedResponse, ResponseEnvelope, StreamingResponseEnvelope
from src.core.domain.session_key import SessionKey
from src.core.domain.streaming.streaming_content import StreamingContent
from src.core.domain.usage_summary import UsageSummary
from src.core.ports.streaming_contracts import StopChunkWithUsage, UsageChunkLeakError
from src.core.utils.token_count import count_tokens, extract_prompt_text


async def body(*items: Any, media_type: str = "text/event-stream") -> list[bytes]:
    async def content() -> AsyncIterator[ProcessedResponse]:
        for item in items:
            yield ProcessedResponse(item)

    envelope = StreamingResponseEnvelope(content(), media_type)
    return [part async for part in envelope.body_iterator]


SSE = {
    "data: x\n\n": b"data: x\n\n",
    "event: y\ndata: x\n\n": b"event: y\ndata: x\n\n",
    ": ping\n\n": b": ping\n\n",
    "a\nb": b"data: a\ndata: b\n\n",
    b"plain": b"data: plain\n\n",
    b"": b"data: \n\n",
    None: b"data: None\n\n",
}


@pytest.mark.parametrize("item", SSE)
async def test_the_body_of_an_event_stream(item: Any) -> None:
    assert await body(item) == [SSE[item]]


async def test_reasoning_has_aliases_in_the_body_of_an_event_stream() -> None:
    (event,) = await body({"choices": [{"delta": {"reasoning_content": "hm"}}]})
    delta = json.loads(event.removeprefix(b"data: "))["choices"][0]["delta"]
    assert delta == dict.fromkeys(("reasoning_content", "reasoning", "thinking", "thought"), "hm")


async def test_other_media_types_are_raw() -> None:
    parts = await body(b"raw", "text", {"a": "ü"}, media_type="application/x-ndjson")
    assert parts == [b"raw", b"text", '{"a": "ü"}'.encode()]


def test_fields_of_the_envelopes_are_positional() -> None:
    whole = ResponseEnvelope({"a": 1}, {"h": "1"}, 201, "text/plain", {"total_tokens": 1}, {"m": 1})
    assert (whole.status_code, whole.media_type, whole.metadata) == (201, "text/plain", {"m": 1})
    streamed = StreamingResponseEnvelope(None, "text/plain", {"h": "1"}, 201)
    assert (streamed.status_code, streamed.headers) == (201, {"h": "1"})
    assert ProcessedResponse().metadata == {}


def test_a_usage_summary_reads_like_a_dict() -> None:
    usage = UsageSummary.from_dict({"input_tokens": 2, "output_tokens": 3, "cached": 1})
    assert usage == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5, "cached": 1}
    assert usage["total_tokens"] == 5
    assert usage.get("nothing", 7) == 7
    assert "cached" in usage


def test_usage_summaries_add_up_and_never_change() -> None:
    usage = UsageSummary(2, 3, 5, {"cached": 1, "tier": "a"})
    total = usage.merge({"prompt_tokens": 4, "cached": 2, "tier": "b", "seen": True})
    assert total == {
        "prompt_tokens": 6,
        "completion_tokens": 3,
        "total_tokens": 9,
        "cached": 3,
        "tier": "b",
        "seen": True,
    }
    assert usage.merge(None) == usage
    assert UsageSummary().merge(usage).equals(usage)
    assert not usage.equals({"prompt_tokens": 2})
    assert UsageSummary().merge({"completion_tokens": 1}).prompt_tokens is None
    with pytest.raises(AttributeError):
        usage.prompt_tokens = 7  # type: ignore[misc]


def test_streaming_content_comes_back_from_its_dict() -> None:
    for content in (
        StreamingContent("text", {"model": "m"}, stream_id="s"),
        StreamingContent({"a": 1}, usage={"total_tokens": 2}, raw_data="raw"),
        StreamingContent(is_done=True, is_cancellation=True),
    ):
        assert StreamingContent.from_dict(content.to_dict()) == content
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}}]}
    assert StreamingContent.from_dict(chunk).to_chunk() == chunk
    assert StreamingContent("x").to_chunk()["choices"][0]["delta"] == {"content": "x"}
    assert StreamingContent(is_done=True).to_bytes() == b"data: [DONE]\n\n"


def test_tools_with_properties_as_a_list_are_put_right() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": [], "required": []}}}  # fmt: skip
    request = ChatRequest(model="m", messages=[ChatMessage(role="user")], tools=[tool])
    assert request.tools is not None
    assert request.tools[0]["function"]["parameters"]["properties"] == {}
    assert tool["function"]["parameters"]["properties"] == []  # the client's is its own


def test_the_environment_says_where_the_proxy_listens_and_who_kimi_is() -> None:
    environment = {"APP_HOST": "0.0.0.0", "APP_PORT": "9", "KIMI_API_KEY": "k"}
    config = AppConfig.from_env(environment)
    assert (config.host, config.port) == ("0.0.0.0", 9)
    assert config.backends["kimi-code"].api_key == "k"


def test_personal_logins_are_told_from_other_backends() -> None:
    names = ["openai", "qwen-oauth", "gemini-oauth-auto"]
    assert filter_oauth_style_backend_names(names) == names[1:]


def test_the_text_of_a_prompt_has_its_calls_and_thoughts() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
        None,
        {"role": "user", "content": [None, {"type": "text", "text": None}, {"text": "you"}]},
        ChatMessage(role="user", content="there"),
    ]
    text = extract_prompt_text(messages)
    assert text.split() == ["hi", "hm", "look", '{"a":1}', "you", "there"]
    assert extract_prompt_text(None) == ""


def test_a_usage_chunk_does_not_become_text_by_accident() -> None:
    chunk = StopChunkWithUsage.wrap({"usage": {"total_tokens": 1}})
    assert "total_tokens" not in repr(chunk)
    for leak in (str, json.dumps, lambda it: json.dumps([it], indent=1)):
        with pytest.raises(UsageChunkLeakError):
            leak(chunk)
    assert list(chunk.items()) == [("usage", {"total_tokens": 1})]
    assert json.loads(chunk.safe_json_dumps()) == {"usage": {"total_tokens": 1}}
    assert json.loads(str(chunk.allow_stringify())) == {"usage": {"total_tokens": 1}}
    assert json.loads(json.dumps(chunk)) == {"usage": {"total_tokens": 1}}


def test_a_session_key_needs_a_name() -> None:
    assert SessionKey("openai", "s") == SessionKey("openai", "s", None)
    for blank in ("", "  "):
        with pytest.raises(ValueError, match="primary_id"):
            SessionKey("openai", blank)


def test_chat_messages_take_the_shapes_that_clients_send() -> None:
    assert ChatMessage.model_validate({"text": "hi"}).to_dict() == {"role": "user", "content": "hi"}
    assert ChatMessage(role="assistant", reasoning="hm").reasoning_content == "hm"
    details = [{"type": "reasoning.text", "text": "a"}, {"type": "reasoning.text", "text": "b"}]
    assert ChatMessage(role="assistant", reasoning_details=details).reasoning_content == "ab"
    file = {"type": "file", "file": {"file_id": "f"}}
    cached = {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}}
    message = ChatMessage(role="user", content=[cached, file])
    assert isinstance(message.content[0], MessageContentPartText)
    assert message.to_dict()["content"] == [{"type": "text", "text": "t"}, file]


def test_models_read_and_refuse_like_the_contract() -> None:
    request = ChatRequest(model="m", messages=[ChatMessage(role="user", content="x")], unknown=1)
    assert request["model"] == "m"
    assert "model" in request
    assert "unknown" not in request
    with pytest.raises(ValueError, match="frozen"):
        request.model = "other"
    with pytest.raises(ValueError, match="at least 1"):
        ChatRequest(model="m", messages=[])
    assert "extra_content" not in ToolCall(id="t").model_dump()
    assert ToolCall(id="t", extra_content={"g": 1}).model_dump()["extra_content"] == {"g": 1}


def test_vendor_prefixes() -> None:
    assert strip_vendor_prefix("qwen/max", "qwen") == "max"
    assert add_vendor_prefix("max", "qwen") == add_vendor_prefix("qwen/max", "qwen") == "qwen/max"


class Bare(LLMBackend):
    """A subclass that never calls super().__init__."""

    def __init__(self) -> None:
        pass

    async def initialize(self, **kwargs: Any) -> None:
        pass

    async def chat_completions(self, request: Any) -> Any:
        pass


async def test_every_accessor_works_without_the_base_constructor() -> None:
    backend = Bare()
    assert backend.is_backend_functional()
    assert backend.api_url is None
    assert backend.get_retry_after_remaining() is None
    assert backend.last_quota_headers == {}
    assert backend.instance_name == "Bare"
    assert backend.get_validation_errors() == []
    with backend.track_connection("s", "chat"):
        backend.increment_rx("s", 1)
    backend.mark_auth_invalid("expired")
    await backend.on_endpoint_unhealthy("http://x", "down")
    assert backend.get_validation_errors() == [
        "Credentials invalid: expired",
        "API endpoint unhealthy: down",
    ]
    backend.set_retry_after(30)
    assert backend.is_rate_limited()
    backend.update_quota_headers({"X-RateLimit-Remaining": "3", "Date": "now"})
    assert backend.last_quota_headers == {"x-ratelimit-remaining": "3"}


def test_the_configuration_as_plugins_read_it() -> None:
    config = AppConfig(
        {
            "host": "127.0.0.2",
            "backends": {
                "default_backend": "gemini-oauth-free",
                "gemini-oauth-free": {"extra": {"debug": True}, "unknown": 1},
                "openai": {"api_key": ["k1", "k2"]},
                "openai.2": {"api_key": "k3", "api_url": "https://x/v1"},
            },
            "some_section": {"a": 1},
        }
    )
    assert config.get("host") == "127.0.0.2"
    assert config.get("backends.openai.api_key") == "k1"
    assert config.get("some_section.a") == 1
    assert config.get("nothing.here", 7) == 7
    assert config.backends.gemini_oauth_free.extra == {"debug": True}
    assert config.backends["openai"].timeout == 120
    assert config.backends.get("anthropic") == BackendConfig()
    assert config.backends.get("nobody") is None
    with pytest.raises(KeyError):
        config.backends["nobody"]
    assert config.backends.lookup("openai.7").api_key == "k1"
    assert config.backends.functional_backends == {"openai", "openai.2"}
    assert config.streaming_yield_interval == 100
    assert config.failure_handling.max_silent_wait == 60
    with pytest.warns(DeprecationWarning):
        config.set("host", "::1")
    assert config.host == "::1"
    with pytest.raises(ValueError, match="http"):
        BackendConfig(api_url="ftp://x")


def test_tokens_are_counted_offline_and_about_right() -> None:
    assert count_tokens("") == 0
    prose = "The quick brown fox jumps over the lazy dog. " * 20
    assert 180 <= count_tokens(prose) <= 220  # 200 and one in a current vocabulary
    assert 3 <= count_tokens("antidisestablishmentarianism") <= 7
    messages = [{"role": "user", "content": "a"}, ChatMessage(role="user", content="b")]
    assert extract_prompt_text(messages) == "a\nb"


def test_a_setting_is_remembered_for_each_of_its_sources() -> None:
    seen = ParameterResolution()
    seen.record("host", "a", ParameterSource.CLI)
    seen.record("host", "b", ParameterSource.ENVIRONMENT, origin="APP_HOST")
    seen.record("host", "c", ParameterSource.ENVIRONMENT, origin="APP_HOST")
    assert seen.latest_by_source(ParameterSource.ENVIRONMENT) == {"host": ("c", "APP_HOST")}
    assert seen.latest_by_source(ParameterSource.DEFAULT) == {}
