"""Doubles: the peers that ``manager.connect()`` registered where no middleware stands around the application."""

from __future__ import annotations

from ..connection import DoublePeer

__all__ = ["Doubles"]


class Doubles:
    """The open peers of a manager that stand behind an object with Starlette's coroutines.

    Attributes:
        peers: the doubles.
    """

    def __init__(self) -> None:
        # By id, because any object may be a double, even one that cannot be hashed. Its peer refers to it, so the id
        # stays its own.
        self._by_object: dict[int, DoublePeer] = {}
        self.peers: set[DoublePeer] = set()

    def find(self, websocket: object) -> DoublePeer | None:
        """The peer that is registered for this object."""
        return self._by_object.get(id(websocket))

    def add(self, peer: DoublePeer) -> None:
        """Register a double for its object."""
        self.peers.add(peer)
        self._by_object[id(peer.websocket)] = peer

    def forget(self, peer: DoublePeer) -> None:
        """A double is closing."""
        self.peers.discard(peer)
        self._by_object.pop(id(peer.websocket), None)
