"""What is known of each server."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from wsstab.wires.granian import GranianWire
from wsstab.wires.traits import ASGI, TRAITS, Traits


def test_each_variant_has_its_row_under_its_own_name() -> None:
    """Wires ask for theirs by it."""
    assert {name: row.server for name, row in TRAITS.items()} == {name: name for name in TRAITS}
    assert {name.split()[0] for name in TRAITS} == {"asgi", "uvicorn", "hypercorn", "granian", "daphne"}


def test_a_server_of_which_nothing_is_said_can_do_everything() -> None:
    """A row names only what is missing."""
    row = Traits("some")
    assert all(getattr(row, field.name) for field in fields(Traits) if field.type == "bool")
    assert row.largest_message is None


def test_of_an_unknown_server_only_what_is_safe_is_believed() -> None:
    """It gets no ping, no abort and no frame of ours, and its receive is not cancelled."""
    assert TRAITS["asgi"] is ASGI
    assert not any((ASGI.receive_cancellable, ASGI.native_ping, ASGI.can_abort, ASGI.native_frames, ASGI.deflate))
    assert ASGI.accept_headers


def test_a_wire_over_plain_asgi_knows_the_bound_of_its_server() -> None:
    """granian refuses larger messages whatever it is told."""
    assert GranianWire.traits is TRAITS["granian"]
    assert TRAITS["granian"].largest_message == 1 << 24
    assert not TRAITS["granian"].native_ping


def test_a_row_cannot_be_changed() -> None:
    """All connections of a process read the same one."""
    with pytest.raises(FrozenInstanceError):
        ASGI.native_ping = True  # type: ignore[misc]
