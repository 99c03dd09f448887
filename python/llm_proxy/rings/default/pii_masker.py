"""Replaces personal data by tokens before it leaves; the reply gets it back."""

from __future__ import annotations

import json

from llm_proxy.plugins.context import PluginContext
from llm_proxy.plugins.sdk import PluginHook
from llm_proxy.rings.chat import (
    edit_arguments,
    edit_texts,
    messages_of,
    reply_json,
    reply_messages,
    write_reply,
)


async def mask(ctx: PluginContext) -> None:
    security = ctx.metadata["rotator"].security
    for message in messages_of(ctx.body):
        changed = edit_texts(message, security.mask_pii)
        if edit_arguments(message, security.mask_pii) or changed:
            ctx.metadata["pii_masked"] = True
            ctx.placeholders = security.pii_vault


def _in_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


async def restore(ctx: PluginContext) -> None:
    """Puts the request's own values back into its reply: text and tool calls."""
    rotator = ctx.metadata.get("rotator")
    if rotator is None or not ctx.metadata.get("pii_masked"):
        return
    security = rotator.security
    reply = reply_json(ctx)
    changed = False
    for message in reply_messages(reply):
        changed |= edit_texts(message, security.restore_pii)
        changed |= edit_arguments(message, lambda text: security.restore_pii(text, _in_json))
    if changed and reply is not None:
        write_reply(ctx, reply)


mask.also = {PluginHook.POST_FLIGHT: restore}  # type: ignore[attr-defined]
