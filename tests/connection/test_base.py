"""`wsstab.connection.base`: the state that all parts of a peer share, on an event loop with a manual clock."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.hand import HandLoop
from wsstab import WebSocketConfig
from wsstab.connection.base import Owner, PeerBase
from wsstab.loop.services import Services
from wsstab.loop.tasks import current_loop
from wsstab.wires.base import Wire


class Recorder:
    """An owner that records the charges it is told of."""

    def __init__(self) -> None:
        self.charged: list[tuple[Any, int]] = []

    def charge(self, peer: Any, delta: int) -> None:
        """Record one charge."""
        self.charged.append((peer, delta))


def base(path: str = "/ws", address: str | None = "203.0.113.7") -> PeerBase:
    """A `PeerBase` without the parts that a real peer has."""
    services = cast(Services, SimpleNamespace(loop=HandLoop()))
    return PeerBase(cast(Owner, Recorder()), services, Wire(), WebSocketConfig(), id="c1", path=path, address=address)


def test_a_new_peer_is_neither_open_nor_named() -> None:
    """Its handshake has not begun: it is not open, has no subprotocol, and goes by its id until it is named."""
    peer = base()
    assert (peer.open, peer.foreign, peer.subprotocol, peer.opened_at) == (False, False, None, 0.0)
    assert (peer.id, peer.client_id) == ("c1", "c1")
    assert peer.started == peer.loop.time()


def test_memory_charges_go_to_the_owner() -> None:
    """Each charge names the peer, so that the owner can attribute it."""
    peer = base()
    peer.charge(100)
    peer.charge(-40)
    assert cast(Recorder, peer.owner).charged == [(peer, 100), (peer, -40)]


def test_the_log_name_is_three_escaped_words() -> None:
    """Path and client id may come from a URL: line breaks and spaces in them must not forge a log line."""
    peer = base("/ws/a b\n2024 ERROR \ud800'")
    peer.client_id = "ann' 198.51.100.1\r\n= closed \u2028\u202e"
    assert peer.log_name() == (
        '/ws/a%20b%0A2024%20ERROR%20%3F%27 "ann\' 198.51.100.1\\r\\n= closed \\u2028\\u202e" 203.0.113.7'
    )
    long = base("/" + "é" * 5000, None)
    long.client_id = "\n" * 5000
    assert len(long.log_name()) < 450
    assert long.log_name().endswith("...' -")


@pytest.mark.parametrize("address", [None, "203.0.113.7"])
def test_log_fields_identify_the_connection(address: str | None) -> None:
    """They hold connection id, client id and address, and the path cut to a bounded length."""
    peer = base("/" + "x" * 5000, address)
    fields = peer.log_fields()
    assert (fields["connection_id"], fields["client_id"], fields["address"]) == ("c1", "c1", address)
    assert len(fields["path"]) < 300


def test_a_thread_without_an_event_loop_is_elsewhere() -> None:
    """Code outside the peer's own event loop must hand its calls over, even if it runs on no loop at all."""
    peer, answers = base(), list[bool]()
    thread = threading.Thread(target=lambda: answers.append(peer.elsewhere()))
    thread.start()
    thread.join()
    assert answers == [True]


@pytest.mark.anyio
async def test_another_event_loop_is_elsewhere() -> None:
    """Only the peer's own event loop counts as local."""
    peer = base()
    assert peer.elsewhere()
    peer.loop = current_loop()
    assert not peer.elsewhere()
