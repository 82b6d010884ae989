"""The limit: a ready frame, written to each transport of uvicorn with nothing around it."""

from __future__ import annotations

import os
import struct
from typing import Any

from starlette.types import Receive, Scope, Send

from . import command

JOINED = os.environ.get("WAY") == "joined"
transports: dict[Any, None] = {}


def frame(payload: str) -> bytes:
    """A text frame."""
    data = payload.encode()
    size = len(data)
    header = bytes((0x81, size)) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return header + data


async def broadcast(payload: str, count: int, room: str | None) -> None:
    """Build the frame once, and write each by itself or all of a call joined."""
    ready = frame(payload)
    for block, times in ((ready * count, 1),) if JOINED else ((ready, count),):
        for _ in range(times):
            for transport in transports:
                transport.write(block)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one WebSocket."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    transport = send.__self__.transport  # type: ignore[attr-defined]
    transports[transport] = None

    async def answer(text: str) -> None:
        await send({"type": "websocket.send", "text": text})

    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            del transports[transport]
            return
        await command(event["text"], broadcast, answer)
