"""A stream's event on its own: what the stream would have said before it.

The codecs read streams from their beginning. Plugins, and their tests, also translate single
events, or streams without the openings that carry nothing for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_proxy.backends import codecs

Event = dict[str, Any]

_MESSAGE_START: Event = {
    "type": "message_start",
    "message": {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": "",
        "content": [],
        "usage": {"input_tokens": 0, "output_tokens": 0},
    },
}
_TOOL: Event = {"type": "tool_use", "id": "toolu_0", "name": "", "input": {}}
# The type of a delta → the block it belongs to.
_BLOCKS: dict[str, Event] = {
    "text_delta": {"type": "text", "text": ""},
    "citations_delta": {"type": "text", "text": ""},
    "thinking_delta": {"type": "thinking", "thinking": ""},
    "signature_delta": {"type": "thinking", "thinking": ""},
    "input_json_delta": _TOOL,
}
_CALL: Event = {"type": "function_call", "id": "fc_0", "call_id": "call_0", "name": ""}


def openings(event: Mapping[str, Any], codec: str) -> list[Event]:
    """What a stream of `codec` that begins with `event` has left out."""
    kind = event.get("type")
    if codec == codecs.ANTHROPIC and str(kind).startswith(("content_block_", "message_")):
        if kind == "message_start":
            return []
        if (event.get("delta") or {}).get("stop_reason") == "tool_use":
            call = {"type": "content_block_start", "index": 0, "content_block": _TOOL}
            return [_MESSAGE_START, call, {"type": "content_block_stop", "index": 0}]
        block = _BLOCKS.get(str((event.get("delta") or {}).get("type")))
        if kind != "content_block_delta" or block is None:
            return [_MESSAGE_START]
        start = {"type": "content_block_start", "index": event.get("index", 0)}
        return [_MESSAGE_START, {**start, "content_block": block}]
    if codec == codecs.RESPONSES and kind == "response.function_call_arguments.delta":
        added = {"type": "response.output_item.added", "output_index": event.get("output_index", 0)}
        return [{**added, "item": {**_CALL, "arguments": ""}}]
    return []


def ends_reply(event: Mapping[str, Any], codec: str) -> bool:
    """The event says why the reply has ended; a terminator may follow, and says nothing more."""
    if codec == codecs.ANTHROPIC:
        return bool((event.get("delta") or {}).get("stop_reason"))
    if codec == codecs.GEMINI:
        return any(candidate.get("finishReason") for candidate in event.get("candidates") or ())
    return False


def terminator(codec: str) -> Event | None:
    """The event behind that one, in formats that have one."""
    return {"type": "message_stop"} if codec == codecs.ANTHROPIC else None
