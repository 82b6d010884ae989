"""The application that a server of these tests runs: every subject of one process, each under its own path.

``/<composition>/<place>/<bare or wrapped>/...`` is a subject, ``/-/...`` looks inside. Subjects see no
lifespan: their managers start by themselves.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.composition.rows import ROWS
from wsstab.types import ASGIApp, Receive, Scope, Send

from . import clients, frameworks
from .packages import BUILDERS, PROCESS, SPANS
from .subject import Subject

__all__ = ["app", "clients", "frameworks"]

subjects: dict[str, Subject] = {}
apps: dict[str, ASGIApp] = {}

for row in ROWS:
    for place in row.places if row.process == PROCESS else ():
        for kind in ("bare", "wrapped"):
            key = f"{row.name}/{place}/{kind}"
            subjects[key] = Subject(kind == "wrapped")
            apps[key] = BUILDERS[row.name](subjects[key], place)


async def health(request: Request) -> JSONResponse:
    """The server is up."""
    return JSONResponse("up")


async def look(request: Request) -> JSONResponse:
    """What handlers noted, and on which wires the open connections are."""
    return JSONResponse(subjects[request.path_params["key"]].look())


async def spans(request: Request) -> JSONResponse:
    """The spans that ended since the last call, of whatever traces in this process."""
    return JSONResponse(SPANS())


control = Starlette(
    routes=[
        Route("/-/health", health),
        Route("/-/look/{key:path}", look),
        Route("/-/spans", spans, methods=["POST"]),
    ]
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Control, or the subject whose key begins the path."""
    if scope["type"] == "lifespan" or scope["path"].startswith("/-/"):
        await control(scope, receive, send)
        return
    _, name, place, kind, rest = scope["path"].split("/", 4)
    scope["path"] = f"/{rest}"
    scope["raw_path"] = scope["path"].encode()
    await apps[f"{name}/{place}/{kind}"](scope, receive, send)
