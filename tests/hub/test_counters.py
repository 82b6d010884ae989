"""`wsstab.hub.counters`: the traffic of open, closing and ended connections, each counted once."""

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
    """A namespace that is hashed by its identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def traffic(self) -> dict[str, int]:
        """The counters of a peer."""
        return {"messages_received": 1, "messages_sent": self.sent, "dropped_outbound": self.dropped}


def test_a_connection_is_counted_once_while_open_while_closing_and_afterwards() -> None:
    """Its traffic is fixed once it is over."""
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


def test_a_connection_that_never_opened_is_not_counted() -> None:
    """Nor is one counted again whose end is reported twice."""
    counters, stranger, guest = Counters(), peer(sent=3, code=1000), peer(sent=3, code=4001)
    counters.over(stranger)
    counters.closing(guest)
    counters.over(guest)
    counters.over(guest)
    assert counters.snapshot([], [])["messages_sent"] == 3
    assert counters.closed == {4001: 1}


def test_only_the_requested_latencies_are_measured() -> None:
    """Each has a histogram under its name."""
    counters = Counters(["ping"])
    counters.observe("ping", 0.01)
    counters.observe("broadcast", 0.01)
    assert {name: histogram.count for name, histogram in counters.snapshot([], [])["latencies"].items()} == {"ping": 1}


class Beating(NamedTuple):
    """The services of an event loop, reduced to their heartbeat counters."""

    sent: int
    missed: int

    def heartbeats(self) -> dict[str, int]:
        """The counters, under their names in the statistics."""
        return {"heartbeats_sent": self.sent, "heartbeats_missed": self.missed}


def test_heartbeat_counts_outlive_the_services_of_a_loop() -> None:
    """Those of ended and of running services are added up."""
    counters = Counters()
    services = [Beating(3, 1), Beating(4, 0), Beating(5, 0)]
    for ended in services[:2]:
        counters.retire(cast(Services, ended))
    snapshot = counters.snapshot([], cast(list[Services], services[2:]))
    assert (snapshot["heartbeats_sent"], snapshot["heartbeats_missed"]) == (12, 1)


def test_a_message_for_an_ended_connection_counts_as_dropped() -> None:
    """The manager counts it, because the connection's own counters no longer change."""
    counters = Counters()
    counters.missed()
    assert counters.snapshot([], [])["dropped_outbound"] == 1
