"""wsstab: the manager broadcasts."""

from __future__ import annotations

import os
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from wsstab import Drain, WebSocketStabilizer

from . import command
from .around import around


async def member(websocket: WebSocket) -> None:
    """Serve a client that gets broadcasts."""
    await websocket.accept()
    manager, connection = websocket.state.manager, websocket.state.connection
    for room in filter(None, websocket.query_params.get("rooms", "").split(",")):
        await connection.join(room)

    async def broadcast(payload: str, count: int, room: str | None) -> None:
        for _ in range(count):
            await manager.broadcast(payload, room=room)

    async for text in websocket.iter_text():
        await command(text, broadcast, websocket.send_text)


async def echo(websocket: WebSocket) -> None:
    """Send back what comes."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def hello(request: Request) -> PlainTextResponse:
    """Answer an HTTP request."""
    return PlainTextResponse("hello")


starlette: Any = Starlette(routes=[WebSocketRoute("/", member), WebSocketRoute("/echo", echo), Route("/", hello)])
starlette.add_middleware(
    WebSocketStabilizer,
    heartbeat_interval=float(os.environ.get("HEARTBEAT", "3600")),
    heartbeat_timeout=float(os.environ.get("HEARTBEAT", "3600")),
    compression=os.environ.get("COMPRESSION", "deflate"),
    max_connections=None,
    drain=Drain(batch_size=1_000_000, interval=0.0) if os.environ.get("DRAIN") == "unpaced" else Drain(),
)
app = around(starlette)
