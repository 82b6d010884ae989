"""Compression: JSON to clients that offer permessage-deflate; how fast, how many bytes, how much of the processor."""

from __future__ import annotations

from statistics import median

from ..member import Members
from ..systems import System

ROUNDS, WARM_UP = 20, 3


def measure(system: System, *, clients: int = 1000, burst: int = 1, size: int = 1024) -> dict[str, float]:
    """Deliveries a second, bytes on the wire for each, microseconds of the server's processor for each."""
    with system.running(COMPRESSION="deflate") as running, Members(running, clients, deflate=True) as members:
        for _ in range(WARM_UP):
            members.broadcast_json(burst, size)
        cpu = running.cpu
        arrivals = [members.broadcast_json(burst, size) for _ in range(ROUNDS)]
        used = running.cpu - cpu
    deliveries = clients * burst
    return {
        "deliveries/s": deliveries / median(arrival.seconds for arrival in arrivals),
        "bytes each": sum(arrival.received for arrival in arrivals) / ROUNDS / deliveries,
        "CPU µs each": used / ROUNDS / deliveries * 1e6,
        "client busy": median(arrival.busy for arrival in arrivals),
    }
