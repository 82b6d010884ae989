"""A crowd that dies in every way, and what is left of it."""

from __future__ import annotations

from tests.conftest import MakeLab
from tests.support.faults import churn, make_quick
from tests.support.server import Variant


def test_two_hundred_that_die_in_every_way_leave_nothing(lab: MakeLab, variant: Variant) -> None:
    """Registry, rooms, ledger, places, deadlines, tasks and descriptors are back at nothing."""
    churn(make_quick(lab, variant), 200, seed=11)
