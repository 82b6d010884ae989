"""Two thousand peers die in every way, for at least a minute, on each server."""

from __future__ import annotations

import pytest

from tests.conftest import MakeLab
from tests.support.faults import churn, make_quick
from tests.support.server import Variant


@pytest.mark.parametrize("seed", [1])
def test_two_thousand_peers_that_die_in_every_way_leave_nothing(lab: MakeLab, variant: Variant, seed: int) -> None:
    """Registry, rooms, ledger, places, deadlines, tasks and descriptors are back to zero."""
    churn(make_quick(lab, variant), 2000, seed, least=60.0)
