"""Shortens long logs and diffs in a conversation."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import edit_texts, messages_of

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@", re.MULTILINE)
_ERROR = re.compile(r"\b(?:error|exception|traceback|fatal|panic|failed)\b", re.IGNORECASE)
_LEVEL = re.compile(r"\b(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b")
_STAMP = re.compile(
    r"^\s*(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*|[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d)\s*"
)
_NO_LETTERS = re.compile(r"[^A-Za-z]+")
_KEPT_CONTEXT = 3
_MAX_CONTEXT = 8


def _looks_like_logs(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 8:
        return False
    if _HUNK.search(text):
        return True
    told = sum(
        bool(_LEVEL.search(line) or _ERROR.search(line) or line.lstrip()[:1] in "[{+")
        for line in lines
    )
    return told >= 0.3 * len(lines)


def _fold_context(lines: list[str]) -> list[str]:
    """Runs of unchanged lines inside a unified diff, shortened."""
    out: list[str] = []
    run: list[str] = []
    in_hunk = False

    def flush() -> None:
        if len(run) > _MAX_CONTEXT:
            left = len(run) - 2 * _KEPT_CONTEXT
            mark = f"... ({left} unchanged lines)"
            out.extend([*run[:_KEPT_CONTEXT], mark, *run[-_KEPT_CONTEXT:]])
        else:
            out.extend(run)
        run.clear()

    for line in lines:
        if in_hunk and line.startswith(" "):
            run.append(line)
            continue
        flush()
        in_hunk = bool(_HUNK.match(line)) or (in_hunk and line[:1] in "+-\\")
        out.append(line)
    flush()
    return out


def _similar(line: str) -> str:
    rest = _STAMP.sub("", line)
    letters = _NO_LETTERS.sub("", rest[:40])
    if len(letters) >= 10:
        return letters
    word = rest.split(" ", 1)[0]
    return word if len(word) >= 2 else line


def _compress_text(
    text: str,
    mode: str = "auto",
    head: int = 30,
    tail: int = 30,
    tail_error: int = 120,
    threshold: int = 100,
) -> str:
    aggressive = mode == "aggressive" or (mode == "auto" and _looks_like_logs(text))
    lines = _fold_context(_ANSI.sub("", text).split("\n"))
    folded: list[str] = []
    for line, run in groupby(lines):
        count = len(list(run))
        folded.append(line if count == 1 or not line.strip() else f"{line} (×{count})")
    if aggressive:
        merged: list[str] = []
        for _, group in groupby(folded, key=_similar):
            same = list(group)
            first = same[0]
            if len(same) > 2 and first.strip() and first[:1] not in ("+", "-", " ", "@"):
                merged.append(f"{first[:60].rstrip()} ... (×{len(same)})")
            else:
                merged.extend(same)
        folded = merged
        if len(folded) > threshold:
            last = tail_error if _ERROR.search(text) else tail
            left = len(folded) - head - last
            if left > 0:
                folded[head : len(folded) - last] = [f"... ({left} lines omitted)"]
    return "\n".join(folded)


class L0Compressor(BasePlugin):
    name = "l0_compressor"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 200

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.mode = self.config.get("mode", "auto")
        self.min_lines = int(self.config.get("min_lines", 40))
        keys = ("head_lines", "tail_lines", "tail_error_lines", "truncate_threshold")
        defaults = (30, 30, 120, 100)
        self._sizes = [int(self.config.get(k, d)) for k, d in zip(keys, defaults, strict=True)]

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        saved = 0

        def shorten(text: str) -> str:
            nonlocal saved
            if text.count("\n") + 1 < self.min_lines:
                return text
            short = _compress_text(text, self.mode, *self._sizes)
            if len(short) >= len(text):
                return text
            saved += len(text) - len(short)
            return short

        for message in messages_of(ctx.body):
            edit_texts(message, shorten)
        if not saved:
            return PluginResponse.passthrough()
        ctx.metadata["l0_compressed"] = True
        ctx.metadata["l0_chars_saved"] = saved
        return PluginResponse.modify(ctx.body)
