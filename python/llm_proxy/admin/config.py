"""The configuration's routes: what is set and where it came from, and reading it anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException
from fastapi.responses import JSONResponse

from llm_proxy.admin.access import ADMINS
from llm_proxy.config.errors import ConfigError

if TYPE_CHECKING:
    from llm_proxy.server import Server


def routes(server: Server) -> APIRouter:
    router = APIRouter(prefix="/config", tags=["configuration"], dependencies=[ADMINS])

    @router.post("/reload")
    async def reload() -> JSONResponse:
        if server.reread is None:
            raise HTTPException(409, "this server was not started from a configuration to read")
        try:
            later = await server.reread()
        except ConfigError as error:
            problems = [
                {"where": problem.where, "key": problem.key, "message": problem.message}
                for problem in error.problems
            ]
            return JSONResponse(
                {"detail": "the old configuration stays", "problems": problems}, 422
            )
        except (ValueError, RuntimeError) as error:
            return JSONResponse(
                {
                    "detail": "the old configuration stays",
                    "problems": [{"where": "", "key": "", "message": str(error)}],
                },
                422,
            )
        return JSONResponse({"status": "reloaded", "waits_for_a_start": list(later)})

    return router
