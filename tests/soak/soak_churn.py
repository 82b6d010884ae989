"""Many connections come and go, and leave nothing behind."""

from __future__ import annotations

import pytest

from benchmarks.load import AT_ONCE, Swarm
from benchmarks.member import Members
from benchmarks.systems import SYSTEMS, Running, System

OURS = [system for system in SYSTEMS if system.name.startswith("wsstab")]
WARM_UP = 20_000
"""Connections after which a heap keeps its size: before, it grows by what was not garbage-collected yet."""
MOST_LEFT = 50
"""Bytes that a connection may leave behind after that, on average: a leak of the smallest object would be more."""


def churn(running: Running, connections: int) -> None:
    """Open this many connections, 200 at a time, and let them vanish without a close frame."""
    for _ in range(connections // AT_ONCE):
        with Swarm(running.port) as swarm:
            swarm.connect("/echo", AT_ONCE)


@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_a_hundred_thousand_connections_leave_nothing(system: System) -> None:
    """The memory does not grow with them once the heap has its size."""
    with system.running() as running:
        churn(running, WARM_UP)
        before = running.memory
        churn(running, 100_000)
        assert (running.memory - before) / 100_000 < MOST_LEFT


def test_broadcasts_during_churn_reach_everybody_and_leave_nothing() -> None:
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
