"""How many tokens a text has: exactly with tiktoken where it is installed, else estimated."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import threading
from typing import Any

logger = logging.getLogger("llm_proxy.plugins")

PER_MESSAGE = 4
PER_REPLY = 2
PER_IMAGE = 85

ENCODINGS = ("o200k_base", "cl100k_base")
PREPARE_SECONDS = 5.0
_encodings: dict[str, Any] = {}  # by name: those whose vocabulary is in memory
_preparing: threading.Thread | None = None


async def prepare() -> None:
    """Reads tiktoken's vocabularies, if it is installed: no count ever waits for one.

    tiktoken may have to fetch a vocabulary. What has not come within `PREPARE_SECONDS` is used from
    the moment it is there; until then tokens are estimated.
    """
    global _preparing
    if importlib.util.find_spec("tiktoken") is None or len(_encodings) == len(ENCODINGS):
        return
    if _preparing is None or not _preparing.is_alive():
        _preparing = threading.Thread(target=_read_all, name="llm-proxy-tiktoken", daemon=True)
        _preparing.start()
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def told() -> None:
        if not ended.done():
            ended.set_result(None)

    def watch(thread: threading.Thread) -> None:
        thread.join()
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(told)

    threading.Thread(target=watch, args=(_preparing,), daemon=True).start()
    await asyncio.wait({ended}, timeout=PREPARE_SECONDS)
    if len(_encodings) < len(ENCODINGS):
        logger.warning("Tokens are estimated: tiktoken's vocabularies are not there (yet).")


def _read_all() -> None:
    for name in ENCODINGS:
        try:
            _encodings[name] = importlib.import_module("tiktoken").get_encoding(name)
        except Exception as error:
            logger.debug("tiktoken does not give %s: %r", name, error)


def _encoding(model: str) -> Any:
    if not _encodings:
        return None
    try:
        name = importlib.import_module("tiktoken.model").encoding_name_for_model(model)
    except (KeyError, AttributeError, ImportError):
        name = "cl100k_base"
    return _encodings.get(name)


def is_tiktoken_available() -> bool:
    return bool(_encodings)


def count_tokens(text: str, model: str = "gpt-4o") -> int:
    if not text:
        return 0
    encoding = _encoding(model or "gpt-4o")
    if encoding is None:
        return max(1, len(text) // 4)
    return len(encoding.encode(text, disallowed_special=()))


def count_messages_tokens(messages: Any, model: str = "gpt-4o") -> int:
    """The tokens of a conversation: 4 a message, 85 an image, 2 for the reply's beginning."""
    if not isinstance(messages, list):
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
