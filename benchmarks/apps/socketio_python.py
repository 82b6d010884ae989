"""python-socketio: its server emits."""

from __future__ import annotations

from typing import Any

import socketio

from . import command

server = socketio.AsyncServer(async_mode="asgi", ping_interval=3600, cors_allowed_origins="*")
app = socketio.ASGIApp(server)


async def broadcast(payload: str, count: int, room: str | None) -> None:
    """Emit each message as an event with one argument."""
    for _ in range(count):
        await server.emit("m", payload, room=room)


@server.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any]) -> None:
    """Let everybody in."""


@server.on("c")  # type: ignore[untyped-decorator]
async def on_command(sid: str, text: str) -> None:
    """Take a command, which comes as an event too."""

    async def answer(reply: str) -> None:
        await server.emit("a", reply, to=sid)

    await command(text, broadcast, answer)
