"""An application with no stabilizer, for the tests of the harness itself."""

from __future__ import annotations

import asyncio
import gc

import anyio.lowlevel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

__all__ = ["app"]


async def health(request: Request) -> JSONResponse:
    """The server is up."""
    return JSONResponse("up")


echoing: set[WebSocket] = set()


async def count(request: Request) -> JSONResponse:
    """How many sockets are being echoed."""
    return JSONResponse(len(echoing))


async def echo(websocket: WebSocket) -> None:
    """Send back what comes."""
    await websocket.accept()
    echoing.add(websocket)
    try:
        while (event := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**event, "type": "websocket.send"})
    finally:
        echoing.discard(websocket)


async def returns(websocket: WebSocket) -> None:
    """Accept and return, which a bare uvicorn answers with no close frame."""
    await websocket.accept()


async def flood(websocket: WebSocket) -> None:
    """Send as much as the peer takes.

    It must yield by itself: uvicorn's send() does not while it may write, so a loop without this
    would never learn that its peer left, and hold the whole server.
    """
    await websocket.accept()
    while True:
        await websocket.send_bytes(b"x" * 16384)
        await anyio.lowlevel.checkpoint()


async def complain(websocket: WebSocket) -> None:
    """Leave a failed task behind that nobody awaited."""
    await websocket.accept()

    async def fail() -> None:
        raise ValueError

    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0.01)
    del task
    # An eager task is in a cycle with its error.
    gc.collect()


app = Starlette(
    routes=[
        Route("/-/health", health),
        Route("/-/count", count),
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/returns", returns),
        WebSocketRoute("/flood", flood),
        WebSocketRoute("/complain", complain),
    ]
)
