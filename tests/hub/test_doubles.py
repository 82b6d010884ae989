"""`wsstab.hub.doubles`: peers by the object that stands for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from wsstab.connection import DoublePeer
from wsstab.hub.doubles import Doubles


class Fake(SimpleNamespace):
    """Attributes, and an identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def test_a_peer_is_found_by_its_object_until_it_closes() -> None:
    """By its identity: an object may be equal to every other."""
    doubles, socket, other = Doubles(), SimpleNamespace(), SimpleNamespace()
    peer = cast(DoublePeer, Fake(websocket=socket))
    assert doubles.find(socket) is None
    doubles.add(peer)
    assert socket == other
    assert (doubles.find(socket), doubles.find(other), doubles.peers) == (peer, None, {peer})
    doubles.forget(peer)
    doubles.forget(peer)
    assert (doubles.find(socket), doubles.peers) == (None, set())
