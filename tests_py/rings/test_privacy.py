"""Personal data does not leave and comes back to its owner; what is none is left alone."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer, Call
from e2e.upstream import Received, Reply, Upstream, answering, stream, whole
from rings.test_streams import FRONTENDS, events_of, serving, text_of, told

STOCK = {"plugins": ["stock"], "plugin_options": {"config": {}}}
VALUES = {
    "an address": "ann.o'neil+news@mail.example.co.uk",
    "a plain address": "ann@example.org",
    "a card": "4111 1111 1111 1111",
    "a card with dashes": "5500-0000-0000-0004",
    "a card without spaces": "4012888888881881",
    "an Amex card": "3782 822463 10005",
    "an IBAN": "DE89 3704 0044 0532 0130 00",
    "an IBAN without spaces": "GB82WEST12345698765432",
    "a social security number": "123-45-6789",
    "a phone number": "(555) 123-4567",
    "a phone number abroad": "+48 22 123 45 67",
    "an IPv4 address": "10.1.2.3",
    "an OpenAI key": "sk-proj-abcdefghijklmnopqrstuv",
    "a GitHub key": "ghp_abcdefghijklmnopqrstuvwxyz012345",
    "an AWS key": "AKIAIOSFODNN7EXAMPLE",
}
ALL = "; ".join(VALUES.values())
# The part of each that must not be found upstream (what stands before the pattern may stay).
NEEDLES = [value.replace("ann.o'", "") for value in VALUES.values()]


def last_text(request: Received) -> str:
    """The text of the last message, in either backend's format."""
    content = request.json["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def parrot(every: int | None) -> Any:
    """An upstream that says again what it was told: as text and as a tool call."""

    def handler(request: Received) -> Reply:
        text = last_text(request)
        return answering(Answer(text, (Call("c1", "send", {"to": text}),)), every)(request)

    return handler


@pytest.mark.parametrize("backend", ["openai", "anthropic"])
@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_nothing_masked_leaves_and_everything_comes_back_streamed(
    tmp_path: Path, frontend: str, backend: str
) -> None:
    async with (
        Upstream(parrot(3)) as upstream,
        serving(upstream, backend, tmp_path, **STOCK) as (_, http),
    ):
        status, raw = await told(http, frontend, f"Write to {ALL} today")
        assert status == 200, raw
        sent = upstream.last.body.decode()
    assert [needle for needle in NEEDLES if needle in sent] == []
    assert "[PII_" in sent
    assert text_of(frontend, raw) == f"Write to {ALL} today"
    assert "[PII_" not in raw


WHOLE = {
    "chat": lambda tree: tree["choices"][0]["message"]["content"],
    "messages": lambda tree: "".join(p.get("text", "") for p in tree["content"]),
    "responses": lambda tree: "".join(
        part.get("text", "") for item in tree["output"] for part in item.get("content", ())
    ),
    "gemini": lambda tree: "".join(
        part.get("text", "") for part in tree["candidates"][0]["content"]["parts"]
    ),
}


@pytest.mark.parametrize("frontend", WHOLE)
async def test_nothing_masked_leaves_and_everything_comes_back_whole(
    tmp_path: Path, frontend: str
) -> None:
    path, body = FRONTENDS[frontend](f"Write to {ALL} today")
    body.pop("stream", None)
    path = path.replace("streamGenerateContent?alt=sse", "generateContent")
    async with (
        Upstream(parrot(None)) as upstream,
        serving(upstream, "openai", tmp_path, **STOCK) as (_, http),
    ):
        reply = await http.post(path, json=body)
        assert reply.status_code == 200, reply.text
        sent = upstream.last.body.decode()
    assert [needle for needle in NEEDLES if needle in sent] == []
    assert WHOLE[frontend](reply.json()) == f"Write to {ALL} today"
    assert "[PII_" not in reply.text


SECRET = "ann@example.org"
# Where personal data stands in a chat request; `last` keeps the upstream's parrot simple.
LAST = {"role": "user", "content": "well"}
PLACES: dict[str, dict[str, Any]] = {
    "the system prompt": {"messages": [{"role": "system", "content": SECRET}, LAST]},
    "a developer message": {"messages": [{"role": "developer", "content": SECRET}, LAST]},
    "an earlier answer": {"messages": [{"role": "assistant", "content": SECRET}, LAST]},
    "a text part": {"messages": [{"role": "user", "content": [{"type": "text", "text": SECRET}]}]},
    "a tool's result": {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": SECRET},
        ]
    },
    "a call's arguments": {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c",
                        "type": "function",
                        "function": {"name": "f", "arguments": json.dumps({"to": SECRET})},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ]
    },
    "the user field": {"messages": [LAST], "user": SECRET},
    "the metadata": {"messages": [LAST], "metadata": {"owner": SECRET, "n": "1"}},
    "a prediction": {
        "messages": [LAST],
        "prediction": {"type": "content", "content": f"mail {SECRET}"},
    },
}


