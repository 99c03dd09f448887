"""Replaces personal data by tokens before it leaves; the reply gets it back."""

from __future__ import annotations

import json
from collections.abc import Callable

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import PluginHook, PluginResponse
from llm_proxy.rings.services.chat import (
    Body,
    edit_arguments,
    edit_texts,
    messages_of,
    reply_json,
    reply_messages,
    write_reply,
)
from llm_proxy.rings.services.pii import VaultFull


async def mask(ctx: PluginContext) -> PluginResponse | None:
    security = ctx.metadata["rotator"].security
    try:
        masked = mask_body(ctx.body, security.mask_pii)
    except VaultFull as error:
        return PluginResponse.block(413, "too_much_personal_data", f"The request has {error}.")
    if masked:
        ctx.metadata["pii_masked"] = True
        ctx.placeholders = security.pii_vault
    return None


def mask_body(body: Body, edit: Callable[[str], str]) -> bool:
    """Every text of a request that is about a person; what tools are for is not. True: changed."""
    changed = False
    for message in messages_of(body):
        changed |= edit_texts(message, edit)
        changed |= edit_arguments(message, edit)
    prediction = body.get("prediction")
    if isinstance(prediction, dict):
        changed |= edit_texts(prediction, edit)
    changed |= _edit_values(body, ("user", "safety_identifier"), edit)
    notes = body.get("metadata")
    if isinstance(notes, dict):
        changed |= _edit_values(notes, tuple(notes), edit)
    return changed


def _edit_values(row: Body, keys: tuple[str, ...], edit: Callable[[str], str]) -> bool:
    changed = False
    for key in keys:
        value = row.get(key)
        if isinstance(value, str) and (new := edit(value)) != value:
            row[key], changed = new, True
    return changed


def _in_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


async def restore(ctx: PluginContext) -> None:
    """Puts the request's own values back into its reply: text and tool calls."""
    rotator = ctx.metadata.get("rotator")
    if rotator is None or not rotator.placeholders:
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
