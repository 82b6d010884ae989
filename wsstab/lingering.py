"""Lingering: TCP connections that have closed, and whose peer takes nothing or does not leave.

Each still has its socket, and so its place among the connections that a limit counts.
"""

from __future__ import annotations

from collections.abc import Callable

from .tasks import EventLoop
from .wires.base import Wire

__all__ = ["Lingering"]


class Lingering:
    """What has closed and is not gone.

    Args:
        free: called with the address of a connection whose place is free again.
    """

    def __init__(self, free: Callable[[str | None], None]) -> None:
        self._free = free
        self._loops: dict[Wire, EventLoop] = {}
        self._places: dict[Wire, str | None] = {}

    def __contains__(self, wire: Wire) -> bool:
        return wire in self._loops

    def __len__(self) -> int:
        return len(self._loops)

    def add(self, wire: Wire, loop: EventLoop) -> None:
        """It has closed.

        Args:
            wire: of the connection.
            loop: the event loop of its server.
        """
        self._loops[wire] = loop

    def end(self, wire: Wire) -> None:
        """Its socket is gone. Idempotent."""
        self._loops.pop(wire, None)
        if wire in self._places:
            self._free(self._places.pop(wire))

    def leave_place(self, wire: Wire, address: str | None) -> None:
        """Its ASGI call is over: its place is free with its socket, which may be now.

        Args:
            wire: of the connection.
            address: under which it was let in.
        """
        if wire in self._loops:
            self._places[wire] = address
        else:
            self._free(address)

    def cut(self) -> None:
        """Abort all that linger; works from any thread."""
        for wire, loop in list(self._loops.items()):
            loop.call_from_thread(wire.abort)