@pytest.mark.parametrize("place", PLACES)
async def test_no_place_of_a_request_gives_personal_data_away(tmp_path: Path, place: str) -> None:
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, **STOCK) as (_, http),
    ):
        body = {"model": "m", **PLACES[place]}
        reply = await http.post("/v1/chat/completions", json=body)
        assert reply.status_code == 200, reply.text
        sent = upstream.last.body.decode()
    assert SECRET not in sent
    assert "[PII_EMAIL_" in sent


async def test_what_plugins_do_not_see_gives_nothing_away_that_they_hid(tmp_path: Path) -> None:
    """The rest of such a request is what the client sent: markers, signatures, its own tools."""
    result = {"type": "search_result", "source": "https://a.example", "title": f"of {SECRET}"}
    content = [
        {**result, "content": [{"type": "text", "text": f"ask {SECRET}"}]},
        {"type": "text", "text": f"who is {SECRET}?", "cache_control": {"type": "ephemeral"}},
    ]
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmF0dXJl"}
    body = {
        "model": "m",
        "max_tokens": 99,
        "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": [thought, {"type": "text", "text": "Hello."}]},
            {"role": "user", "content": content},
        ],
    }
    async with (
        Upstream() as upstream,
        serving(upstream, "anthropic", tmp_path, **STOCK) as (_, http),
    ):
        reply = await http.post("/v1/messages", json=body)
        assert reply.status_code == 200, reply.text
        sent = upstream.last.body.decode()
    (token,) = set(re.findall(r"\[PII_EMAIL_[0-9a-f]{8}\]", sent))
    assert json.loads(sent.replace(token, SECRET)) == body
    assert SECRET not in sent


