"""A million schedules of the simulation of wsstab.v1, and a million hostile peers."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

from hypothesis import HealthCheck, given, settings

from tests.sessions.hostile import INPUTS, Target
from tests.sessions.simulation import first_violation

SCHEDULES = 1_000_000
BEGIN = 1_000_000
"""The first seed; those below are for the suite."""
AT_ONCE = 5000


def run(first: int) -> tuple[int, str] | None:
    """Some of the schedules."""
    return first_violation(first, AT_ONCE)


def test_every_schedule_keeps_the_promises() -> None:
    """In as many processes as there are processors."""
    firsts = range(BEGIN, BEGIN + SCHEDULES, AT_ONCE)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        assert [found for found in pool.map(run, firsts) if found is not None] == []


@settings(max_examples=1_000_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(INPUTS)
def test_a_session_survives_a_million_hostile_peers(inputs: tuple[list[list[str]], list[str | bytes]]) -> None:
    """No crash and no growth."""
    Target().attack(*inputs)
