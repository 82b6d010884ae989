"""Handlers that send to several peers, or in several ways."""

from __future__ import annotations

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

__all__ = ["routes"]


async def relay(websocket: WebSocket) -> None:
    """Broadcast what comes, to everybody."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.state.manager.broadcast(text)


async def interleave(websocket: WebSocket) -> None:
    """Send to the own peer in every way in turn, ``count`` times."""
    await websocket.accept()
    manager, connection = websocket.state.manager, websocket.state.connection
    await manager.connect("self", websocket)
    for number in range(int(websocket.query_params["count"])):
        await manager.broadcast(f"broadcast {number}")
        await connection.send(f"connection {number}")
        await websocket.send_text(f"websocket {number}")
        await manager.send_to_client("self", f"client {number}")
    await websocket.receive()


async def member(websocket: WebSocket) -> None:
    """Join the rooms of the query string, then wait for the end."""
    await websocket.accept(next(iter(websocket.scope["subprotocols"]), None))
    await websocket.state.manager.connect(websocket.path_params["name"], websocket)
    for room in filter(None, websocket.query_params.get("rooms", "").split(",")):
        await websocket.state.connection.join(room)
    await websocket.send_text("ready")
    await websocket.state.connection.closed


routes: list[BaseRoute] = [
    WebSocketRoute("/relay", relay),
    WebSocketRoute("/interleave", interleave),
    WebSocketRoute("/member/{name}", member),
]
