"""A python-socketio application, wrapped."""

from __future__ import annotations

import socketio

from .wrapped import wrap

__all__ = ["app"]

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket", "polling"])


@server.event  # type: ignore[untyped-decorator, unused-ignore]
async def shout(sid: str, message: object) -> object:
    """Emit the message to everybody, and acknowledge with it."""
    await server.emit("heard", message)
    return message


@server.event  # type: ignore[untyped-decorator, unused-ignore]
async def dismiss(sid: str) -> None:
    """Disconnect the client that asks for it."""
    await server.disconnect(sid)


app = wrap(socketio.ASGIApp(server))
