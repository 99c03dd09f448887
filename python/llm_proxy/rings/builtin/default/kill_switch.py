"""Cuts an answer that has fallen into a loop."""

from __future__ import annotations

import logging

from llm_proxy import _core
from llm_proxy.rings.context import Headers, PluginContext, Reply
from llm_proxy.rings.services.chat import reply_json, reply_messages, write_reply

logger = logging.getLogger("llm_proxy.plugins")

LOOP = " [LLMPROXY_ERROR: INFINITE_LOOP_DETECTED_SNIPPED]"
STUTTER = " [LLMPROXY_ERROR: STUTTERING_DETECTED_SNIPPED]"
MAX_REPEATS = 15
_BREAKS = "\n" * 10


def snip(text: str) -> str:
    """The text up to its loop, with a marker; the same text if there is none."""
    if not _core.repeats_word(text, MAX_REPEATS) and text.count(_BREAKS) < 3:
        return text
    previous, repeats, at, first_ends = None, 0, 0, 0
    for word in text.split(" "):
        at += len(word)
        if word and word == previous:
            repeats += 1
        else:
            repeats, first_ends = 0, at
        if repeats >= MAX_REPEATS:
            return text[:first_ends] + LOOP
        previous = word
        at += 1
    if text.count(_BREAKS) >= 3:
        return text[: text.index(_BREAKS)] + STUTTER
    return text


async def analyze(ctx: PluginContext) -> None:
    reply = reply_json(ctx)
    if reply is None:
        raw = getattr(ctx.response, "body", None)
        if isinstance(raw, bytes):
            text = raw.decode("utf-8", "replace")
            cut = snip(text)
            if cut != text:
                marker = cut[cut.rindex(" [LLMPROXY_ERROR") :]
                ctx.response = Reply(marker.encode(), ctx.response.status_code, Headers())
        return
    changed = False
    for message in reply_messages(reply):
        content = message.get("content")
        if isinstance(content, str) and (cut := snip(content)) != content:
            message["content"], changed = cut, True
    if changed:
        ctx.metadata["_kill_switch"] = True
        logger.warning("An answer was cut: it had fallen into a loop.")
        write_reply(ctx, reply)


analyze.stream = "cut_loops"  # type: ignore[attr-defined]
