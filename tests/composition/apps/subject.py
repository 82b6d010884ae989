"""One application under test, bare or wrapped, and what its handlers noted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from wsstab import WebSocketConfig, WebSocketConnectionManager

__all__ = ["Subject"]

OPTIONS: dict[str, Any] = {"heartbeat_interval": 0.1, "heartbeat_timeout": 5.0}


class Subject:
    """What a program shares with the tests.

    Args:
        wrapped: whether a stabilizer stands around it, with a manager of its own.
    """

    def __init__(self, wrapped: bool) -> None:
        self.manager = WebSocketConnectionManager(WebSocketConfig(**OPTIONS)) if wrapped else None
        self.notes: list[Any] = []
        self.sockets: list[Any] = []

    async def shout(self, text: str, send: Callable[[Any], Awaitable[Any]]) -> int:
        """Send to everybody in the room, and return how many they are.

        Args:
            text: the message.
            send: sends to one socket of the program, where there is no manager.
        """
        if self.manager is not None:
            return (await self.manager.broadcast(text)).total
        for socket in list(self.sockets):
            await send(socket)
        return len(self.sockets)

    def look(self) -> dict[str, Any]:
        """What a test can ask for."""
        connections = self.manager.connections() if self.manager else []
        return {"notes": self.notes, "wires": [type(each._peer.wire).__module__ for each in connections]}
