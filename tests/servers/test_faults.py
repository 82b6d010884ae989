"""Peers that die in every way leave nothing behind."""

from __future__ import annotations

from tests.conftest import MakeLab
from tests.support.faults import churn, make_quick
from tests.support.server import Variant


def test_two_hundred_peers_that_die_in_every_way_leave_nothing(lab: MakeLab, variant: Variant) -> None:
    """Registry, rooms, ledger, places, deadlines, tasks and descriptors are back to zero."""
    churn(make_quick(lab, variant), 200, seed=11)
