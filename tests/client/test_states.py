"""The states of a client: the table and its rules."""

from __future__ import annotations

from wsstab.client.states import STATES, ClientState, ClientStep

WITHOUT_A_CARRIER = {ClientState.DETACHED, ClientState.CLOSED}


def test_every_state_has_a_row_and_every_step_is_used() -> None:
    """The table is complete."""
    assert list(STATES) == list(ClientState)
    assert {step for row in STATES.values() for step in row} == set(ClientStep)


def test_the_end_of_a_carrier_leads_through_detached_from_every_state_that_has_one() -> None:
    """What it means is decided there."""
    losing = {state for state, row in STATES.items() if row.get(ClientStep.LOSE) is ClientState.DETACHED}
    assert losing == set(ClientState) - WITHOUT_A_CARRIER


def test_a_carrier_begins_and_all_ends_in_detached_only() -> None:
    """So there is never more than one carrier, and none is left behind."""
    for step in (ClientStep.CONNECT, ClientStep.END):
        assert {state for state, row in STATES.items() if step in row} == {ClientState.DETACHED}


def test_the_last_state_is_final() -> None:
    """Nothing leads out of it."""
    assert STATES[ClientState.CLOSED] == {}
