"""Sealed reasoning comes back to its maker through clients that drop it, and to nobody else."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from e2e.conftest import StartProxy
from e2e.upstream import Received, Reply, Upstream, whole

THINKING = {"type": "thinking", "thinking": "Look first.", "signature": "EqMDsealed"}
CALL = {"type": "tool_use", "id": "toolu_one", "name": "look", "input": {"at": 1}}
ASKED = {"role": "user", "content": "What is there?"}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def message(*content: dict[str, Any]) -> Reply:
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": content,
        "stop_reason": "tool_use" if CALL in content else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return whole(json.dumps(body).encode())


def thinks_then_calls(request: Received) -> Reply:
    answered = "tool_result" in request.body.decode()
    return message({"type": "text", "text": "Done."}) if answered else message(THINKING, CALL)


@pytest.mark.parametrize("session", ["same", "other"])
async def test_a_plain_chat_client_keeps_it_across_a_tool_loop(
    session: str, start_proxy: StartProxy
) -> None:
    """Each request on a connection of its own, so that several workers answer."""
    asking: dict[str, Any] = {
        "model": "claude-sonnet-4-5",
        "messages": [ASKED],
        "tools": TOOLS,
        "reasoning_effort": "low",
    }
    async with (
        Upstream(thinks_then_calls) as upstream,
        start_proxy(upstream, "anthropic", LLM_PROXY_IO_THREADS="4") as proxy,
    ):
        for turn in range(8):
            owner = {"x-session-id": f"session-{turn}"}
            async with httpx.AsyncClient(timeout=20, base_url=proxy.url) as http:
                first = await http.post("/v1/chat/completions", json=asking, headers=owner)
            said = first.json()["choices"][0]["message"]
            plain = {name: said.get(name) for name in ("role", "content", "tool_calls")}
            result = {"role": "tool", "tool_call_id": CALL["id"], "content": "A cat."}
            again = {**asking, "messages": [ASKED, plain, result]}
            if session == "other":
                owner = {"x-session-id": "somebody-else"}
            async with httpx.AsyncClient(timeout=20, base_url=proxy.url) as http:
                second = await http.post("/v1/chat/completions", json=again, headers=owner)
            assert second.json()["choices"][0]["message"]["content"] == "Done."
            blocks = upstream.last.json["messages"][1]["content"]
            expected = [THINKING, CALL] if session == "same" else [CALL]
            assert [b for b in blocks if b["type"] != "text"] == expected


async def test_what_another_maker_sealed_never_reaches_an_upstream(start_proxy: StartProxy) -> None:
    """A client that spoke with Gemini or OpenAI through us goes on with Anthropic."""
    text = {"type": "text", "text": "r1: is what I said", "cache_control": {"type": "ephemeral"}}
    history = [
        ASKED,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "", "signature": "r1:rs_1:gAAAsecret"},
                {"type": "redacted_thinking", "data": "g1:AbCsecret"},
                text,
            ],
        },
        {"role": "user", "content": "And now?"},
    ]
    body = {"max_tokens": 100, "model": "m", "messages": history, "new_key": {"b": 1, "a": 2}}
    async with (
        Upstream(lambda _: message({"type": "text", "text": "Now."})) as upstream,
        start_proxy(upstream, "anthropic") as proxy,
        httpx.AsyncClient(timeout=20, base_url=proxy.url) as http,
    ):
        got = await http.post(
            "/v1/messages?beta=true", json=body, headers={"anthropic-beta": "one,two"}
        )
        sent = upstream.last
    assert got.json()["content"] == [{"type": "text", "text": "Now."}]
    assert b"secret" not in sent.body
    assert sent.headers["anthropic-beta"] == "one,two" and sent.path.endswith("?beta=true")
    assert sent.json["messages"][1]["content"] == [text]
    assert list(sent.json) == list(body) and sent.json["new_key"] == {"b": 1, "a": 2}
