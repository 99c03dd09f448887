"""What the clients of the bench send: one conversation, told in each wire format.

The large ones look like an agent's turn: a long system text, tools with schemas, and a history of
tool calls and file contents with the quotes and newlines that make JSON costly.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """The user's text, or a tool call with what it gave."""

    user: str = ""
    call: str = ""  # id
    path: str = ""  # the call's argument
    result: str = ""
    image: str = ""  # base64


@dataclass(frozen=True)
class Conversation:
    system: str
    turns: list[Turn]
    tools: list[Json] = field(default_factory=list)


def small() -> Conversation:
    return Conversation(
        "You are a careful assistant. Answer in one paragraph.",
        [Turn(user="Which test compares floats with ==, and what would you write there instead?")],
    )


# In a body: replaced by other letters in each request, where no cache shall answer.
VARIED = "qqqqqqqq"


def two_kilobytes() -> Conversation:
    dice = random.Random(11)
    return Conversation(
        _prose(dice, 900).strip(), [Turn(user=f"Case {VARIED}. {_prose(dice, 900).strip()}")]
    )


def agent_turn(size: int) -> Conversation:
    """A conversation whose chat form has about `size` bytes."""
    dice = random.Random(20251101)
    turns = [Turn(user="The geometry tests fail on one machine only. Find out why and repair it.")]
    conversation = Conversation(_prose(dice, 6000), turns, [_tool(dice, n) for n in range(14)])
    filled = len(chat(conversation, "bench"))
    while filled < size:
        n = len(turns)
        text = _source(dice, min(6000, max(500, size - filled - 400)))
        turns.append(Turn(call=f"call_{n:04d}", path=f"src/module_{n}.py", result=text))
        filled = len(chat(conversation, "bench"))
    turns.append(Turn(user="Good. Now explain the cause in one paragraph."))
    return conversation


def with_image(size: int) -> Conversation:
    data = random.Random(7).randbytes(size * 3 // 4 - 1500)
    return Conversation(
        small().system,
        [
            Turn(
                user="What does this screenshot show?",
                image=base64.b64encode(data).decode(),
            )
        ],
    )


_SENTENCE = (
    "the tests compare numbers with a tolerance so that both machines agree about every result; "
    "read the file before changing it, keep the style around, run what you changed, say what it did"
)
WORDS = _SENTENCE.split()


def _prose(dice: random.Random, size: int) -> str:
    out: list[str] = []
    while sum(map(len, out)) < size:
        out.append(" ".join(dice.choice(WORDS) for _ in range(14)).capitalize() + ".\n")
    return "".join(out)


def _source(dice: random.Random, size: int) -> str:
    lines: list[str] = []
    length = 0
    while length < size:
        name = dice.choice(WORDS).strip(",;")
        lines += [
            f'def {name}_{dice.randrange(1000)}(value, *, label="{dice.choice(WORDS)}"):',
            f'    """{" ".join(dice.choice(WORDS) for _ in range(8)).capitalize()}."""',
            f'    if value > {dice.random():.6f}:\n\t\treturn "{name}\\n" + str(value)',
            "    return None\n",
        ]
        length += sum(map(len, lines[-4:])) + 4
    return "\n".join(lines)


def _tool(dice: random.Random, n: int) -> Json:
    properties = {
        f"{dice.choice(WORDS).strip(',;')}_{k}": {
            "type": dice.choice(["string", "integer", "boolean"]),
            "description": _prose(dice, 80).strip(),
        }
        for k in range(5)
    }
    return {
        "name": f"tool_{n}",
        "description": _prose(dice, 300).strip(),
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, **properties},
            "required": ["path"],
        },
    }


def _bytes(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _arguments(turn: Turn) -> str:
    return json.dumps({"path": turn.path})


def chat(conversation: Conversation, model: str, stream: bool = False) -> bytes:
    messages: list[Json] = [{"role": "system", "content": conversation.system}]
    for turn in conversation.turns:
        if turn.call:
            function = {"name": "tool_0", "arguments": _arguments(turn)}
            call = {"id": turn.call, "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": turn.call, "content": turn.result})
        elif turn.image:
            url = {"url": "data:image/png;base64," + turn.image}
            parts = [{"type": "text", "text": turn.user}, {"type": "image_url", "image_url": url}]
            messages.append({"role": "user", "content": parts})
        else:
            messages.append({"role": "user", "content": turn.user})
    body: Json = {"model": model}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= {"temperature": 0.2, "max_tokens": 1024, "messages": messages}
    if conversation.tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in conversation.tools]
    return _bytes(body)


