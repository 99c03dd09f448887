"""Takes out of a reply what a reader cannot see or should not follow."""

from __future__ import annotations

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.services.chat import (
    edit_texts,
    reply_json,
    reply_messages,
    text_of,
    write_reply,
)

REFUSED = "[SEC_ERR:"


async def cleanse(ctx: PluginContext) -> None:
    rotator = ctx.metadata.get("rotator")
    reply = reply_json(ctx)
    if rotator is None or reply is None:
        return
    changed = False
    for message in reply_messages(reply):
        before = text_of(message.get("content"))
        changed |= edit_texts(message, rotator.security.sanitize_response)
        if REFUSED in text_of(message.get("content")) and REFUSED not in before:
            ctx.error = "The reply was refused by the sanitizer"
            ctx.stop_chain = True
            return
    if changed:
        write_reply(ctx, reply)
