"""The slow way to read the four formats: whole documents parsed by `json`, facts taken by hand.

Shares nothing with the engine's codecs, so that the two can disagree. `Facts` are what a reply
says, whatever it is written in.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

CHAT, MESSAGES, RESPONSES, GEMINI = (
    "openai-chat",
    "anthropic-messages",
    "openai-responses",
    "gemini-generate",
)
FORMATS = (CHAT, MESSAGES, RESPONSES, GEMINI)


@dataclass
class Facts:
    """What a reply says. `order` has one letter a run: t text, r reasoning, c call."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)  # name, arguments as JSON
    order: str = ""
    stop: str = ""  # "stop", "length", "tools", "filter", or "" where none is told
    prompt: int | None = None  # with what came from a cache
    output: int | None = None  # with reasoning
    cached: int = 0  # of the prompt, where the reader needs to know

    def say(self, kind: str) -> None:
        if kind == "c" or not self.order.endswith(kind):
            self.order += kind

    def add_text(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self.text += text
            self.say("t")

    def add_reasoning(self, text: Any) -> None:
        if isinstance(text, str) and text:
            self.reasoning += text
            self.say("r")

    def add_call(self, name: Any, arguments: Any) -> None:
        self.calls.append((str(name), loads(arguments)))
        self.say("c")


def loads(arguments: Any) -> Any:
    """Arguments as JSON. Text that is none stays text; nothing is an empty object."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    if not arguments.strip():
        return {}
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def reply_facts(body: Any, source: str) -> Facts:
    return {CHAT: _chat, MESSAGES: _messages, RESPONSES: _responses, GEMINI: _gemini}[source](body)


def count(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def total(*values: Any) -> int | None:
    known = [number for number in map(count, values) if number is not None]
    return sum(known) if known else None


# --- Chat Completions

_CHAT_STOPS = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tools",
    "function_call": "tools",
    "content_filter": "filter",
}


def _chat(body: Any) -> Facts:
    facts = Facts()
    choice = next((c for c in body.get("choices") or [] if not c.get("index")), {})
    _chat_message(facts, choice.get("message") or {})
    facts.stop = _CHAT_STOPS.get(choice.get("finish_reason") or "", "")
    _chat_usage(facts, body.get("usage"))
    return facts


def _chat_message(facts: Facts, message: dict[str, Any]) -> None:
    details = message.get("reasoning_details") or []
    told = "".join(str(part.get("text") or part.get("summary") or "") for part in details)
    facts.add_reasoning(message.get("reasoning_content") or message.get("reasoning") or told)
    content = message.get("content")
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        if part.get("type") == "text":
            facts.add_text(part.get("text"))
        for thought in part.get("thinking") or []:  # Mistral
            facts.add_reasoning(thought.get("text"))
    facts.add_text(message.get("refusal"))
    old = message.get("function_call") or {}
    if old.get("name"):
        facts.add_call(old["name"], old.get("arguments"))
    for call in message.get("tool_calls") or []:
        function = call.get("function") or {}
        facts.add_call(function.get("name"), function.get("arguments"))


def _chat_usage(facts: Facts, usage: Any) -> None:
    if isinstance(usage, dict):
        facts.prompt = count(usage.get("prompt_tokens"))
        facts.output = count(usage.get("completion_tokens"))
        everything = count(usage.get("total_tokens"))
        if everything is not None and facts.prompt is not None and facts.output is not None:
            # Servers that leave reasoning out of the completion have it in the total.
            facts.output = max(facts.output, everything - facts.prompt)
        cached = count((usage.get("prompt_tokens_details") or {}).get("cached_tokens"))
        facts.cached = cached or 0


# --- Messages

_MESSAGES_STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tools",
    "refusal": "filter",
}


def _messages(body: Any) -> Facts:
    facts = Facts()
    for block in body.get("content") or []:
        _block(facts, block)
    facts.stop = _MESSAGES_STOPS.get(body.get("stop_reason") or "", "")
    _messages_usage(facts, body.get("usage"))
    return facts


def _block(facts: Facts, block: dict[str, Any]) -> None:
    kind = block.get("type")
    if kind == "text":
        facts.add_text(block.get("text"))
    elif kind == "thinking":
        facts.add_reasoning(block.get("thinking"))
    elif kind == "tool_use":
        facts.add_call(block.get("name"), block.get("input"))


def _messages_usage(facts: Facts, usage: Any) -> None:
    if isinstance(usage, dict):
        cached = (usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens"))
        facts.prompt = total(usage.get("input_tokens"), *cached)
        facts.output = count(usage.get("output_tokens"))


# --- Responses


def _responses(body: Any) -> Facts:
    facts = Facts()
    for item in body.get("output") or []:
        _item(facts, item)
    reason = (body.get("incomplete_details") or {}).get("reason")
    if body.get("status") == "incomplete":
        facts.stop = {"max_output_tokens": "length", "content_filter": "filter"}.get(reason, "")
    elif body.get("status") == "completed":
        facts.stop = "tools" if facts.calls else "stop"
    usage = body.get("usage")
    if isinstance(usage, dict):
        facts.prompt = count(usage.get("input_tokens"))
        facts.output = count(usage.get("output_tokens"))
    return facts


def _item(facts: Facts, item: dict[str, Any]) -> None:
    kind = item.get("type")
    if kind == "message":
        for part in item.get("content") or []:
            facts.add_text(part.get("text") if part.get("type") == "output_text" else None)
            facts.add_text(part.get("refusal"))
    elif kind == "reasoning":
        for part in [*(item.get("content") or []), *(item.get("summary") or [])]:
            facts.add_reasoning(part.get("text"))
    elif kind == "function_call":
        facts.add_call(item.get("name"), item.get("arguments"))
    elif kind == "custom_tool_call":
        facts.add_call(item.get("name"), {"input": item.get("input")})


# --- generateContent

_GEMINI_STOPS = {"STOP": "stop", "MAX_TOKENS": "length"}
_GEMINI_FILTERS = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")


def _gemini(body: Any) -> Facts:
    facts = Facts()
    _candidate(facts, body)
    if facts.stop == "stop" and facts.calls:
        facts.stop = "tools"
    return facts


def _gemini_call(facts: Facts, call: dict[str, Any]) -> None:
    """A call, or a further piece of the last one: pieces have no name."""
    if call.get("name"):
        facts.add_call(call["name"], call.get("args"))
    arguments = facts.calls[-1][1]
    for piece in call.get("partialArgs") or []:
        values = [value for key, value in piece.items() if key.endswith("Value")]
        _put(arguments, piece["jsonPath"], None if "nullValue" in piece else values[0])


def _put(root: Any, path: str, value: Any) -> None:
    """`$.a[0].b`, made as far as it is not there; text continues the text that is there."""
    steps = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]$]+", path)]
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, int):
            root.extend([None] * (step + 1 - len(root)))
        before = root[step] if isinstance(step, int) else root.get(step)
        if following is None:
            root[step] = before + value if isinstance(before, str) else value
        else:
            if before is None:
                root[step] = [] if isinstance(following, int) else {}
            root = root[step]


def _candidate(facts: Facts, body: dict[str, Any]) -> None:
    candidate = next((c for c in body.get("candidates") or [] if not c.get("index")), {})
    for part in (candidate.get("content") or {}).get("parts") or []:
        if part.get("thought"):
            facts.add_reasoning(part.get("text"))
        elif "functionCall" in part:
            _gemini_call(facts, part["functionCall"])
        else:
            facts.add_text(part.get("text"))
    reason = candidate.get("finishReason") or ""
    if reason:
        filtered = "filter" if reason in _GEMINI_FILTERS else ""
        facts.stop = _GEMINI_STOPS.get(reason, filtered)
    usage = body.get("usageMetadata")
    if isinstance(usage, dict):
        prompt = total(usage.get("promptTokenCount"), usage.get("toolUsePromptTokenCount"))
        output = total(usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount"))
        facts.prompt = facts.prompt if prompt is None else prompt
        facts.output = facts.output if output is None else output


# --- streams


def events(text: str) -> list[tuple[str, str]]:
    """(name, data) of each event, by splitting the whole text."""
    out = []
    for block in (
        text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff").split("\n\n")
    ):
        name, data = "", []
        for line in block.split("\n"):
            label, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if label == "event":
                name = value
            elif label == "data":
                data.append(value)
        if data:
            out.append((name, "\n".join(data)))
    return out


def stream_facts(text: str, source: str) -> Facts:
    """The facts of a whole stream, put together as an SDK does."""
    bodies = [json.loads(data) for _, data in events(text) if data.strip() != "[DONE]"]
    if source == CHAT:
        return _chat_stream(bodies)
    if source == MESSAGES:
        return _messages_stream(bodies)
    if source == RESPONSES:
        return _responses_stream(bodies)
    facts = Facts()
    for body in bodies:
        _candidate(facts, body)
    if facts.stop == "stop" and facts.calls:
        facts.stop = "tools"
    return facts


def _chat_stream(bodies: list[dict[str, Any]]) -> Facts:
    facts = Facts()
    calls: dict[Any, dict[str, str]] = {}
    for body in bodies:
        _chat_usage(facts, body.get("usage"))
        for choice in body.get("choices") or []:
            if choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            _chat_message(facts, {**delta, "tool_calls": None})
            for call in delta.get("tool_calls") or []:
                held = calls.setdefault(call.get("index", 0), {"name": "", "arguments": ""})
                function = call.get("function") or {}
                held["name"] += function.get("name") or ""
                held["arguments"] += function.get("arguments") or ""
            facts.stop = _CHAT_STOPS.get(choice.get("finish_reason") or "", facts.stop)
    for call in calls.values():
        facts.add_call(call["name"], call["arguments"])
    return facts


def _messages_stream(bodies: list[dict[str, Any]]) -> Facts:
    facts = Facts()
    blocks: dict[tuple[int, int], dict[str, Any]] = {}
    messages = 0  # a server that starts anew in the middle counts its blocks anew
    usage: dict[str, Any] = {}
    for body in bodies:
        kind = body.get("type")
        if kind == "message_start":
            messages += 1
            usage.update(body["message"].get("usage") or {})
        elif kind == "content_block_start":
            blocks[messages, body["index"]] = {**body["content_block"], "json": ""}
        elif kind == "content_block_delta":
            block, delta = blocks[messages, body["index"]], body["delta"]
            block["json"] += delta.get("partial_json") or ""
            for key in ("text", "thinking"):
                if key in delta:
                    block[key] = (block.get(key) or "") + delta[key]
        elif kind == "message_delta":
            stop = (body.get("delta") or {}).get("stop_reason") or ""
            facts.stop = _MESSAGES_STOPS.get(stop, facts.stop)
            usage.update({k: v for k, v in (body.get("usage") or {}).items() if v is not None})
    for block in blocks.values():
        if block["json"]:
            block["input"] = loads(block["json"])
        _block(facts, block)
    _messages_usage(facts, usage)
    return facts


def _responses_stream(bodies: list[dict[str, Any]]) -> Facts:
    """The last event has it all; the pieces must say the same."""
    ended = [body["response"] for body in bodies if body.get("type") in _RESPONSES_ENDS]
    facts = _responses(ended[-1]) if ended else Facts()
    said = "".join(b["delta"] for b in bodies if b.get("type") == "response.output_text.delta")
    if said:
        facts.text = said
    return facts


_RESPONSES_ENDS = ("response.completed", "response.incomplete", "response.failed")
