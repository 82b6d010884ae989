"""Lingering: TCP connections that have closed, and whose peer takes nothing or does not leave.

Each still has its socket, and so its place among the connections that a limit counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .members import Socket
from .tasks import EventLoop

__all__ = ["Lingering", "Place"]

Place: TypeAlias = "tuple[str | None, str | None]"
"""The address under which a connection was let in, and its client id where it has one."""


class Lingering:
    """What has closed and is not gone.

    Args:
        free: called with a place that is free again.
    """

    def __init__(self, free: Callable[[Place], None]) -> None:
        self._free = free
        self._loops: dict[Socket, EventLoop] = {}
        self._places: dict[Socket, Place] = {}

    def __contains__(self, wire: Socket) -> bool:
        return wire in self._loops

    def __len__(self) -> int:
        return len(self._loops)

    def add(self, wire: Socket, loop: EventLoop) -> None:
        """It has closed.

        Args:
            wire: of the connection.
            loop: the event loop of its server.
        """
        self._loops[wire] = loop

    def end(self, wire: Socket) -> None:
        """Its socket is gone. Idempotent."""
        self._loops.pop(wire, None)
        if wire in self._places:
            self._free(self._places.pop(wire))

    def leave_place(self, wire: Socket, place: Place) -> None:
        """Its ASGI call is over: its place is free with its socket, which may be now.

        Args:
            wire: of the connection.
            place: its own.
        """
        if wire in self._loops:
            self._places[wire] = place
        else:
            self._free(place)

    def cut(self) -> None:
        """Abort all that linger; works from any thread."""
        for wire, loop in list(self._loops.items()):
            loop.call_from_thread(wire.abort)
