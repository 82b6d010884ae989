"""Lingering: closed connections whose TCP connection is still up, because the peer reads nothing or does not leave.

Each still holds its socket, and so keeps its place among the connections that a limit counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from .members import Socket
from .tasks import EventLoop

__all__ = ["Lingering", "Place"]

Place: TypeAlias = "tuple[str | None, str | None]"
"""The address under which a connection was admitted, and its client id if it has one."""


class Lingering:
    """The wires that have closed while their sockets still exist.

    Args:
        free: called with each place that becomes free again.
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
        """Track a wire that has closed while its socket still exists.

        Args:
            wire: the wire of the connection.
            loop: the event loop of its server.
        """
        self._loops[wire] = loop

    def end(self, wire: Socket) -> None:
        """Stop tracking a wire whose socket is gone, and free its place. Idempotent."""
        self._loops.pop(wire, None)
        if wire in self._places:
            self._free(self._places.pop(wire))

    def leave_place(self, wire: Socket, place: Place) -> None:
        """Free the place of a connection whose ASGI call has ended: once its socket is gone, or now if it already is.

        Args:
            wire: the wire of the connection.
            place: the place of the connection.
        """
        if wire in self._loops:
            self._places[wire] = place
        else:
            self._free(place)

    def cut(self) -> None:
        """Abort all lingering connections; callable from any thread."""
        # A copy: an abort may report the loss at once, and the wire then takes itself out.
        for wire, loop in list(self._loops.items()):
            loop.call_from_thread(wire.abort)
