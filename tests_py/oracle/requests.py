"""The slow way to read a request in any of the four formats. Shares nothing with the codecs."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from oracle.reader import CHAT, GEMINI, MESSAGES, RESPONSES, loads

Json = dict[str, Any]


@dataclass
class Asked:
    """What a request asks. `said` has what was said in order, a word for the kind first."""

    system: str = ""  # before anybody else speaks
    said: list[tuple[str, Any]] = field(default_factory=list)
    tools: dict[str, Json] = field(default_factory=dict)  # name → description and schema
    choice: Any = None
    one_at_a_time: bool = False
    settings: Json = field(default_factory=dict)
    schema: Any = None  # of the answer
    # Something stands here that other formats may have no place for: what is said of it there is
    # the translation's business, not this reader's.
    odd: set[str] = field(default_factory=set)

    def add(self, kind: str, what: Any) -> None:
        if kind in ("user", "assistant", "system") and not what:
            return
        if kind == "system" and not self.said:
            self.system += f"\n{what}"
            return
        self.said.append((kind, what))

    def set(self, name: str, value: Any) -> None:
        if value is not None:
            self.settings[name] = value

    def tool(self, name: Any, description: Any, schema: Any) -> None:
        self.tools.setdefault(str(name), {"description": description or "", "schema": schema or {}})


def asked(body: Json, source: str) -> Asked:
    return {CHAT: _chat, MESSAGES: _messages, RESPONSES: _responses, GEMINI: _gemini}[source](body)


def digits(data: Any) -> str:
    """Base64 whatever its alphabet and line ends."""
    plain = re.sub(r"[^A-Za-z0-9+/]", "", str(data).replace("-", "+").replace("_", "/"))
    return hashlib.sha256(plain.encode()).hexdigest()[:12]


def media(out: Asked, url: Any) -> None:
    if isinstance(url, str) and url.startswith("data:"):
        head, _, data = url.partition(",")
        if head.startswith("data:text/"):
            out.odd.add("text file")
        out.add("media", digits(data))
    elif url:
        out.add("media", url)
    else:
        out.odd.add("file id")


def texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(
        part if isinstance(part, str) else part.get("text") or part.get("refusal") or ""
        for part in content or []
    )


def value_of(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


# --- Chat Completions


def _chat(body: Json) -> Asked:
    out = Asked()
    for message in body.get("messages") or []:
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            out.add("system", texts(content))
            continue
        if role in ("tool", "function"):
            _result(out, content)
            continue
        for part in [content] if isinstance(content, str) else content or []:
            _chat_part(out, role, part)
        for call in message.get("tool_calls") or []:
            if custom := call.get("custom"):
                out.add("call", (custom.get("name"), {"input": custom.get("input")}))
            else:
                function = call.get("function") or {}
                out.add("call", (function.get("name"), loads(function.get("arguments"))))
        if old := message.get("function_call"):
            out.add("call", (old.get("name"), loads(old.get("arguments"))))
    functions = [tool.get("function") for tool in body.get("tools") or []]
    for function in [*functions, *(body.get("functions") or [])]:
        if function is None:
            out.odd.add("server tool")
            continue
        out.tool(function.get("name"), function.get("description"), function.get("parameters"))
    _openai_choice(out, body.get("tool_choice"))
    out.one_at_a_time = body.get("parallel_tool_calls") is False
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        out.schema = (wanted.get("json_schema") or {}).get("schema")
    out.set("max", body.get("max_completion_tokens") or body.get("max_tokens"))
    out.set("effort", body.get("reasoning_effort"))
    stop = body.get("stop")
    out.set("stop", [stop] if isinstance(stop, str) else stop or None)
    out.set("n", body.get("n"))
    for key in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "top_k"):
        out.set(key, body.get(key))
    return out


def _chat_part(out: Asked, role: str, part: Any) -> None:
    if isinstance(part, str):
        out.add(role, part)
        return
    kind = part.get("type")
    if kind in ("text", "refusal"):
        out.add(role, part.get(kind))
    elif kind == "image_url":
        url = part["image_url"]
        media(out, url.get("url") if isinstance(url, dict) else url)
    elif kind == "file":
        media(out, part["file"].get("file_data"))
    elif kind == "input_audio":
        out.add("media", digits(part["input_audio"].get("data")))
    elif kind != "thinking":
        out.odd.add(str(kind))


def _result(out: Asked, content: Any) -> None:
    parts = content if isinstance(content, list) else []
    if any(part.get("type") not in ("text", "input_text", "output_text") for part in parts):
        out.odd.add("media in a result")
    out.add("result", value_of(texts(content)))


def _openai_choice(out: Asked, choice: Any) -> None:
    if isinstance(choice, dict):
        if choice.get("type") == "allowed_tools":
            out.odd.add("subset")
        else:
            out.choice = ("one", (choice.get("function") or choice).get("name"))
    else:
        out.choice = "required" if choice == "any" else choice  # Mistral's word


# --- Responses


def _responses(body: Json) -> Asked:
    out = Asked()
    if isinstance(body.get("instructions"), str):
        out.add("system", body["instructions"])
    given = body.get("input")
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given or []:
        _item(out, item)
    for tool in body.get("tools") or []:
        _responses_tool(out, tool)
    _openai_choice(out, body.get("tool_choice"))
    out.one_at_a_time = body.get("parallel_tool_calls") is False
    wanted = (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        out.schema = wanted.get("schema")
    out.set("max", body.get("max_output_tokens"))
    out.set("effort", (body.get("reasoning") or {}).get("effort"))
    for key in ("temperature", "top_p"):
        out.set(key, body.get(key))
    return out


def _responses_tool(out: Asked, tool: Json) -> None:
    if tool.get("type") == "function":
        out.tool(tool.get("name"), tool.get("description"), tool.get("parameters"))
    else:
        out.odd.add(f"tool {tool.get('type')}")


def _item(out: Asked, item: Any) -> None:
    if isinstance(item, str):
        out.add("user", item)
        return
    kind, role = item.get("type") or "message", item.get("role")
    if kind == "message" and role in ("system", "developer"):
        out.add("system", texts(item.get("content")))
    elif kind == "message":
        content = item.get("content")
        for part in [content] if isinstance(content, str) else content or []:
            _responses_part(out, role, part)
    elif kind == "function_call":
        out.add("call", (item.get("name"), loads(item.get("arguments"))))
    elif kind == "custom_tool_call":
        out.odd.add("custom call")
        out.add("call", (item.get("name"), {"input": item.get("input")}))
    elif kind in ("function_call_output", "custom_tool_call_output"):
        _result(out, item.get("output"))
    elif kind == "additional_tools":
        out.odd.add("late tools")
    elif kind != "reasoning":
        out.odd.add(str(kind))


def _responses_part(out: Asked, role: str, part: Any) -> None:
    if isinstance(part, str):
        out.add(role, part)
        return
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        out.add(role, part.get("text"))
    elif kind == "refusal":
        out.add(role, part.get("refusal"))
    elif kind == "input_image":
        media(out, part.get("image_url"))
    elif kind == "input_file":
        media(out, part.get("file_data") or part.get("file_url"))
    else:
        out.odd.add(str(kind))


# --- Messages


def _messages(body: Json) -> Asked:
    out = Asked()
    system = body.get("system")
    for part in [system] if isinstance(system, str) else system or []:
        out.add("system", texts([part]))
    for message in body.get("messages") or []:
        role, content = message.get("role"), message.get("content")
        for block in [content] if isinstance(content, str) else content or []:
            _block(out, role, block)
    for tool in body.get("tools") or []:
        if tool.get("type") in (None, "custom"):
            if tool.get("defer_loading"):
                out.odd.add("late tools")
            out.tool(tool.get("name"), tool.get("description"), tool.get("input_schema"))
        else:
            out.odd.add("server tool")
    choice = body.get("tool_choice") or {}
    kind = choice.get("type")
    out.choice = ("one", choice.get("name")) if kind == "tool" else kind
    if kind == "any":
        out.choice = "required"
    out.one_at_a_time = bool(choice.get("disable_parallel_tool_use"))
    config = body.get("output_config") or {}
    wanted = config.get("format") or body.get("output_format") or {}
    out.schema = wanted.get("schema")
    thinking = body.get("thinking") or {}
    if thinking.get("type") in ("enabled", "adaptive"):
        out.set("effort", config.get("effort") or "some")
    out.set("max", body.get("max_tokens"))
    out.set("stop", body.get("stop_sequences") or None)
    for key in ("temperature", "top_p", "top_k"):
        out.set(key, body.get(key))
    return out


def _block(out: Asked, role: str, block: Any) -> None:
    if isinstance(block, str):
        out.add(role, block)
        return
    kind = block.get("type")
    if kind == "text":
        out.add(role, block.get("text"))
    elif kind in ("image", "document"):
        source = block.get("source") or {}
        if source.get("type") == "text":
            out.odd.add("text file")
        elif source.get("type") == "base64":
            out.add("media", digits(source.get("data")))
        elif source.get("type") == "url":
            out.add("media", source.get("url"))
        else:
            out.odd.add("file id")
    elif kind == "tool_use":
        out.add("call", (block.get("name"), block.get("input")))
    elif kind == "tool_result":
        content = block.get("content")
        if isinstance(content, list) and any(part.get("type") != "text" for part in content):
            out.odd.add("media in a result")
        if block.get("is_error"):
            out.odd.add("failed result")
        out.add("result", value_of(texts(content)))
    elif kind not in ("thinking", "redacted_thinking"):
        out.odd.add(str(kind))


# --- generateContent


def _gemini(body: Json) -> Asked:
    out = Asked()
    body = _camel(body)
    system = body.get("systemInstruction") or {}
    for part in [{"text": system}] if isinstance(system, str) else system.get("parts") or []:
        out.add("system", part.get("text"))
    for content in body.get("contents") or []:
        role = "assistant" if content.get("role") == "model" else "user"
        parts = content.get("parts") or []
        for part in parts if isinstance(parts, list) else [parts]:
            _gemini_part(out, role, part)
    tools = body.get("tools") or []
    for tool in tools if isinstance(tools, list) else [tools]:
        for declared in tool.get("functionDeclarations") or []:
            schema = declared.get("parametersJsonSchema") or declared.get("parameters")
            out.tool(declared.get("name"), declared.get("description"), schema)
        if set(tool) - {"functionDeclarations"}:
            out.odd.add("server tool")
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    names = calling.get("allowedFunctionNames") or []
    mode = str(calling.get("mode") or "").upper()
    out.choice = {"AUTO": "auto", "NONE": "none", "ANY": "required"}.get(mode)
    if mode == "ANY" and len(names) == 1:
        out.choice = ("one", names[0])
    elif names:
        out.odd.add("subset")
    config = body.get("generationConfig") or {}
    out.schema = config.get("responseJsonSchema") or config.get("responseSchema")
    thinking = config.get("thinkingConfig") or {}
    if thinking.get("thinkingLevel") or thinking.get("thinkingBudget"):
        out.set("effort", "some")
    out.set("max", config.get("maxOutputTokens"))
    out.set("stop", config.get("stopSequences") or None)
    out.set("n", config.get("candidateCount"))
    for key, name in (
        ("temperature", "temperature"),
        ("topP", "top_p"),
        ("topK", "top_k"),
        ("seed", "seed"),
        ("presencePenalty", "presence_penalty"),
        ("frequencyPenalty", "frequency_penalty"),
    ):
        out.set(name, config.get(key))
    return out


_OPAQUE = {
    *("args", "response", "parameters", "parametersJsonSchema", "responseSchema"),
    *("responseJsonSchema", "labels"),
}


def _camel(value: Any) -> Any:
    """Protobuf's names in their JSON spelling; what only passes through stays as it is."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, item in value.items():
        name = re.sub(r"_(\w)", lambda found: found[1].upper(), key)
        out[name] = item if name in _OPAQUE else _camel(item)
    return out


def _gemini_part(out: Asked, role: str, part: Json) -> None:
    if part.get("thought"):
        return
    if call := part.get("functionCall"):
        out.add("call", (call.get("name"), call.get("args") or {}))
    elif result := part.get("functionResponse"):
        answer = result.get("response") or {}
        if result.get("parts"):
            out.odd.add("media in a result")
        if len(answer) == 1 and set(answer) <= {"output", "result", "content", "error"}:
            out.add("result", value_of(next(iter(answer.values()))))
        elif not answer:
            out.add("result", "")
        else:
            out.add("result", answer)
    elif data := part.get("inlineData"):
        if str(data.get("mimeType")).startswith("text/"):
            out.odd.add("text file")
        out.add("media", digits(data.get("data")))
    elif data := part.get("fileData"):
        out.add("media", data.get("fileUri"))
    elif "text" in part:
        out.add(role, part["text"])
    elif set(part) - {"thoughtSignature"}:
        out.odd.add(sorted(part)[0])