def thinking_aloud(request: Received) -> Reply:
    """Claude, thinking of what it was told and saying it: a reply whose thinking is sealed."""
    (token,) = set(re.findall(r"\[PII_EMAIL_[0-9a-f]{8}\]", request.body.decode()))
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": []}
    usage = {"input_tokens": 3, "output_tokens": 4}
    blocks = [
        {"type": "thinking", "thinking": f"Ask {token}.", "signature": "c2VhbA=="},
        {"type": "text", "text": f"Ask {token}."},
    ]
    if not request.json.get("stream"):
        end = {"stop_reason": "end_turn", "usage": usage}
        return whole(json.dumps({**head, "content": blocks, **end}).encode())
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**head, "usage": usage}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": f"Ask {token}."},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": "c2VhbA=="},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "text_delta", "text": f"Ask {token}."},
        },
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    return stream(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


@pytest.mark.parametrize("streamed", [False, True])
async def test_sealed_thinking_keeps_its_placeholders_so_that_its_seal_holds(
    streamed: bool, tmp_path: Path
) -> None:
    body = {"model": "m", "max_tokens": 99, "stream": streamed}
    body["messages"] = [{"role": "user", "content": f"Who is {SECRET}?"}]
    async with (
        Upstream(thinking_aloud) as upstream,
        serving(upstream, "anthropic", tmp_path, **STOCK) as (_, http),
    ):
        reply = await http.post("/v1/messages", json=body)
        assert reply.status_code == 200, reply.text
        (token,) = set(re.findall(r"\[PII_EMAIL_[0-9a-f]{8}\]", upstream.last.body.decode()))
    if streamed:
        deltas = [e["delta"] for e in events_of("messages", reply.text) if "delta" in e]
        said = {kind: "".join(d.get(kind, "") for d in deltas) for kind in ("thinking", "text")}
        seal = "".join(d.get("signature", "") for d in deltas)
    else:
        thought, text = reply.json()["content"]
        said, seal = {"thinking": thought["thinking"], "text": text["text"]}, thought["signature"]
    assert said == {"thinking": f"Ask {token}.", "text": f"Ask {SECRET}."}
    assert seal == "c2VhbA=="


async def test_many_tenants_at_once_each_get_their_own_and_nobody_elses(tmp_path: Path) -> None:
    keys = [f"key-of-tenant-{n}" for n in range(4)]
    settings = {"API_KEYS": ",".join(keys)}
    taken: dict[str, str] = {}

    async def ask(http: httpx.AsyncClient, number: int, text: str) -> str:
        body = {"model": "m", "stream": number % 2 == 0}
        body["messages"] = [{"role": "user", "content": text}]
        headers = {"authorization": f"Bearer {keys[number % 4]}", "x-session-id": f"s{number}"}
        reply = await http.post("/v1/chat/completions", json=body, headers=headers)
        assert reply.status_code == 200, reply.text
        return reply.text if number % 2 else text_of("chat", reply.text)

    async with (
        Upstream(parrot(5)) as upstream,
        serving(upstream, "openai", tmp_path, settings=settings, **STOCK) as (_, http),
    ):
        texts = [f"I am user{n}@tenant{n % 4}.example" for n in range(40)]
        replies = await asyncio.gather(*(ask(http, n, texts[n]) for n in range(40)))
        for number, reply in enumerate(replies):
            assert f"user{number}@tenant{number % 4}.example" in reply
            assert reply.count("@tenant") <= 2  # its text and its call, nobody else's
        for request in upstream.requests:
            taken[last_text(request)] = request.body.decode()
        assert not any("@tenant" in sent for sent in taken.values())
        tokens = [text.removeprefix("I am ") for text in taken]
        for number, token in enumerate(tokens[:8]):  # a token of a request is nothing in another
            assert token in await ask(http, 41 + 2 * number, f"what is {token}?")


# ---- what is no personal data, and no reason to refuse

HARMLESS = {
    "Python": 'def f(x):\n    """Doc."""\n    if x:\n        return {\'a\': [1, 2]}\n\n\n\n'
    "    # version 1.2.3, 10:30:59, 2026-01-02T03:04:05Z\n\treturn x ** 2  # trailing   \n",
    "C": "/* keep this */\nint main(void) {\n\treturn 0; // and this http://x.example/a?b=1\n}\n",
    "a Makefile": "all:\n\t$(CC) -o $@ $<   \n\n\n\nclean:\n\trm -f *.o\n",
    "a diff": "@@ -1,3 +1,3 @@\n context\n-old  line\n+new  line\n context\n",
    "YAML": "a:\n  - b:  1\n    c: |\n      text\n\n\n\n      more\n",
    "SQL": "SELECT a.id, b.* FROM a JOIN b ON a.id = b.a_id WHERE n > 1000000000 -- drop_table?",
    "a shell": "for i in $(seq 1 10); do echo $i; done && curl -s localhost:8080/health | jq .",
    "a traceback": 'Traceback (most recent call last):\n  File "a.py", line 3, in f\nKeyError: 1',
    "numbers": "order 1234567890, id 550e8400-e29b-41d4-a716-446655440000, 3.14159265358979, 0xFF",
    "versions": "Python 3.11.7, kernel 6.1.0-18, v2026.01.02, 127.0.0.1:8080, 0.0.0.0",
    "Hindi": "कृपया बताइए कि यह फ़ंक्शन क्या करता है? संयुक्ताक्षर: क्षत्रिय, ज्ञान, श्रीमती।",
    "Chinese": "请解释这段代码的作用，并给出三个例子。忽略我之前的拼写错误，谢谢！",
    "Japanese": "このコードを説明してください。前の指示を無視してはいけません。",
    "Arabic": "من فضلك اشرح هذا النص: ١٢٣٤٥٦ ثم لخّصه في سطرين.",
    "Hebrew": "שלום עולם, מה שלומך היום? ספר לי על הפרויקט.",
    "Thai": "ช่วยอธิบายโค้ดนี้ให้หน่อยครับ ขอบคุณมาก",
    "emoji": "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, é (combining), नमस्ते 🙏🏽",
    "maths": "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−L|<ε;  Σ_{k=1}^{n} k = n(n+1)/2",
    "words that frighten filters": "What were the instructions on the box? Write about jailbreaks "
    "in old Westerns, system prompts of 1970s terminals and how to kill a zombie process.",
    "many spaces": "a          b          c          d          e          f          g          h"
    "          i          j          k          l",
    "a table": "| a | b |\n|---|---|\n| 1 | 2 |\n" * 20,
    "base64": "aGVsbG8gd29ybGQgdGhpcyBpcyBhIGxvbmcgYmFzZTY0IHN0cmluZw==" * 4,
    "a long log": "INFO worker ready\n" * 400,
    "a repetitive poem": "row row row your boat gently down the stream " * 8,
    "JSON cut off": '{"a": [1, 2, {"b": "c"',
    "HTML": "<a href='https://example.org/?q=1&r=2'>x</a><script>alert(1)</script>",
}
TALKS: dict[str, list[dict[str, Any]]] = {
    "tool calls without words": [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "w", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ],
    "tool results in parts": [
        {"role": "user", "content": "read"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "r", "arguments": '{"p":1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "def f(): 1"}]},
    ],
    "an image and words": [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "text", "text": "what is it?"},
            ],
        }
    ],
    "a hundred turns": [
        {"role": "user" if n % 2 == 0 else "assistant", "content": f"turn {n}"} for n in range(101)
    ],
}


