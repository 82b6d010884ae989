"""Stalls: for how long a broadcast keeps the event loop from everything else."""

from __future__ import annotations

from statistics import median

from ..member import Members
from ..systems import System

ROUNDS = 5


def measure(system: System, *, clients: int = 10_000, burst: int = 1, size: int = 4096) -> dict[str, float]:
    """Milliseconds of the longest stall, the median of some broadcasts."""
    stalls = []
    with system.running() as running, Members(running, clients) as members:
        members.broadcast(burst, size)
        members.stall()
        for _ in range(ROUNDS):
            members.broadcast(burst, size)
            stalls.append(members.stall())
    return {"stall ms": median(stalls)}
