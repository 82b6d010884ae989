"""Handlers whose tasks use one socket at the same time."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ["routes"]

SIZES = (8, 1000, 70_000)
"""Sizes of the messages in bytes, in turn: one for each form of the length field of a frame."""


async def ten_senders(websocket: WebSocket) -> None:
    """Ten tasks send ``count`` messages each, then the handler waits for the peer to leave."""
    await websocket.accept()
    async with anyio.create_task_group() as group:
        for sender in range(10):
            group.start_soon(send_numbers, websocket, sender, int(websocket.query_params["count"]))
    await websocket.state.connection.closed


async def send_numbers(websocket: WebSocket, sender: int, count: int) -> None:
    """Send numbered messages of all sizes, text and bytes in turn."""
    for number in range(count):
        text = f"{sender}:{number}:".ljust(SIZES[number % len(SIZES)], "x")
        await (websocket.send_text(text) if number % 2 else websocket.send_bytes(text.encode()))


async def close_beside_receive(websocket: WebSocket) -> None:
    """One task receives; after its first message another task closes while it receives again."""
    await websocket.accept()
    asked = anyio.Event()

    async def receive() -> None:
        await websocket.receive_text()
        asked.set()
        event = await websocket.receive()
        websocket.state.notes.append({"type": event["type"], "code": event.get("code")})

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await asked.wait()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        await close(websocket)


async def close_beside_send(websocket: WebSocket) -> None:
    """One task sends until it is stopped; when the peer asks for it, another closes."""
    await websocket.accept()

    async def send() -> None:
        count = 0
        try:
            while True:
                await websocket.send_bytes(count.to_bytes(8, "big") + b"x" * 16376)
                count += 1
        except (WebSocketDisconnect, RuntimeError) as stopped:
            websocket.state.notes.append({"sent": count, "error": type(stopped).__name__})

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        await websocket.receive_text()
        await close(websocket)


async def close(websocket: WebSocket) -> None:
    """Close in the way that the query string names."""
    connection, manager = websocket.state.connection, websocket.state.manager
    if websocket.query_params["way"] == "websocket":
        await websocket.close(4001, "enough")
    elif websocket.query_params["way"] == "connection":
        await connection.close(4001, "enough")
    else:
        await manager.disconnect(connection.client_id, 4001, "enough")


routes: list[BaseRoute] = [
    WebSocketRoute("/ten-senders", ten_senders),
    WebSocketRoute("/close-beside-receive", close_beside_receive),
    WebSocketRoute("/close-beside-send", close_beside_send),
]
