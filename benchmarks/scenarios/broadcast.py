"""Broadcast: how fast one message or a burst in one call reaches everybody, and when each client has it."""

from __future__ import annotations

from statistics import median

from ..member import Members
from ..systems import System

ROUNDS, WARM_UP = 12, 4


def measure(system: System, *, clients: int = 1000, burst: int = 1, size: int = 128) -> dict[str, float]:
    """Deliveries a second, the latencies of deliveries in milliseconds, how busy the client was."""
    with system.running() as running, Members(running, clients) as members:
        for _ in range(WARM_UP):
            members.broadcast(burst, size)
        arrivals = [members.broadcast(burst, size) for _ in range(ROUNDS)]
    seconds = median(arrival.seconds for arrival in arrivals)
    times = sorted(time for arrival in arrivals for time in arrival.times)
    return {
        "deliveries/s": clients * burst / seconds,
        "p50 ms": times[len(times) // 2] * 1000,
        "p99 ms": times[len(times) * 99 // 100] * 1000,
        "client busy": median(arrival.busy for arrival in arrivals),
    }
