"""The states of a connection: the table, its rules, and the lives that occur."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.core.lifecycle import INBOUND, OUTBOUND, Event, InboundState, Lifecycle, OutboundState

REACHABLE = [
    (inbound, outbound)
    for inbound, outbound in product(InboundState, OutboundState)
    if inbound is not InboundState.ENDED or outbound is OutboundState.CLOSED
]


def at(inbound: InboundState, outbound: OutboundState) -> Lifecycle:
    """A life in the middle."""
    lifecycle = Lifecycle()
    lifecycle.inbound, lifecycle.outbound = inbound, outbound
    return lifecycle


def live(*events: Event) -> Lifecycle:
    """A life from its beginning."""
    lifecycle = Lifecycle()
    for event in events:
        lifecycle.fire(event)
    return lifecycle


def test_a_life_begins_connecting_both_ways() -> None:
    """Nothing has been said by either side."""
    assert (Lifecycle().inbound, Lifecycle().outbound) == (InboundState.CONNECTING, OutboundState.CONNECTING)


@pytest.mark.parametrize(
    ("events", "inbound", "outbound"),
    [
        ([Event.CONNECT, Event.ACCEPT], "OPEN", "OPEN"),
        ([Event.ACCEPT], "CONNECTING", "OPEN"),
        ([Event.ACCEPT, Event.CONNECT], "OPEN", "OPEN"),
        ([Event.CONNECT, Event.ACCEPT, Event.CLOSE], "OPEN", "CLOSING"),
        ([Event.CONNECT, Event.ACCEPT, Event.CLOSE, Event.CLOSED], "OPEN", "CLOSED"),
        ([Event.CONNECT, Event.ACCEPT, Event.CLOSE, Event.CLOSED, Event.DISCONNECT], "ENDED", "CLOSED"),
        ([Event.CONNECT, Event.ACCEPT, Event.CLOSE, Event.DISCONNECT, Event.CLOSED], "ENDED", "CLOSED"),
        ([Event.CONNECT, Event.ACCEPT, Event.DISCONNECT], "ENDED", "CLOSED"),
        ([Event.CONNECT, Event.ACCEPT, Event.CLOSED, Event.CLOSED, Event.DISCONNECT], "ENDED", "CLOSED"),
        ([Event.CONNECT, Event.CLOSE, Event.CLOSED], "OPEN", "CLOSED"),
        ([Event.CONNECT, Event.DENY], "OPEN", "DENYING"),
        ([Event.CONNECT, Event.DENY, Event.DENIED], "OPEN", "CLOSED"),
        ([Event.DENY, Event.CLOSED], "CONNECTING", "CLOSED"),
        ([Event.CONNECT, Event.DENY, Event.DISCONNECT], "ENDED", "CLOSED"),
        ([Event.DISCONNECT], "ENDED", "CLOSED"),
        ([Event.CLOSED, Event.CONNECT, Event.DISCONNECT], "ENDED", "CLOSED"),
    ],
)
def test_the_lives_that_occur_are_legal(events: list[Event], inbound: str, outbound: str) -> None:
    """Accepted, refused, closed by either side, aborted: each ends where it should."""
    lifecycle = live(*events)
    assert (lifecycle.inbound.name, lifecycle.outbound.name) == (inbound, outbound)


@pytest.mark.parametrize(
    ("events", "illegal"),
    [
        ([Event.CONNECT], Event.CONNECT),
        ([Event.ACCEPT], Event.ACCEPT),
        ([Event.ACCEPT], Event.DENY),
        ([Event.CLOSE], Event.ACCEPT),
        ([Event.CLOSE], Event.CLOSE),
        ([Event.DENY], Event.ACCEPT),
        ([Event.DENY], Event.DENY),
        ([Event.DENY], Event.CLOSE),
        ([], Event.DENIED),
        ([Event.DENY, Event.DENIED], Event.DENIED),
        ([Event.ACCEPT, Event.CLOSED], Event.CLOSE),
        ([Event.DISCONNECT], Event.DISCONNECT),
        ([Event.DISCONNECT], Event.CONNECT),
        ([Event.DISCONNECT], Event.ACCEPT),
    ],
)
def test_what_is_not_in_the_table_is_refused(events: list[Event], illegal: Event) -> None:
    """The error names event and states, and nothing has moved."""
    lifecycle = live(*events)
    before = (lifecycle.inbound, lifecycle.outbound)
    assert not lifecycle.try_fire(illegal)
    assert (lifecycle.inbound, lifecycle.outbound) == before
    with pytest.raises(RuntimeError) as caught:
        lifecycle.fire(illegal)
    for word in (illegal.name, lifecycle.inbound.name, lifecycle.outbound.name):
        assert word in str(caught.value)
    assert (lifecycle.inbound, lifecycle.outbound) == before


def test_every_state_has_a_row() -> None:
    """The table is complete, and rows stay within their direction."""
    assert list(INBOUND) == list(InboundState)
    assert list(OUTBOUND) == list(OutboundState)
    assert {type(after) for row in INBOUND.values() for after in row.values()} == {InboundState}
    assert {type(after) for row in OUTBOUND.values() for after in row.values()} == {OutboundState}


def test_every_event_belongs_to_one_direction() -> None:
    """So one event never has two meanings."""
    inbound = {event for row in INBOUND.values() for event in row}
    outbound = {event for row in OUTBOUND.values() for event in row}
    assert not inbound & outbound
    assert inbound | outbound == set(Event)


def test_the_last_states_are_final() -> None:
    """Nothing leads out of ENDED and CLOSED."""
    assert INBOUND[InboundState.ENDED] == {}
    assert set(OUTBOUND[OutboundState.CLOSED].values()) == {OutboundState.CLOSED}


@pytest.mark.parametrize(("inbound", "outbound"), REACHABLE)
@pytest.mark.parametrize("event", Event)
def test_an_event_moves_along_the_table_or_is_refused(
    inbound: InboundState, outbound: OutboundState, event: Event
) -> None:
    """For each pair of states and each event, and both ways to fire."""
    lifecycle, tried = at(inbound, outbound), at(inbound, outbound)
    rows: dict[Event, InboundState | OutboundState] = {**INBOUND[inbound], **OUTBOUND[outbound]}
    assert tried.try_fire(event) == (event in rows)
    if event in rows:
        lifecycle.fire(event)
        assert rows[event] in (lifecycle.inbound, lifecycle.outbound)
    else:
        with pytest.raises(RuntimeError):
            lifecycle.fire(event)
    assert (tried.inbound, tried.outbound) == (lifecycle.inbound, lifecycle.outbound)


@settings(deadline=None)
@given(st.lists(st.sampled_from(Event), max_size=30))
def test_any_events_in_any_order_keep_the_rules(events: list[Event]) -> None:
    """Only known pairs occur, states never go back, and one disconnect at most is told."""
    lifecycle = Lifecycle()
    disconnects = 0
    for event in events:
        before = lifecycle.inbound.value, lifecycle.outbound.value
        if lifecycle.try_fire(event):
            disconnects += event is Event.DISCONNECT
        assert (lifecycle.inbound, lifecycle.outbound) in REACHABLE
        assert lifecycle.inbound.value >= before[0]
        assert lifecycle.outbound.value >= before[1]
    assert disconnects == (lifecycle.inbound is InboundState.ENDED)


def test_the_representation_names_both_states() -> None:
    """A life describes itself."""
    assert repr(live(Event.CONNECT, Event.ACCEPT)) == "<Lifecycle [inbound OPEN, outbound OPEN]>"
