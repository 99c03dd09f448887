"""How many tokens a text has: exactly with tiktoken where it is installed, else estimated."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

PER_MESSAGE = 4
PER_REPLY = 2
PER_IMAGE = 85


@lru_cache(maxsize=32)
def _encoding(model: str) -> Any:
    try:
        tiktoken: Any = importlib.import_module("tiktoken")
    except ImportError:
        return None
    try:
        try:
            return tiktoken.encoding_for_model(model)
        except KeyError:
            return tiktoken.get_encoding("cl100k_base")
    except Exception:  # its tables may have to be downloaded
        return None


def is_tiktoken_available() -> bool:
    return _encoding("gpt-4o") is not None


def count_tokens(text: str, model: str = "gpt-4o") -> int:
    if not text:
        return 0
    encoding = _encoding(model or "gpt-4o")
    if encoding is None:
        return max(1, len(text) // 4)
    return len(encoding.encode(text, disallowed_special=()))


def count_messages_tokens(messages: Any, model: str = "gpt-4o") -> int:
    """The tokens of a conversation: 4 a message, 85 an image, 2 for the reply's beginning."""
    if not isinstance(messages, list) or not messages:
        return 0
    total = PER_REPLY
    for message in messages:
        if not isinstance(message, dict):
            continue
        total += PER_MESSAGE + _count_content(message.get("content"), model)
        for call in message.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict):
                total += count_tokens(str(function.get("name") or ""), model)
                total += count_tokens(str(function.get("arguments") or ""), model)
    return total


def _count_content(content: Any, model: str) -> int:
    if isinstance(content, str):
        return count_tokens(content, model)
    total = 0
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if part.get("type") == "image_url":
            total += PER_IMAGE
        elif isinstance(part.get("text"), str):
            total += count_tokens(part["text"], model)
    return total
