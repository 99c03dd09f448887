"""Shortens a long last message without touching what its lines say."""

from __future__ import annotations

import re

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.services.chat import edit_texts, messages_of

MIN_CHARACTERS = 1000
_TRAILING = re.compile(r"[ \t]+(?=\n)|[ \t]+\Z")
_BLANK_LINES = re.compile(r"\n{3,}")
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)


def shorten(text: str) -> str:
    """Without trailing spaces and runs of blank lines; indentation and comments are content.

    A text with fenced code keeps its blank lines: inside a fence they may belong to a literal.
    """
    if len(text) <= MIN_CHARACTERS:
        return text
    trails = " \n" in text or "\t\n" in text or text[-1] in " \t"
    if not trails and "\n\n\n" not in text:
        return text
    if ("```" in text or "~~~" in text) and _FENCE.search(text):
        return text
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text))


async def compress(ctx: PluginContext) -> None:
    messages = messages_of(ctx.body)
    if messages and edit_texts(messages[-1], shorten):
        ctx.metadata["minified"] = True
