"""Handlers in rooms, each of which broadcasts its messages to its room."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from . import doorstep, echo, silent

__all__ = ["make_app"]


async def room(websocket: WebSocket) -> None:
    """Join the room of the path, and broadcast there what comes."""
    connection, manager = websocket.state.connection, websocket.state.manager
    name = websocket.path_params["name"]
    await connection.join(name)
    await websocket.accept()
    while (event := await websocket.receive())["type"] == "websocket.receive":
        await manager.broadcast(event.get("text") or event["bytes"], room=name)


def make_app() -> Starlette:
    """A fresh application."""
    return Starlette(routes=[WebSocketRoute("/room/{name}", room), *echo.routes, *silent.routes, *doorstep.routes])
