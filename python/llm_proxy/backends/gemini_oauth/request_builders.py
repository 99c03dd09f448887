"""The wrapper of a generateContent body that Code Assist expects."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any


def _prompt_id() -> str:
    return uuid.uuid4().hex


class StandardRequestBodyBuilder:
    def build(
        self,
        effective_model: str,
        project_id: str | None,
        request_data: Any,
        inner_request: Mapping[str, Any],
        user_prompt_id_generator: Callable[..., str] | None = None,
    ) -> dict[str, Any]:
        body: dict[str, Any] = {"model": effective_model, "request": dict(inner_request)}
        if project_id:
            body["project"] = project_id
        named = _prompt_id() if user_prompt_id_generator is None else user_prompt_id_generator()
        return {**body, self.id_field: named}

    id_field = "user_prompt_id"


class AntigravityRequestBodyBuilder(StandardRequestBodyBuilder):
    id_field = "requestId"

    def build(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {**super().build(*args, **kwargs), "userAgent": "antigravity"}
