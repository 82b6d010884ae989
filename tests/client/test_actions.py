"""Actions: what they show of themselves, and that they never change."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from wsstab.client import actions
from wsstab.client.actions import Action, Connect, Deliver


def test_what_is_offered_is_in_no_representation() -> None:
    """It holds the names of sessions."""
    assert repr(Connect(7, ("wsstab.v1", "wsstab.new.7.secret"))) == "Connect(attempt=7)"


def test_an_action_does_not_change() -> None:
    """It may be kept, compared and printed."""
    action = Deliver("a")
    with pytest.raises(FrozenInstanceError):
        action.message = "b"  # type: ignore[misc]


def test_every_action_is_in_the_union() -> None:
    """Whoever carries them out can let a type checker see that none is forgotten."""
    assert {kind.__name__ for kind in get_args(Action)} == set(actions.__all__) - {"Action", "Message"}
