"""What is done to a reply before the client sees it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class NoOpResponsePostProcessor:
    def process(self, response: Any) -> Any:
        return response

    async def process_streaming(self, stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for chunk in stream:
            yield self.process(chunk)


class XmlToolCallPostProcessor(NoOpResponsePostProcessor):
    """Calls that a model wrote into its text as `<tool_call>{"name", "arguments"}</tool_call>`
    become tool calls, in a whole reply. A stream passes as it is."""

    def process(self, response: Any) -> Any:
        if not isinstance(response, dict):
            return response
        for choice in response.get("choices") or []:
            message = choice.get("message") or {}
            text = message.get("content")
            if not isinstance(text, str):
                continue
            calls = _CALL.findall(text)
            read = [call for call in map(_tool_call, calls, range(len(calls))) if call]
            if read and not message.get("tool_calls"):
                message["tool_calls"] = read
                message["content"] = _CALL.sub("", text).strip() or None
                choice["finish_reason"] = "tool_calls"
        return response


def _tool_call(text: str, number: int) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
        name, arguments = said["name"], said.get("arguments", {})
    except (ValueError, KeyError, TypeError):
        return None
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call_{number}", "type": "function", "function": function}
