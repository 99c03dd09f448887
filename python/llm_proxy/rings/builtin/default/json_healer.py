"""Completes JSON that ends too early."""

from __future__ import annotations

import json

from llm_proxy.rings.builtin.default.shield_sanitizer import cleanse
from llm_proxy.rings.context import Headers, PluginContext, Reply
from llm_proxy.rings.services.chat import reply_json, reply_messages, write_reply


def heal(text: str) -> str | None:
    """The text with its open strings and brackets closed; None if that makes no JSON."""
    text = text.rstrip()
    closers: list[str] = []
    in_string = escaped = False
    for letter in text:
        if in_string:
            if escaped:
                escaped = False
            elif letter == "\\":
                escaped = True
            elif letter == '"':
                in_string = False
        elif letter == '"':
            in_string = True
        elif letter in "{[":
            closers.append("}" if letter == "{" else "]")
        elif letter in "}]" and closers:
            closers.pop()
    if in_string:
        text = (text[:-1] if escaped else text) + '"'
    else:
        text = text.rstrip().removesuffix(",")
        if text.endswith(":"):
            text += "null"
    tail = "".join(reversed(closers))
    for candidate in (text + tail, text + ":null" + tail):
        try:
            json.loads(candidate)
        except ValueError:
            continue
        return candidate
    return None


def _is_cut(text: str) -> bool:
    text = text.strip()
    return text[:1] in ("{", "[") and text[-1:] not in ("}", "]")


async def repair(ctx: PluginContext) -> None:
    reply = reply_json(ctx)
    if reply is None:
        raw = getattr(ctx.response, "body", None)
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""
        healed = heal(text) if _is_cut(text) else None
        if healed is not None:
            status = int(getattr(ctx.response, "status_code", 200))
            headers = Headers({"content-type": "application/json"})
            ctx.response = Reply(healed.encode(), status, headers)
            await cleanse(ctx)  # it was no JSON when the sanitizer looked at it
        return
    changed = False
    if "response_format" in ctx.body:
        for message in reply_messages(reply):
            content = message.get("content")
            if isinstance(content, str) and _is_cut(content):
                healed = heal(content)
                if healed is not None:
                    message["content"], changed = healed, True
    if changed:
        write_reply(ctx, reply)
