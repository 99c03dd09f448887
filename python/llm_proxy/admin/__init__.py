"""The admin API: `/api/v1/…` and `/metrics`, a FastAPI application behind the C++ server.

`bridge` takes requests from the engine and calls the application in this process · `app` puts it
together from its parts · `access` says who may do what · the other modules are the parts.

To add a route, write a module with

    def routes(server: Server) -> APIRouter:
        router = APIRouter()

        @router.get("/things/{name:path}")            # GET /api/v1/things/a%2Fb: name is "a/b"
        async def thing(name: str) -> JSONResponse: ...

        @router.post("/things/change", dependencies=[ADMINS])
        async def change(asked: Asked) -> JSONResponse: ...   # the JSON object of the body

        return router

and name it in `app.PARTS`. The module is imported with the first admin request, not before. Every
route needs a client's key at least; `dependencies=[ADMINS]` asks for an admin's. Handlers are
`async def`, run on the lane and must not block it. Errors are `HTTPException(status, "what is
wrong")`: the client reads `{"detail": …}`.
"""
