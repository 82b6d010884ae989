"""Handlers that do not accept at once."""

from __future__ import annotations

import anyio
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

__all__ = ["routes"]


async def gate(websocket: WebSocket) -> None:
    """Accept as soon as somebody else is connected, then send back what comes."""
    manager = websocket.state.manager
    while manager.get_connection_count() == 0:
        await anyio.sleep(0.01)
    await websocket.accept()
    while (event := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send({**event, "type": "websocket.send"})
    websocket.state.notes.append("left")


async def refuse_late(websocket: WebSocket) -> None:
    """Refuse as soon as somebody else is connected, and stay."""
    manager = websocket.state.manager
    while manager.get_connection_count() == 0:
        await anyio.sleep(0.01)
    await websocket.close(1008)
    while manager.get_connection_count() > 0:
        await anyio.sleep(0.01)


async def wait_for_more(websocket: WebSocket) -> None:
    """Receive for ever, and never accept."""
    event = await websocket.receive()
    while event["type"] != "websocket.disconnect":
        event = await websocket.receive()
    websocket.state.notes.append("disconnect")


async def sleep(websocket: WebSocket) -> None:
    """Never accept, and never receive."""
    await anyio.sleep(3600)


async def wait_for_event(websocket: WebSocket) -> None:
    """Never accept, and wait for an event that is never set."""
    await anyio.Event().wait()


routes: list[BaseRoute] = [
    WebSocketRoute("/gate", gate),
    WebSocketRoute("/refuse-late", refuse_late),
    WebSocketRoute("/wait-for-more", wait_for_more),
    WebSocketRoute("/sleep", sleep),
    WebSocketRoute("/wait-for-event", wait_for_event),
]
