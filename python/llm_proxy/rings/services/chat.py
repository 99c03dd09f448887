"""Reading and rewriting OpenAI chat bodies: whatever is odd about one is dealt with here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from llm_proxy import _core
from llm_proxy.rings.context import Headers, PluginContext, Reply

Body = dict[str, Any]


def text_of(content: Any) -> str:
    """The text of a message's content: a string, the text parts of a list, nothing of null."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(part["text"] for part in content if _is_text(part))


def text_pieces(message: dict[str, Any]) -> list[str]:
    """All text of one message, piece by piece: its content, and what its tool calls are given."""
    content = message.get("content")
    pieces = [content] if isinstance(content, str) else []
    if isinstance(content, list):
        pieces += [part["text"] for part in content if _is_text(part)]
        pieces += [p["refusal"] for p in content if isinstance(p, dict) and _is_str(p, "refusal")]
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls or () if isinstance(call, dict)]
    for function in [*functions, message.get("function_call")]:
        if isinstance(function, dict) and _is_str(function, "arguments"):
            pieces.append(function["arguments"])
    return pieces


def _is_str(row: dict[str, Any], key: str) -> bool:
    return isinstance(row.get(key), str)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def messages_of(body: Body) -> list[dict[str, Any]]:
    """The messages that are objects; what else a client put among them is its own business."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return []
    return [message for message in messages if isinstance(message, dict)]


def operation_of(ctx: PluginContext) -> str:
    """What the client asked for: "generate" (the default), "completions", "embeddings",
    "count_tokens" or "stored"."""
    return str(ctx.metadata.get("_operation", "generate"))


def generates(ctx: PluginContext) -> bool:
    """Whether a model will write something for this request."""
    return operation_of(ctx) in ("generate", "completions")


def edit_texts(message: dict[str, Any], edit: Callable[[str], str]) -> bool:
    """Rewrites the text of one message in place, part by part. True: something changed."""
    changed = False
    content = message.get("content")
    if isinstance(content, str):
        new = edit(content)
        if new != content:
            message["content"], changed = new, True
    elif isinstance(content, list):
        for part in content:
            if _is_text(part):
                new = edit(part["text"])
                if new != part["text"]:
                    part["text"], changed = new, True
    return changed


def edit_arguments(message: dict[str, Any], edit: Callable[[str], str]) -> bool:
    """Rewrites the arguments text of a message's tool calls in place."""
    changed = False
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls or () if isinstance(call, dict)]
    for function in [*functions, message.get("function_call")]:
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            new = edit(function["arguments"])
            if new != function["arguments"]:
                function["arguments"], changed = new, True
    return changed


# ---- replies


def reply_json(ctx: PluginContext) -> Body | None:
    """The reply as an object. Parsed once for all plugins that look at the same bytes."""
    response = ctx.response
    if isinstance(response, dict):
        return response
    raw = getattr(response, "body", None)
    if isinstance(raw, str):
        raw = raw.encode()
    if not isinstance(raw, (bytes, bytearray, memoryview)):
        return ctx.body if isinstance(ctx.body.get("choices"), list) else None
    known: tuple[Any, Body | None] | None = ctx.__dict__.get("_parsed_reply")
    if known is not None and known[0] is raw:
        return known[1]
    try:
        value: Any = _core.loads(bytes(raw))
    except ValueError:
        value = None
    parsed: Body | None = value if isinstance(value, dict) else None
    ctx.__dict__["_parsed_reply"] = (raw, parsed)
    return parsed


def reply_messages(reply: Body | None) -> Iterator[dict[str, Any]]:
    choices = reply.get("choices") if reply else None
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        if isinstance(message, dict):
            yield message


def reply_text(ctx: PluginContext) -> str | None:
    """The text of the first choice; None without a reply or without a choice."""
    message = next(reply_messages(reply_json(ctx)), None)
    return None if message is None else text_of(message.get("content"))


def calls_tools(ctx: PluginContext) -> bool:
    message = next(reply_messages(reply_json(ctx)), {})
    return bool(message.get("tool_calls") or message.get("function_call"))


def write_reply(ctx: PluginContext, reply: Body) -> None:
    """Puts a changed reply in the place of the old one, with its status and headers."""
    raw = json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode()
    old = ctx.response
    headers = Headers(dict(getattr(old, "headers", None) or {}))
    headers.pop("content-length", None)
    status = int(getattr(old, "status_code", 200))
    ctx.response = Reply(raw, status, headers, headers.get("content-type", "application/json"))
    ctx.__dict__["_parsed_reply"] = (raw, reply)


def usage_of(ctx: PluginContext) -> tuple[int, int] | None:
    """Input and output tokens as the upstream counted them."""
    reply = reply_json(ctx) or {}
    for usage in (
        reply.get("usage"),
        ctx.metadata.get("_usage"),
        ctx.metadata.get("_stream_usage"),
    ):
        if isinstance(usage, dict) and isinstance(usage.get("prompt_tokens"), int):
            return usage["prompt_tokens"], int(usage.get("completion_tokens") or 0)
    return None
