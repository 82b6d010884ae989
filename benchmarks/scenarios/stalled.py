"""Stalled clients: does one in a hundred that reads nothing cost the others anything?"""

from __future__ import annotations

from ..member import Members
from ..systems import System

ROUNDS, WARM_UP = 100, 10


def measure(system: System, *, clients: int = 1000, stalled: int = 0, size: int = 4096) -> dict[str, float]:
    """The 99th percentile of the others' deliveries, in milliseconds."""
    with system.running() as running, Members(running, clients) as members:
        # They are never polled: what is sent to them stays in their buffers, and then in the server.
        members.swarm.connect("/", stalled, receive_buffer=4096)
        members.swarm.leave_unread(stalled)
        times = [time for number in range(ROUNDS) for time in members.broadcast(1, size).times if number >= WARM_UP]
    times.sort()
    return {"p50 ms": times[len(times) // 2] * 1000, "p99 ms": times[len(times) * 99 // 100] * 1000}