def messages(conversation: Conversation, model: str, stream: bool = False) -> bytes:
    turns: list[Json] = []
    for turn in conversation.turns:
        if turn.call:
            use = {"type": "tool_use", "id": turn.call, "name": "tool_0"}
            turns.append({"role": "assistant", "content": [{**use, "input": {"path": turn.path}}]})
            result = {"type": "tool_result", "tool_use_id": turn.call, "content": turn.result}
            turns.append({"role": "user", "content": [result]})
        elif turn.image:
            source = {"type": "base64", "media_type": "image/png", "data": turn.image}
            image = {"type": "image", "source": source}
            text = {"type": "text", "text": turn.user}
            turns.append({"role": "user", "content": [text, image]})
        else:
            turns.append({"role": "user", "content": turn.user})
    body: Json = {"model": model, "max_tokens": 1024, "temperature": 0.2}
    if stream:
        body["stream"] = True
    body |= {"system": conversation.system, "messages": turns}
    if conversation.tools:
        body["tools"] = [
            {
                "name": tool["name"],
                "description": tool["description"],
                "input_schema": tool["parameters"],
            }
            for tool in conversation.tools
        ]
    return _bytes(body)


def responses(conversation: Conversation, model: str, stream: bool = False) -> bytes:
    items: list[Json] = []
    for turn in conversation.turns:
        if turn.call:
            call = {"type": "function_call", "call_id": turn.call, "name": "tool_0"}
            items.append({**call, "arguments": _arguments(turn)})
            output = {"type": "function_call_output", "call_id": turn.call, "output": turn.result}
            items.append(output)
            continue
        parts: list[Json] = [{"type": "input_text", "text": turn.user}]
        if turn.image:
            url = "data:image/png;base64," + turn.image
            parts.append({"type": "input_image", "image_url": url, "detail": "auto"})
        items.append({"type": "message", "role": "user", "content": parts})
    body: Json = {"model": model, "max_output_tokens": 1024, "temperature": 0.2}
    if stream:
        body["stream"] = True
    body |= {"instructions": conversation.system, "input": items, "store": False}
    if conversation.tools:
        body["tools"] = [
            {"type": "function", **tool, "strict": False} for tool in conversation.tools
        ]
    return _bytes(body)


def gemini(conversation: Conversation, model: str, stream: bool = False) -> bytes:
    contents: list[Json] = []
    for turn in conversation.turns:
        if turn.call:
            call = {"functionCall": {"name": "tool_0", "args": {"path": turn.path}}}
            contents.append({"role": "model", "parts": [call]})
            response = {"name": "tool_0", "response": {"output": turn.result}}
            contents.append({"role": "user", "parts": [{"functionResponse": response}]})
            continue
        parts: list[Json] = [{"text": turn.user}]
        if turn.image:
            parts.append({"inlineData": {"mimeType": "image/png", "data": turn.image}})
        contents.append({"role": "user", "parts": parts})
    body: Json = {
        "systemInstruction": {"parts": [{"text": conversation.system}]},
        "contents": contents,
        "generationConfig": {"temperature": 0.2, "maxOutputTokens": 1024},
    }
    if conversation.tools:
        body["tools"] = [{"functionDeclarations": conversation.tools}]
    return _bytes(body)


@dataclass(frozen=True)
class Format:
    """One wire format, as a client speaks it."""

    body: Callable[[Conversation, str, bool], bytes]
    path: str  # {model}: its place in the path
    stream_path: str
    stream_end: str  # how every whole stream ends


FORMATS = {
    "chat": Format(chat, "/v1/chat/completions", "/v1/chat/completions", "data: [DONE]\n\n"),
    "messages": Format(messages, "/v1/messages", "/v1/messages", '"message_stop"}\n\n'),
    "responses": Format(responses, "/v1/responses", "/v1/responses", "}\n\n"),
    "gemini": Format(
        gemini,
        "/v1beta/models/{model}:generateContent",
        "/v1beta/models/{model}:streamGenerateContent?alt=sse",
        "\n",
    ),
}

CONVERSATIONS: dict[str, Callable[[], Conversation]] = {
    "small": small,
    "2k": two_kilobytes,
    "100k": lambda: agent_turn(100 * 1024),
    "1m": lambda: with_image(1024 * 1024),
}
