"""Traits: what is known of each server."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from wsstab.wires.granian import GranianWire
from wsstab.wires.traits import ASGI, TRAITS, Traits


def test_each_row_of_traits_is_listed_under_its_own_name() -> None:
    """A wire looks up its row by this name."""
    assert {name: row.server for name, row in TRAITS.items()} == {name: name for name in TRAITS}
    assert {name.split()[0] for name in TRAITS} == {"asgi", "uvicorn", "hypercorn", "granian", "daphne"}


def test_traits_claim_everything_by_default() -> None:
    """A row names only what its server cannot do."""
    row = Traits("some")
    assert all(getattr(row, field.name) for field in fields(Traits) if field.type == "bool")
    assert row.largest_message is None


def test_an_unknown_server_gets_only_safe_traits() -> None:
    """It gets no ping, no abort and no frames of ours, and its ``receive`` is never cancelled."""
    assert TRAITS["asgi"] is ASGI
    assert not any((ASGI.receive_cancellable, ASGI.native_ping, ASGI.can_abort, ASGI.native_frames, ASGI.deflate))
    assert ASGI.accept_headers


def test_the_granian_wire_knows_the_message_limit_of_its_server() -> None:
    """granian always refuses messages over 16 MiB."""
    assert GranianWire.traits is TRAITS["granian"]
    assert TRAITS["granian"].largest_message == 1 << 24
    assert not TRAITS["granian"].native_ping


def test_a_row_of_traits_is_immutable() -> None:
    """All connections of a process share it."""
    with pytest.raises(FrozenInstanceError):
        ASGI.native_ping = True  # type: ignore[misc]
