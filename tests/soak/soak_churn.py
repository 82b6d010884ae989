"""Many connections come and go, and nothing of them stays."""

from __future__ import annotations

import pytest

from benchmarks.load import Swarm
from benchmarks.member import Members
from benchmarks.scenarios import handshakes
from benchmarks.systems import SYSTEMS, System

OURS = [system for system in SYSTEMS if system.name.startswith("wsstab")]
MOST_LEFT = 50
"""Bytes that a connection may leave behind, on average: a leak of the smallest object would be more."""


@pytest.mark.parametrize("system", OURS, ids=lambda system: system.name)
def test_a_hundred_thousand_connections_leave_nothing(system: System) -> None:
    """They vanish without a goodbye, 200 at a time."""
    measured = handshakes.measure(system, connections=100_000)
    assert measured["left bytes"] < MOST_LEFT, measured


def test_a_long_time_of_broadcasts_beside_churn_reaches_everybody_and_leaves_nothing() -> None:
    """200 stay and get every byte of 4,000 broadcasts, while 20,000 others come and go."""
    with OURS[0].running() as running, Members(running, 200) as members:
        for _ in range(200):
            members.broadcast(1, 1000)
        before = running.memory
        for _ in range(100):
            with Swarm(running.port) as swarm:
                swarm.connect("/echo", 200)
                for _ in range(20):
                    members.broadcast(2, 1000)
        assert running.memory - before < 8_000_000