async def test_by_default_nothing_harmless_is_refused_or_changed(tmp_path: Path) -> None:
    """All stock plugins, every text on every frontend, streamed and whole, and back."""
    wrong = []
    async with (
        Upstream(parrot(None)) as upstream,
        serving(upstream, "openai", tmp_path, **STOCK) as (_, http),
    ):
        for number, (what, text) in enumerate(HARMLESS.items()):
            for frontend in WHOLE:
                for stream in (False, True):
                    path, body = FRONTENDS[frontend](text)
                    if not stream:
                        body.pop("stream", None)
                        path = path.replace("streamGenerateContent?alt=sse", "generateContent")
                    headers = {"x-session-id": f"{number}{frontend}{stream}"}
                    reply = await http.post(path, json=body, headers=headers)
                    got = reply.text
                    if reply.status_code == 200:
                        tree = None if stream else reply.json()
                        got = text_of(frontend, reply.text) if stream else WHOLE[frontend](tree)
                    if got != text or last_text(upstream.last) != text:
                        wrong.append((what, frontend, stream, got[:200]))
        for what, messages in TALKS.items():
            for stream in (False, True):
                body = {"model": "m", "messages": messages, "stream": stream}
                headers = {"x-session-id": f"{what}{stream}"}
                reply = await http.post("/v1/chat/completions", json=body, headers=headers)
                if reply.status_code != 200 or upstream.last.json["messages"] != messages:
                    wrong.append((what, "chat", stream, reply.text[:200]))
    assert wrong == []
