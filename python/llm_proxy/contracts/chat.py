"""The chat request and reply as backends see them: OpenAI chat, as pydantic models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic import SerializerFunctionWrapHandler as Serialize

from llm_proxy.contracts.model_bases import DomainModel
from llm_proxy.contracts.usage import UsageSummary


class ImageURL(DomainModel):
    url: str
    detail: str | None = None


class InputAudio(DomainModel):
    data: str
    format: str


class MessageContentPartText(DomainModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"] = "text"
    text: str
    cache_control: dict[str, Any] | None = Field(default=None, exclude=True)


class MessageContentPartImage(DomainModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["image_url"] = "image_url"
    image_url: ImageURL


class MessageContentPartAudio(DomainModel):
    type: Literal["input_audio"] = "input_audio"
    input_audio: InputAudio


MessageContentPart = MessageContentPartText | MessageContentPartImage | MessageContentPartAudio


class FunctionCall(DomainModel):
    model_config = ConfigDict(extra="allow")

    name: str | None = None
    arguments: str | None = None

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return json.dumps(value) if isinstance(value, (dict, list)) else value


class ToolCall(DomainModel):
    model_config = ConfigDict(extra="allow")

    id: str | None = None
    type: str = "function"
    function: FunctionCall = Field(default_factory=FunctionCall)
    extra_content: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _without_empty_extra(self, serialize: Serialize) -> dict[str, Any]:
        dumped: dict[str, Any] = serialize(self)
        if dumped.get("extra_content") is None:
            dumped.pop("extra_content", None)
        return dumped


class FunctionDefinition(DomainModel):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolDefinition(DomainModel):
    type: str = "function"
    function: FunctionDefinition


class ChatMessage(DomainModel):
    role: str
    content: str | list[MessageContentPart | dict[str, Any]] | None = None
    reasoning_content: str | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    metadata: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_shapes(cls, data: Any) -> Any:
        """Looser shapes that clients and upstreams send: other names of reasoning, text and
        role."""
        if not isinstance(data, Mapping):
            return data
        shaped = dict(data)
        if not shaped.get("role"):
            shaped["role"] = "user"
        if shaped.get("content") is None:
            for name in ("text", "message"):
                if isinstance(shaped.get(name), str):
                    shaped["content"] = shaped[name]
                    break
        if shaped.get("reasoning_content") is None:
            shaped["reasoning_content"] = _reasoning_text(shaped)
        return shaped

    def to_dict(self) -> dict[str, Any]:
        """The message as a client would send it: nothing that is unset, nothing of ours."""
        return self.model_dump(exclude_none=True, exclude={"metadata"})


def _reasoning_text(message: Mapping[str, Any]) -> str | None:
    plain = message.get("reasoning")
    if isinstance(plain, str):
        return plain
    details = message.get("reasoning_details")
    if not isinstance(details, list):
        return None
    texts = [detail.get("text") for detail in details if isinstance(detail, Mapping)]
    return "".join(text for text in texts if isinstance(text, str)) or None


class ChatRequest(DomainModel):
    model_config = ConfigDict(frozen=True)

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    system_prompt: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    stream: bool | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    user: str | None = None
    seed: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    service_tier: str | None = None
    store: bool | None = None
    request_metadata: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    session_id: str | None = None
    agent: str | None = None
    extra_body: dict[str, Any] | None = None
    compression_diagnostics: Any = Field(default=None, exclude=True)
    vtc_enabled: bool | None = None
    streaming_loop_detection_enabled: bool | None = None
    reasoning_effort: str | None = None
    reasoning: dict[str, Any] | None = None
    verbosity: str | None = None
    thinking_budget: int | None = None
    generation_config: dict[str, Any] | None = None

    @field_validator("tools", mode="before")
    @classmethod
    def _tools_as_dicts(cls, tools: Any) -> Any:
        if not isinstance(tools, (list, tuple)):
            return tools
        return [
            _put_right(tool.model_dump(exclude_none=True) if isinstance(tool, BaseModel) else tool)
            for tool in tools
        ]


def _put_right(tool: Any) -> Any:
    """A tool whose schema has a list where the names of its properties belong, as PHP writes an
    empty mapping."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    schema = function.get("parameters") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(schema, Mapping):
        return tool
    if schema.get("properties") != []:
        return tool
    return {**tool, "function": {**function, "parameters": {**schema, "properties": {}}}}


class CanonicalChatRequest(ChatRequest):
    """The request a backend is handed."""


class ChatCompletionChoiceMessage(DomainModel):
    model_config = ConfigDict(extra="allow")

    role: str = "assistant"
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_shapes(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("role") is None:
            return {**data, "role": "assistant"}
        return data


class ChatCompletionChoice(DomainModel):
    index: int = 0
    message: ChatCompletionChoiceMessage
    finish_reason: str | None = None
    logprobs: Any = None


class ChatResponse(DomainModel):
    id: str
    created: int
    model: str
    choices: list[ChatCompletionChoice]
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    object: str = "chat.completion"

    @field_validator("usage", mode="before")
    @classmethod
    def _usage_as_dict(cls, usage: Any) -> Any:
        return usage.to_legacy_dict() if isinstance(usage, UsageSummary) else usage


class CanonicalChatResponse(ChatResponse):
    """The whole reply of a backend."""


class StreamingFunctionCall(DomainModel):
    model_config = ConfigDict(extra="allow")

    name: str | None = None
    arguments: str | None = None


class StreamingToolCall(DomainModel):
    model_config = ConfigDict(extra="allow")

    index: int = 0
    id: str | None = None
    type: str | None = None
    function: StreamingFunctionCall | None = None


class StreamingChatCompletionChoiceDelta(DomainModel):
    model_config = ConfigDict(extra="allow")

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[StreamingToolCall] | None = None


class StreamingChatCompletionChoice(DomainModel):
    index: int = 0
    delta: StreamingChatCompletionChoiceDelta = Field(
        default_factory=StreamingChatCompletionChoiceDelta
    )
    finish_reason: str | None = None
    logprobs: Any = None

    @field_validator("delta", mode="before")
    @classmethod
    def _delta_present(cls, delta: Any) -> Any:
        return {} if delta is None else delta


class CanonicalStreamChunk(DomainModel):
    """One chunk of a streamed reply."""

    model_config = ConfigDict(extra="allow")

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int = 0
    model: str = ""
    choices: list[StreamingChatCompletionChoice] = Field(default_factory=list)
    usage: dict[str, Any] | None = None
    _ends_stream: bool = PrivateAttr(default=False)

    @property
    def ends_stream(self) -> bool:
        """The upstream's terminator was read with this chunk."""
        return self._ends_stream

    def as_last(self) -> CanonicalStreamChunk:
        self._ends_stream = True
        return self

    @model_serializer(mode="wrap")
    def _as_sent(self, serialize: Serialize) -> dict[str, Any]:
        """As an upstream would send it: a delta holds only what is new, `finish_reason` is
        always there."""
        dumped: dict[str, Any] = serialize(self)
        dumped["choices"] = [
            {key: _set_only(value) if key == "delta" else value for key, value in choice.items()}
            for choice in dumped.get("choices", [])
        ]
        for choice in dumped["choices"]:
            if choice.get("logprobs") is None:
                choice.pop("logprobs", None)
        if dumped.get("usage") is None:
            dumped.pop("usage", None)
        return dumped


def _set_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _set_only(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_set_only(item) for item in value]
    return value


class StreamingChatResponse(DomainModel):
    """One piece of text of a streamed reply, in the older, flat form."""

    model_config = ConfigDict(extra="allow")

    content: str | None = None
    model: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
