"""The wire to an object that merely looks like a WebSocket: no middleware around it.

It is whatever was passed to ``manager.connect()`` where no middleware runs: Starlette's own
``WebSocket``, or a test double with the same coroutines. Nothing it receives passes by here, so
the only known fact about its peer is whether a send succeeds; each send is therefore awaited and
measured, one at a time.
"""

from __future__ import annotations

from typing import Any

import anyio

from ..payload import Payload, encode
from .base import Wire

__all__ = ["DoubleWire", "is_websocket"]


def is_websocket(websocket: object) -> bool:
    """Whether this is a real WebSocket. A double has every attribute, but not a scope that is a dict."""
    return isinstance(getattr(websocket, "scope", None), dict)


class DoubleWire(Wire):
    """Starlette's coroutines ``send_text``, ``send_bytes``, ``send_json`` and ``close`` of any object.

    Args:
        websocket: the object.
    """

    readable = False

    __slots__ = ("_one_at_a_time", "_real", "websocket")

    def __init__(self, websocket: Any) -> None:
        super().__init__()
        self.websocket = websocket
        self._real = is_websocket(websocket)
        self._one_at_a_time = anyio.Lock()

    async def deliver(self, message: Payload) -> None:
        """Send one message; a double gets it unencoded.

        Raises:
            Exception: whatever the object raises.
        """
        async with self._one_at_a_time:
            if isinstance(message, (dict, list)) and not self._real:
                await self.websocket.send_json(message)
                return
            encoded = encode(message)
            if isinstance(encoded, bytes):
                await self.websocket.send_bytes(encoded)
            else:
                await self.websocket.send_text(encoded)

    async def close(self, code: int, reason: str) -> None:
        await self.websocket.close(code=code, reason=reason)
