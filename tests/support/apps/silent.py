"""Handlers that never receive."""

from __future__ import annotations

import anyio
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ["routes"]


async def push(websocket: WebSocket) -> None:
    """Send nothing and never receive; learn of the end from the connection."""
    await websocket.accept()
    ended = await websocket.state.connection.closed
    websocket.state.notes.append(
        {"code": ended.code, "cause": ended.cause.value, "error": type(ended.error).__name__, "reason": ended.reason}
    )


async def tick(websocket: WebSocket) -> None:
    """Send four messages a second and never receive; learn of the end from the send that fails."""
    await websocket.accept()
    number = 0
    try:
        while True:
            await websocket.send_text(str(number))
            number += 1
            await anyio.sleep(0.25)
    except WebSocketDisconnect as gone:
        websocket.state.notes.append({"code": gone.code})
        raise


async def flood(websocket: WebSocket) -> None:
    """Send messages of ``size`` bytes, 16 KiB by default, as fast as they are taken; note what stopped it."""
    await websocket.accept()
    count, padding = 0, b"x" * (int(websocket.query_params.get("size", "16384")) - 8)
    try:
        while count < int(websocket.query_params.get("count", "100000")):
            await websocket.send_bytes(count.to_bytes(8, "big") + padding)
            count += 1
    except WebSocketDisconnect as gone:
        websocket.state.notes.append({"code": gone.code, "sent": count})
        raise
    websocket.state.notes.append({"sent": count})


async def deaf(websocket: WebSocket) -> None:
    """Receive nothing, neither messages nor the end."""
    await websocket.accept()
    try:
        await anyio.sleep(3600)
    except anyio.get_cancelled_exc_class():
        websocket.state.notes.append("cancelled")
        raise


async def slow_reader(websocket: WebSocket) -> None:
    """Receive one message at a time, wait for ``pause`` seconds, and send it back."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await anyio.sleep(float(websocket.query_params["pause"]))
        await websocket.send_text(text)


routes: list[BaseRoute] = [
    WebSocketRoute("/push", push),
    WebSocketRoute("/tick", tick),
    WebSocketRoute("/flood", flood),
    WebSocketRoute("/deaf", deaf),
    WebSocketRoute("/slow-reader", slow_reader),
]
