"""The lifecycle of a connection: the table of transitions, its rules, and the sequences that occur."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.core.lifecycle import INBOUND, OUTBOUND, InboundState, Lifecycle, OutboundState, Transition

REACHABLE = [
    (inbound, outbound)
    for inbound, outbound in product(InboundState, OutboundState)
    if inbound is not InboundState.ENDED or outbound is OutboundState.CLOSED
]


def at(inbound: InboundState, outbound: OutboundState) -> Lifecycle:
    """A lifecycle in these states."""
    lifecycle = Lifecycle()
    lifecycle.inbound, lifecycle.outbound = inbound, outbound
    return lifecycle


def live(*events: Transition) -> Lifecycle:
    """A lifecycle after these events."""
    lifecycle = Lifecycle()
    for event in events:
        lifecycle.fire(event)
    return lifecycle


def test_a_lifecycle_begins_connecting_in_both_directions() -> None:
    """Neither side has sent anything yet."""
    assert (Lifecycle().inbound, Lifecycle().outbound) == (InboundState.CONNECTING, OutboundState.CONNECTING)


@pytest.mark.parametrize(
    ("events", "inbound", "outbound"),
    [
        ([Transition.CONNECT, Transition.ACCEPT], "OPEN", "OPEN"),
        ([Transition.ACCEPT], "CONNECTING", "OPEN"),
        ([Transition.ACCEPT, Transition.CONNECT], "OPEN", "OPEN"),
        ([Transition.CONNECT, Transition.ACCEPT, Transition.CLOSE], "OPEN", "CLOSING"),
        ([Transition.CONNECT, Transition.ACCEPT, Transition.CLOSE, Transition.CLOSED], "OPEN", "CLOSED"),
        (
            [Transition.CONNECT, Transition.ACCEPT, Transition.CLOSE, Transition.CLOSED, Transition.DISCONNECT],
            "ENDED",
            "CLOSED",
        ),
        (
            [Transition.CONNECT, Transition.ACCEPT, Transition.CLOSE, Transition.DISCONNECT, Transition.CLOSED],
            "ENDED",
            "CLOSED",
        ),
        ([Transition.CONNECT, Transition.ACCEPT, Transition.DISCONNECT], "ENDED", "CLOSED"),
        (
            [Transition.CONNECT, Transition.ACCEPT, Transition.CLOSED, Transition.CLOSED, Transition.DISCONNECT],
            "ENDED",
            "CLOSED",
        ),
        ([Transition.CONNECT, Transition.CLOSE, Transition.CLOSED], "OPEN", "CLOSED"),
        ([Transition.CONNECT, Transition.DENY], "OPEN", "DENYING"),
        ([Transition.CONNECT, Transition.DENY, Transition.DENIED], "OPEN", "CLOSED"),
        ([Transition.DENY, Transition.CLOSED], "CONNECTING", "CLOSED"),
        ([Transition.CONNECT, Transition.DENY, Transition.DISCONNECT], "ENDED", "CLOSED"),
        ([Transition.DISCONNECT], "ENDED", "CLOSED"),
        ([Transition.CLOSED, Transition.CONNECT, Transition.DISCONNECT], "ENDED", "CLOSED"),
    ],
)
def test_the_sequences_that_occur_are_legal(events: list[Transition], inbound: str, outbound: str) -> None:
    """Accepted, denied, closed by either side or aborted: each sequence ends in the expected states."""
    lifecycle = live(*events)
    assert (lifecycle.inbound.name, lifecycle.outbound.name) == (inbound, outbound)


@pytest.mark.parametrize(
    ("events", "illegal"),
    [
        ([Transition.CONNECT], Transition.CONNECT),
        ([Transition.ACCEPT], Transition.ACCEPT),
        ([Transition.ACCEPT], Transition.DENY),
        ([Transition.CLOSE], Transition.ACCEPT),
        ([Transition.CLOSE], Transition.CLOSE),
        ([Transition.DENY], Transition.ACCEPT),
        ([Transition.DENY], Transition.DENY),
        ([Transition.DENY], Transition.CLOSE),
        ([], Transition.DENIED),
        ([Transition.DENY, Transition.DENIED], Transition.DENIED),
        ([Transition.ACCEPT, Transition.CLOSED], Transition.CLOSE),
        ([Transition.DISCONNECT], Transition.DISCONNECT),
        ([Transition.DISCONNECT], Transition.CONNECT),
        ([Transition.DISCONNECT], Transition.ACCEPT),
    ],
)
def test_an_event_that_is_not_in_the_table_is_refused(events: list[Transition], illegal: Transition) -> None:
    """The error names the event and both states, and no state changes."""
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
    """The table is complete, and a row leads only to states of its own direction."""
    assert list(INBOUND) == list(InboundState)
    assert list(OUTBOUND) == list(OutboundState)
    assert {type(after) for row in INBOUND.values() for after in row.values()} == {InboundState}
    assert {type(after) for row in OUTBOUND.values() for after in row.values()} == {OutboundState}


def test_every_event_belongs_to_one_direction() -> None:
    """Therefore no event has two meanings."""
    inbound = {event for row in INBOUND.values() for event in row}
    outbound = {event for row in OUTBOUND.values() for event in row}
    assert not inbound & outbound
    assert inbound | outbound == set(Transition)


def test_the_last_states_are_final() -> None:
    """No event leads out of ENDED or CLOSED."""
    assert INBOUND[InboundState.ENDED] == {}
    assert set(OUTBOUND[OutboundState.CLOSED].values()) == {OutboundState.CLOSED}


@pytest.mark.parametrize(("inbound", "outbound"), REACHABLE)
@pytest.mark.parametrize("event", Transition)
def test_an_event_moves_along_the_table_or_is_refused(
    inbound: InboundState, outbound: OutboundState, event: Transition
) -> None:
    """This holds for each pair of states and each event, with ``fire`` and with ``try_fire``."""
    lifecycle, tried = at(inbound, outbound), at(inbound, outbound)
    rows: dict[Transition, InboundState | OutboundState] = {**INBOUND[inbound], **OUTBOUND[outbound]}
    assert tried.try_fire(event) == (event in rows)
    if event in rows:
        lifecycle.fire(event)
        assert rows[event] in (lifecycle.inbound, lifecycle.outbound)
    else:
        with pytest.raises(RuntimeError):
            lifecycle.fire(event)
    assert (tried.inbound, tried.outbound) == (lifecycle.inbound, lifecycle.outbound)


@settings(deadline=None)
@given(st.lists(st.sampled_from(Transition), max_size=30))
def test_any_order_of_events_keeps_the_rules(events: list[Transition]) -> None:
    """Only reachable pairs of states occur, no state goes back, and at most one disconnect happens."""
    lifecycle = Lifecycle()
    disconnects = 0
    for event in events:
        before = lifecycle.inbound.value, lifecycle.outbound.value
        if lifecycle.try_fire(event):
            disconnects += event is Transition.DISCONNECT
        assert (lifecycle.inbound, lifecycle.outbound) in REACHABLE
        assert lifecycle.inbound.value >= before[0]
        assert lifecycle.outbound.value >= before[1]
    assert disconnects == (lifecycle.inbound is InboundState.ENDED)


def test_the_repr_names_both_states() -> None:
    assert repr(live(Transition.CONNECT, Transition.ACCEPT)) == "<Lifecycle [inbound OPEN, outbound OPEN]>"
