"""A FastAPI chat with rooms, written as the README writes it, and one mounted inside another."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, WebSocket

from wsstab import Connection, WebSocketConnectionManager, WebSocketStabilizer, get_connection, get_manager

__all__ = ["make_app", "make_mounted"]


def make_app() -> FastAPI:
    """A fresh application."""
    app = FastAPI()
    app.add_api_websocket_route("/ws/{user}", chat)
    app.add_api_websocket_route("/depends", depends)
    app.add_api_route("/notify/{user}", notify, methods=["POST"])
    return app


def make_mounted() -> FastAPI:
    """The chat mounted at /inner with a stabilizer of its own, inside the lab's."""
    outer, inner = FastAPI(), make_app()
    inner.add_middleware(WebSocketStabilizer, max_connections=1)
    outer.mount("/inner", inner)
    return outer


async def chat(websocket: WebSocket, user: str) -> None:
    """Everybody is in the lobby; ``/join x`` changes the room."""
    await websocket.accept()
    manager, room = websocket.state.manager, "lobby"
    await manager.connect(user, websocket)
    await manager.join(user, room)
    async for text in websocket.iter_text():
        if text.startswith("/join "):
            await manager.leave(user, room)
            room = text.removeprefix("/join ")
            await manager.join(user, room)
            await websocket.send_text(f"in {room}")
        else:
            await manager.broadcast({"from": user, "text": text}, room=room, exclude_client=user)


async def depends(
    websocket: WebSocket,
    manager: Annotated[WebSocketConnectionManager, Depends(get_manager)],
    connection: Annotated[Connection, Depends(get_connection)],
) -> None:
    """Manager and connection as dependencies."""
    await websocket.accept()
    await websocket.send_json([manager.get_connection_count(), connection.path])


async def notify(user: str, request: Request) -> dict[str, Any]:
    """Send from an HTTP handler."""
    return {"sent": await request.state.manager.send_to_client(user, {"hello": user})}
