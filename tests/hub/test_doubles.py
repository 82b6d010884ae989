"""`wsstab.hub.doubles`: doubles, found by the WebSocket object behind them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from wsstab.connection import DoublePeer
from wsstab.hub.doubles import Doubles


class Fake(SimpleNamespace):
    """A namespace that is hashed by its identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def test_a_double_is_found_by_its_object_until_it_is_forgotten() -> None:
    """Identity decides, because an object may be equal to others."""
    doubles, socket, other = Doubles(), SimpleNamespace(), SimpleNamespace()
    peer = cast(DoublePeer, Fake(websocket=socket))
    assert doubles.find(socket) is None
    doubles.add(peer)
    assert socket == other
    assert (doubles.find(socket), doubles.find(other), doubles.peers) == (peer, None, {peer})
    doubles.forget(peer)
    doubles.forget(peer)
    assert (doubles.find(socket), doubles.peers) == (None, set())
