"""The application that a server of these tests runs: every subject of one process, each under its own path.

``/<composition>/<place>/<bare or wrapped>/...`` is a subject, ``/-/...`` looks inside. Subjects see no
lifespan: their managers start by themselves.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

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


async def control(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer ``/-/health``, ``/-/look/<subject>`` and ``/-/spans``, without a framework that would be traced."""
    path = scope["path"]
    answer: Any = "up"
    if path == "/-/spans":
        answer = SPANS()
    elif path.startswith("/-/look/"):
        answer = subjects[path.removeprefix("/-/look/")].look()
    await JSONResponse(answer)(scope, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop with the server."""
    while (event := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{event['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Control, or the subject whose key begins the path."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["path"].startswith("/-/"):
        await control(scope, receive, send)
        return
    _, name, place, kind, rest = scope["path"].split("/", 4)
    scope["path"] = f"/{rest}"
    scope["raw_path"] = scope["path"].encode()
    await apps[f"{name}/{place}/{kind}"](scope, receive, send)
