"""`wsstab.hub.counters`: traffic of those that are open, closing and gone, counted once each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from wsstab.connection import Connection
from wsstab.hub.counters import Counters
from wsstab.loop.services import Services


def connection(sent: int = 0, dropped: int = 0, code: int | None = None) -> Connection:
    """A connection that has only counters."""
    close = None if code is None else SimpleNamespace(code=code)
    return cast(
        Connection,
        Fake(
            receiver=SimpleNamespace(messages=1, bytes=10, dropped=0),
            sender=SimpleNamespace(messages=sent, bytes=sent * 100, queue=SimpleNamespace(dropped=dropped)),
            ending=SimpleNamespace(close=close),
        ),
    )


class Fake(SimpleNamespace):
    """Attributes, and an identity."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def test_a_connection_counts_while_it_is_open_while_it_closes_and_when_it_is_gone() -> None:
    """And never twice."""
    counters, leaving, open_one = Counters(), connection(sent=3, dropped=1, code=1000), connection(sent=4)
    assert counters.traffic([leaving, open_one])["messages_sent"] == 7
    counters.closing(leaving)
    assert counters.traffic([open_one])["messages_sent"] == 7
    cast(Any, leaving).sender.messages = 5
    counters.over(leaving)
    cast(Any, leaving).sender.messages = 99
    traffic = counters.traffic([open_one])
    assert (traffic["messages_sent"], traffic["messages_received"], traffic["dropped_outbound"]) == (9, 2, 1)
    assert counters.closed == {1000: 1}


def test_what_was_never_listed_leaves_nothing() -> None:
    """A socket that was refused has no life to count, and nobody is over twice."""
    counters, stranger, guest = Counters(), connection(sent=3, code=1000), connection(sent=3, code=4001)
    counters.over(stranger)
    counters.closing(guest)
    counters.over(guest)
    counters.over(guest)
    assert counters.traffic([])["messages_sent"] == 3
    assert counters.closed == {4001: 1}


def test_latencies_are_measured_by_name() -> None:
    """What is not asked for is not kept."""
    counters = Counters(["ping"])
    counters.observe("ping", 0.01)
    counters.observe("broadcast", 0.01)
    assert {name: histogram.count for name, histogram in counters.latencies().items()} == {"ping": 1}


def test_the_heartbeats_of_a_loop_outlive_its_services() -> None:
    """They are added up."""
    counters = Counters()
    for sent, missed in ((3, 1), (4, 0)):
        counters.retire(cast(Services, SimpleNamespace(heartbeats_sent=sent, heartbeats_missed=missed)))
    assert (counters.heartbeats_sent, counters.heartbeats_missed) == (7, 1)


def test_what_comes_for_a_connection_that_is_over_counts_as_dropped() -> None:
    """Its own counters change no more."""
    counters = Counters()
    counters.missed()
    assert counters.traffic([])["dropped_outbound"] == 1
