"""Who may do what, and how a request's body is read: what the routes of every part share."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from fastapi.responses import JSONResponse

ROLE = "llm_proxy.admin"  # in the ASGI scope: the engine has compared the key


async def _admins(request: Request) -> None:
    if not request.scope.get(ROLE):
        raise HTTPException(
            403,
            "an admin key is needed here: set LLM_PROXY_ADMIN_KEYS (auth.admin_keys) and send one "
            "as Authorization: Bearer KEY",
        )


async def _asked(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body must be a JSON object") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "the body must be a JSON object")
    return body


def answered(answer: tuple[int, Any]) -> JSONResponse:
    status, content = answer
    return JSONResponse(content, status)


ADMINS = Depends(_admins)
Asked = Annotated[dict[str, Any], Depends(_asked)]
