"""Rooms on plain Starlette: what is sent to a room reaches everybody in it.

Start it with ``python -m examples.starlette_app``; then, in two terminals,
``python -m websockets ws://127.0.0.1:8000/rooms/lobby``.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from wsstab import WebSocketStabilizer, get_connection, get_manager


async def room(websocket: WebSocket) -> None:
    """Pass on what arrives."""
    name = websocket.path_params["room"]
    await websocket.accept()
    await get_connection(websocket).join(name)
    async for text in websocket.iter_text():
        await get_manager(websocket).broadcast(text, room=name)


app = Starlette(
    routes=[WebSocketRoute("/rooms/{room}", room)],
    middleware=[Middleware(WebSocketStabilizer, heartbeat_interval=25, max_connections=10_000)],
)

if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
