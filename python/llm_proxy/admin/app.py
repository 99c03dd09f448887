"""The application, put together from its parts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from llm_proxy.admin import metrics
from llm_proxy.admin.access import ADMINS

if TYPE_CHECKING:
    from llm_proxy.server import Server

PREFIX = "/api/v1"
PARTS = ("llm_proxy.admin.plugins", "llm_proxy.admin.metrics", "llm_proxy.admin.config")


def build(server: Server) -> FastAPI:
    app = FastAPI(title="llm-proxy", openapi_url=None, docs_url=None, redoc_url=None)
    app.add_exception_handler(Exception, _failed)
    for part in PARTS:
        app.include_router(import_module(part).routes(server), prefix=PREFIX)

    @app.get("/metrics", tags=["metrics"])
    async def prometheus() -> Response:
        return metrics.prometheus(server)

    @app.get(f"{PREFIX}/openapi.json", dependencies=[ADMINS])
    async def schema() -> dict[str, Any]:
        return app.openapi()

    return app


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"this failed: {type(error).__name__}"}, 500)
