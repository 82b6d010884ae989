"""Test doubles for a WebSocket, as tests of applications make them."""

from __future__ import annotations

from unittest.mock import AsyncMock

import anyio

from wsstab import WebSocketConfig, WebSocketConnectionManager

__all__ = ["CountingSocket", "Gauge", "fleet"]


class Gauge:
    """Counts how many visits overlap, at the moment and at most."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.passed = 0

    async def visit(self) -> None:
        """Stay inside for one turn of the loop."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        await anyio.lowlevel.checkpoint()
        self.inside -= 1
        self.passed += 1


class CountingSocket:
    """Stands for Starlette's WebSocket; the sockets of a fleet share one gauge for sends and one for closes."""

    def __init__(self, sends: Gauge, closes: Gauge) -> None:
        self._sends = sends
        self._closes = closes

    async def send_text(self, data: str) -> None:
        """Take a turn to send."""
        await self._sends.visit()

    async def send_bytes(self, data: bytes) -> None:
        """Take a turn to send."""
        await self._sends.visit()

    async def send_json(self, data: object) -> None:
        """Take a turn to send."""
        await self._sends.visit()

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Take a turn to close."""
        await self._closes.visit()


async def fleet(
    *names: str, config: WebSocketConfig | None = None
) -> tuple[WebSocketConnectionManager, list[AsyncMock]]:
    """A manager with one AsyncMock connected for each name."""
    manager = WebSocketConnectionManager(config)
    sockets = [AsyncMock() for _ in names]
    for name, socket in zip(names, sockets, strict=True):
        await manager.connect(name, socket)
    return manager, sockets
