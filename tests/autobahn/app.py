"""An echo application: bare as ``bare``, behind the middleware as ``stabilized``."""

from __future__ import annotations

from wsstab import WebSocketStabilizer
from wsstab.types import Receive, Scope, Send

__all__ = ["bare", "stabilized"]

LARGEST = 16_777_216
"""Bytes; the suite sends messages of up to 16 MiB."""


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Send back what comes."""
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        text, data = event.get("text"), event.get("bytes")
        try:
            await send({"type": "websocket.send", **({"bytes": data} if text is None else {"text": text})})
        except OSError:
            return


stabilized = WebSocketStabilizer(
    bare, max_message_size=LARGEST, max_memory_per_connection=8 * LARGEST, heartbeat_interval=3600, heartbeat_timeout=60
)
