"""The ring plugins' routes. What each does is in `llm_proxy.admin.plugin_answers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from llm_proxy.admin import plugin_answers as admin
from llm_proxy.admin.access import ADMINS, Asked, answered

if TYPE_CHECKING:
    from llm_proxy.server import Server


def routes(server: Server) -> APIRouter:
    router = APIRouter(prefix="/plugins", tags=["ring plugins"])
    admins = [ADMINS]

    @router.get("")
    async def listing() -> JSONResponse:
        return answered(admin.list_plugins(await server.ring_plugins()))

    @router.get("/stats")
    async def stats() -> JSONResponse:
        return answered(admin.plugin_stats(await server.ring_plugins()))

    @router.post("/toggle", dependencies=admins)
    async def toggle(asked: Asked) -> JSONResponse:
        return answered(await admin.toggle(await server.ring_plugins(), asked))

    @router.post("/install", dependencies=admins)
    async def install(asked: Asked) -> JSONResponse:
        return answered(await admin.install(await server.ring_plugins(), asked))

    @router.post("/hot-swap", dependencies=admins)
    async def hot_swap() -> JSONResponse:
        return answered(await admin.hot_swap(await server.ring_plugins()))

    @router.post("/rollback", dependencies=admins)
    async def rollback() -> JSONResponse:
        return answered(await admin.rollback(await server.ring_plugins()))

    @router.get("/{name:path}/config", dependencies=admins)
    async def config(name: str) -> JSONResponse:
        return answered(admin.plugin_config(await server.ring_plugins(), name))

    @router.put("/{name:path}/config", dependencies=admins)
    async def configure(name: str, asked: Asked) -> JSONResponse:
        return answered(await admin.configure(await server.ring_plugins(), name, asked))

    @router.post("/{name:path}/config/validate", dependencies=admins)
    async def validate(name: str, asked: Asked) -> JSONResponse:
        return answered(admin.validate(await server.ring_plugins(), name, asked))

    @router.get("/{name:path}")
    async def one(name: str) -> JSONResponse:
        return answered(admin.one_plugin(await server.ring_plugins(), name))

    @router.delete("/{name:path}", dependencies=admins)
    async def uninstall(name: str) -> JSONResponse:
        return answered(await admin.uninstall(await server.ring_plugins(), name))

    return router
