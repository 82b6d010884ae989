"""fastapi-websocket-stabilizer 1.1.0: its manager broadcasts."""

from __future__ import annotations

import itertools

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi_websocket_stabilizer import WebSocketConfig, WebSocketConnectionManager

from . import command

app = FastAPI()
manager = WebSocketConnectionManager(
    WebSocketConfig(heartbeat_interval=3600.0, heartbeat_timeout=3000.0, max_connections=None)
)
numbers = itertools.count()


async def broadcast(payload: str, count: int, room: str | None) -> None:
    """Broadcast to all, as this package has no rooms."""
    for _ in range(count):
        await manager.broadcast(payload)


@app.websocket("/")
async def member(websocket: WebSocket) -> None:
    """Serve a client that gets broadcasts."""
    await websocket.accept()
    name = f"client-{next(numbers)}"
    await manager.connect(name, websocket)
    try:
        while True:
            await command(await websocket.receive_text(), broadcast, websocket.send_text)
    except WebSocketDisconnect:
        await manager.disconnect(name)


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """Send back what comes."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
