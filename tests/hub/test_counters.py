"""`wsstab.hub.counters`: traffic of those that are open, closing and gone, counted once each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from wsstab.connection import Peer
from wsstab.hub.counters import Counters
from wsstab.loop.services import Services


def peer(sent: int = 0, dropped: int = 0, code: int | None = None) -> Peer:
    """A connection that has only counters."""
    close = None if code is None else SimpleNamespace(code=code)
    return cast(
        Peer,
        Fake(
            sent=sent,
            dropped=dropped,
            closing=SimpleNamespace(close=close),
        ),
    )


class Fake(SimpleNamespace):
    """Attributes, and an identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def traffic(self) -> dict[str, int]:
        """As that of a peer."""
        return {"messages_received": 1, "messages_sent": self.sent, "dropped_outbound": self.dropped}


def test_a_connection_counts_while_it_is_open_while_it_closes_and_when_it_is_gone() -> None:
    """And never twice."""
    counters, leaving, open_one = Counters(), peer(sent=3, dropped=1, code=1000), peer(sent=4)
    assert counters.snapshot([leaving, open_one], [])["messages_sent"] == 7
    counters.closing(leaving)
    assert counters.snapshot([open_one], [])["messages_sent"] == 7
    cast(Any, leaving).sent = 5
    counters.over(leaving)
    cast(Any, leaving).sent = 99
    traffic = counters.snapshot([open_one], [])
    assert (traffic["messages_sent"], traffic["messages_received"], traffic["dropped_outbound"]) == (9, 2, 1)
    assert counters.closed == {1000: 1}


def test_what_was_never_listed_leaves_nothing() -> None:
    """A socket that was refused has no life to count, and nobody is over twice."""
    counters, stranger, guest = Counters(), peer(sent=3, code=1000), peer(sent=3, code=4001)
    counters.over(stranger)
    counters.closing(guest)
    counters.over(guest)
    counters.over(guest)
    assert counters.snapshot([], [])["messages_sent"] == 3
    assert counters.closed == {4001: 1}


def test_latencies_are_measured_by_name() -> None:
    """What is not asked for is not kept."""
    counters = Counters(["ping"])
    counters.observe("ping", 0.01)
    counters.observe("broadcast", 0.01)
    assert {name: histogram.count for name, histogram in counters.snapshot([], [])["latencies"].items()} == {"ping": 1}


class Beating(NamedTuple):
    """The services of an event loop, as far as they count."""

    sent: int
    missed: int

    def heartbeats(self) -> dict[str, int]:
        """As those of services."""
        return {"heartbeats_sent": self.sent, "heartbeats_missed": self.missed}


def test_the_heartbeats_of_a_loop_outlive_its_services() -> None:
    """They are added up."""
    counters = Counters()
    services = [Beating(3, 1), Beating(4, 0), Beating(5, 0)]
    for ended in services[:2]:
        counters.retire(cast(Services, ended))
    snapshot = counters.snapshot([], cast(list[Services], services[2:]))
    assert (snapshot["heartbeats_sent"], snapshot["heartbeats_missed"]) == (12, 1)


def test_what_comes_for_a_connection_that_is_over_counts_as_dropped() -> None:
    """Its own counters change no more."""
    counters = Counters()
    counters.missed()
    assert counters.snapshot([], [])["dropped_outbound"] == 1
