"""`wsstab.connection.base`: what the parts of a peer share, on an event loop that is moved by hand."""

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
    """An owner that keeps what it is told."""

    def __init__(self) -> None:
        self.charged: list[tuple[Any, int]] = []

    def charge(self, peer: Any, delta: int) -> None:
        """Note it."""
        self.charged.append((peer, delta))


def base(path: str = "/ws", address: str | None = "203.0.113.7") -> PeerBase:
    """A peer without parts."""
    services = cast(Services, SimpleNamespace(loop=HandLoop()))
    return PeerBase(cast(Owner, Recorder()), services, Wire(), WebSocketConfig(), id="c1", path=path, address=address)


def test_it_begins_before_everything() -> None:
    """Not open, not named, and no handshake yet."""
    peer = base()
    assert (peer.open, peer.foreign, peer.subprotocol, peer.opened_at) == (False, False, None, 0.0)
    assert (peer.id, peer.client_id) == ("c1", "c1")
    assert peer.started == peer.loop.time()


def test_memory_is_the_owner_s_business() -> None:
    """Whoever charges says whom."""
    peer = base()
    peer.charge(100)
    peer.charge(-40)
    assert cast(Recorder, peer.owner).charged == [(peer, 100), (peer, -40)]


def test_its_name_in_the_log_is_three_words_whatever_strangers_chose() -> None:
    """A name and a path come from a URL: neither a line break nor a space in them forges anything."""
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
def test_each_line_about_it_carries_who_it_is(address: str | None) -> None:
    """In fields, cut to what a log can bear."""
    peer = base("/" + "x" * 5000, address)
    fields = peer.log_fields()
    assert (fields["connection_id"], fields["client_id"], fields["address"]) == ("c1", "c1", address)
    assert len(fields["path"]) < 300


def test_a_thread_without_an_event_loop_is_elsewhere() -> None:
    """So is every loop but its own."""
    peer, answers = base(), list[bool]()
    thread = threading.Thread(target=lambda: answers.append(peer.elsewhere()))
    thread.start()
    thread.join()
    assert answers == [True]


@pytest.mark.anyio
async def test_another_event_loop_is_elsewhere() -> None:
    """Its own is not."""
    peer = base()
    assert peer.elsewhere()
    peer.loop = current_loop()
    assert not peer.elsewhere()
