"""Stalled clients: does one in a hundred that reads nothing cost the others anything?"""

from __future__ import annotations

from ..member import Members
from ..systems import System

ROUNDS, WARM_UP = 120, 20


def measure(system: System, *, clients: int = 1000, stalled: int = 10, size: int = 4096) -> dict[str, float]:
    """The 99th percentile of the others' deliveries in milliseconds, without stalled clients too, and the ratio."""
    with system.running() as running, Members(running, clients) as members:
        before = percentile(members, size)
        # They are never polled: what is sent to them stays in their buffers, and then in the server.
        members.swarm.connect("/", stalled, receive_buffer=4096)
        members.swarm.leave_unread(stalled)
        beside = percentile(members, size)
    return {"p99 growth": beside / before, "p99 ms": beside, "without them": before}


def percentile(members: Members, size: int) -> float:
    """The 99th percentile of the deliveries in milliseconds."""
    times = [time for number in range(ROUNDS) for time in members.broadcast(1, size).times if number >= WARM_UP]
    times.sort()
    return times[len(times) * 99 // 100] * 1000
