"""Recorded traffic through the stock plugins: nothing is refused, and little is touched."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.upstream import Received, Reply, Upstream, stream, whole
from oracle.corpus import Record, records
from rings.test_streams import serving

# Whose requests and whose backend; the path for whole replies and for streams.
APIS = {
    "openai-chat": ("openai", "/v1/chat/completions", "/v1/chat/completions"),
    "anthropic-messages": ("anthropic", "/v1/messages", "/v1/messages"),
    "openai-responses": ("openai-responses", "/v1/responses", "/v1/responses"),
    "gemini-generate": (
        "gemini",
        "/v1beta/models/m:generateContent",
        "/v1beta/models/m:streamGenerateContent?alt=sse",
    ),
}
EVERY = int(os.environ.get("LLM_PROXY_CORPUS_EVERY") or 8)  # 1: all of them
STOCK = {"plugins": ["stock"], "plugin_options": {"config": {}}}
LONG = 1000  # what the minifier may shorten
MARK = " (seen)"
# Adds a word to the user's last text and to the reply's.
EDITS = f"""
import json

def edit(content):
    if isinstance(content, str):
        return content + {MARK!r}
    for part in reversed(content or []):
        if part.get("type") == "text":
            part["text"] += {MARK!r}
            break
    return content

async def ask(ctx):
    for message in reversed(ctx.body["messages"]):
        if message["role"] == "user" and message.get("content"):
            message["content"] = edit(message["content"])
            break

async def answer(ctx):
    reply = json.loads(ctx.response.body)
    message = reply["choices"][0]["message"]
    if message.get("content"):
        message["content"] = edit(message["content"])
        ctx.response.body = json.dumps(reply).encode()
"""
ROWS = [
    {"name": "ask", "hook": "pre_flight", "entrypoint": "mine:ask"},
    {"name": "answer", "hook": "post_flight", "entrypoint": "mine:answer"},
]


# Where chat tells a conversation in another order than its client did: such a request is written
# anew when it is edited, with what chat knows of it.
REWRITTEN = (
    "deferred-capability",  # tools that are loaded later stand for messages
    "capability-replay",
    "inline-system-prompt",  # system messages in mid-conversation
    "mid-conversation-system",
    "leading-cache-point",
    "local-search",
    "tool-return-matrix-direct",  # files between results and texts
    "mixed-content-ordering",
    "image-artifacts",
    "tool-attachments",
    "text-document",  # a document shown as a text, and edited
    "chat-citations",
    "web-search-with-deepseek",  # texts between the provider's own calls
)


def touched(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from touched(before.get(key), after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from touched(one, other, f"{path}[{number}]")
    elif before != after:
        yield path, before, after


def harmless(path: str, before: Any, after: Any) -> bool:
    if path in (".stream_options.include_usage", ".stream_options"):
        return True  # the proxy's own business
    if not isinstance(before, str) or not isinstance(after, str):
        return False
    return "[PII_" in after or (len(before) > LONG and len(after) < len(before))


def wanted(api: str) -> Iterator[Record]:
    """Exchanges that went well and stand for themselves."""
    for number, record in enumerate(records(api)):
        if record.stream is None:
            known = isinstance(record.reply, dict) and not record.reply.get("error")
        else:
            known = not re.search(r'"error"\s*:\s*{', record.stream)
        if number % EVERY or not known or not isinstance(record.request, dict):
            continue
        if not record.request.keys() & {"previous_response_id", "conversation"}:
            yield record


async def exchanges(
    api: str, folder: Path, source: str = "", **options: Any
) -> list[tuple[Record, Any, httpx.Response, list[Any]]]:
    """Each of them through the proxy: record, what was asked, the answer, what upstream got."""
    backend, path_whole, path_stream = APIS[api]
    now: list[Record] = []
    made = []

    def recorded(request: Received) -> Reply:
        if now[0].stream is not None:
            return stream([now[0].stream.encode()])
        return whole(json.dumps(now[0].reply).encode())

    async with (
        Upstream(recorded) as upstream,
        serving(upstream, backend, folder, source, **options) as (_, http),
    ):
        for record in wanted(api):
            now[:] = [record]
            body = {**record.request, "model": "m"}
            if api.startswith("gemini"):
                del body["model"]
            before = len(upstream.requests)
            path = path_whole if record.stream is None else path_stream
            reply = await http.post(path, json=body, headers={"x-session-id": record.id})
            made.append((record, body, reply, [r.json for r in upstream.requests[before:]]))
    assert len(made) > 200 // EVERY
    return made


@pytest.mark.usefixtures("recorded_traffic")
@pytest.mark.parametrize("api", APIS)
async def test_nothing_recorded_is_refused_by_default(api: str, tmp_path: Path) -> None:
    wrong: list[tuple[Any, ...]] = []
    for record, body, reply, sent in await exchanges(api, tmp_path, **STOCK):
        if reply.status_code != 200 or len(sent) != 1:
            wrong.append((record.id, reply.status_code, reply.text[:200]))
            continue
        wrong += [(record.id, *row) for row in touched(body, sent[0]) if not harmless(*row)]
        if "LLMPROXY_ERROR" in reply.text:
            wrong.append((record.id, "cut", reply.text[-200:]))
        if record.stream is None:
            wrong += [(record.id, *row) for row in touched(record.reply, reply.json())]
    assert wrong == []


@pytest.mark.usefixtures("recorded_traffic")
@pytest.mark.parametrize("api", APIS)
async def test_who_edits_one_text_changes_nothing_else(api: str, tmp_path: Path) -> None:
    wrong: list[tuple[Any, ...]] = []
    edited = 0
    for record, body, reply, sent in await exchanges(api, tmp_path, EDITS, rows=ROWS):
        if any(word in record.id for word in REWRITTEN):
            continue
        if reply.status_code != 200 or len(sent) != 1:
            wrong.append((record.id, reply.status_code, reply.text[:200]))
            continue
        pairs = [(body, sent[0])]
        if record.stream is None:
            pairs.append((record.reply, reply.json()))
        for before, after in pairs:
            changes = [row for row in touched(before, after) if not row[0].startswith(".stream_o")]
            edited += len(changes)
            wrong += [(record.id, *row) for row in changes if row[2] != f"{row[1]}{MARK}"]
            if len(changes) > 1:
                wrong.append((record.id, "changes", len(changes)))
    assert wrong == []
    assert edited > 0
