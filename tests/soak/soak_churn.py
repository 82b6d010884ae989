"""Many connections come and go, and nothing of them stays."""

from __future__ import annotations

import pytest

from benchmarks.load import AT_ONCE, Swarm
from benchmarks.member import Members
from benchmarks.systems import SYSTEMS, Running, System

OURS = [system for system in SYSTEMS if system.name.startswith("wsstab")]
WARM_UP = 20_000
"""Connections after which a heap has its size: until then it grows with what the garbage collector has not seen."""
MOST_LEFT = 50
"""Bytes that a connection may leave behind from then on, on average: a leak of the smallest object would be more."""


def churn(running: Running, connections: int) -> None:
    """So many come, and vanish without a goodbye, 200 at a time."""
    for _ in range(connections // AT_ONCE):
        with Swarm(running.port) as swarm:
            swarm.connect("/echo", AT_ONCE)


@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_a_hundred_thousand_connections_leave_nothing(system: System) -> None:
    """However many there were before."""
    with system.running() as running:
        churn(running, WARM_UP)
        before = running.memory
        churn(running, 100_000)
        assert (running.memory - before) / 100_000 < MOST_LEFT


def test_a_long_time_of_broadcasts_beside_churn_reaches_everybody_and_leaves_nothing() -> None:
    """200 stay and get every byte of 4,000 broadcasts, while 20,000 others come and go."""
    with OURS[0].running() as running, Members(running, 200) as members:
        churn(running, WARM_UP)
        for _ in range(200):
            members.broadcast(1, 1000)
        before = running.memory
        for _ in range(100):
            with Swarm(running.port) as swarm:
                swarm.connect("/echo", 200)
                for _ in range(20):
                    members.broadcast(2, 1000)
        assert running.memory - before < 8_000_000
