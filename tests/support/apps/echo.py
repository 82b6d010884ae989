"""Handlers that send back what they receive."""

from __future__ import annotations

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

__all__ = ["routes"]


async def echo(websocket: WebSocket) -> None:
    """Send back what comes, text as text and bytes as bytes; note how it ended."""
    await websocket.accept()
    while (event := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send({**event, "type": "websocket.send"})
    websocket.state.notes.append({"code": event["code"], "reason": event.get("reason") or ""})


async def views(websocket: WebSocket) -> None:
    """Send each message back as a bytearray, as a memoryview, and as a memoryview of every second byte."""
    await websocket.accept()
    async for data in websocket.iter_bytes():
        buffer = bytearray(data)
        for sendable in (buffer, memoryview(buffer), memoryview(buffer)[::2]):
            await websocket.send({"type": "websocket.send", "bytes": sendable})
        buffer[:] = bytes(len(data))


async def iterate(websocket: WebSocket) -> None:
    """Iterate as people write it: with no clean-up at all."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    websocket.state.notes.append("iteration ended")


async def escape(websocket: WebSocket) -> None:
    """Let the disconnect escape, as handlers with ``while True`` do."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as gone:
        websocket.state.notes.append({"code": gone.code, "reason": gone.reason or ""})
        raise


async def negotiate(websocket: WebSocket) -> None:
    """Select the last subprotocol and add headers; then echo."""
    offered = websocket.scope["subprotocols"]
    await websocket.accept(offered[-1] if offered else None, [(b"x-lab", b"yes"), (b"set-cookie", b"a=b")])
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def name(websocket: WebSocket) -> None:
    """Take the client id from the path, then echo; note the error when the id is refused."""
    await websocket.accept()
    try:
        await websocket.state.manager.connect(websocket.path_params["name"], websocket)
    except Exception as error:
        websocket.state.notes.append(type(error).__name__)
        raise
    await websocket.send_text("named")
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    websocket.state.notes.append(f"{websocket.path_params['name']} ended")


async def early(websocket: WebSocket) -> None:
    """Take the client id from the path and join two rooms before accept, then echo."""
    manager, connection = websocket.state.manager, websocket.state.connection
    name = websocket.path_params["name"]
    await connection.join("red")
    await manager.connect(name, websocket, {"since": "before"})
    await manager.join(name, "blue")
    await manager.set_user_data(name, "colour", "green")
    await websocket.accept()
    await websocket.send_text(f"{connection.client_id} {sorted(connection.rooms)}")
    async for text in websocket.iter_text():
        await websocket.send_text(text)


routes: list[BaseRoute] = [
    WebSocketRoute("/echo", echo),
    WebSocketRoute("/views", views),
    WebSocketRoute("/iterate", iterate),
    WebSocketRoute("/escape", escape),
    WebSocketRoute("/negotiate", negotiate),
    WebSocketRoute("/name/{name}", name),
    WebSocketRoute("/early/{name}", early),
]
