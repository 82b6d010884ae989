"""A service as people deploy it: FastAPI, a lifespan, one line of middleware, all handlers.

What the handlers and the lifespan noted is printed, one JSON line each, so that
a test can read it when the process has ended.
"""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from tests.support.settings import stabilizer_options
from wsstab import Connection, WebSocketStabilizer
from wsstab.types import ASGIApp, Receive, Scope, Send

from . import echo, endings, silent, talking
from .lab import running

__all__ = ["app"]


class Notes(list[Any]):
    """A list that prints what is put into it."""

    def append(self, note: Any) -> None:
        """Keep and print."""
        super().append(note)
        print("NOTE", json.dumps(note), flush=True)


notes = Notes()


class WithNotes:
    """Puts the notes where handlers look for them; daphne has no lifespan and no state of one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope.setdefault("state", {})["notes"] = notes
        await self.app(scope, receive, send)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Note startup and shutdown."""
    notes.append("startup")
    yield
    notes.append("shutdown")


app = FastAPI(lifespan=lifespan)
app.add_middleware(WebSocketStabilizer, **stabilizer_options())
app.add_middleware(WithNotes)
app.router.routes.extend([*echo.routes, *endings.routes, *silent.routes, *talking.routes])


@app.get("/-/health")
async def health() -> str:
    """The server is up."""
    return "up"


@app.get("/-/ready")
async def ready(request: Request) -> bool:
    """Whether new sockets are accepted."""
    return bool(request.state.manager.is_ready)


@app.get("/-/count")
async def count(request: Request) -> int:
    """The number of open connections."""
    return int(request.state.manager.get_connection_count())


@app.post("/-/broadcast")
async def broadcast(request: Request, count: int, size: int) -> int:
    """Broadcast ``count`` messages of ``size`` bytes; how many deliveries succeeded."""
    results = [await request.state.manager.broadcast(b"x" * size) for _ in range(count)]
    return sum(result.succeeded for result in results)


@app.post("/-/collector")
async def collector(run: bool) -> None:
    """Collect garbage once, then switch Python's garbage collector on or off."""
    gc.collect()
    (gc.enable if run else gc.disable)()


@app.get("/-/held")
async def held() -> int:
    """How many connections are in memory, open or not."""
    return sum(type(each) is Connection for each in gc.get_objects())


@app.get("/-/tasks")
async def tasks() -> int:
    """How many tasks run."""
    return len(running())
