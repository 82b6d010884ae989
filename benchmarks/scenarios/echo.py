"""Echo: each client sends, waits for its own message, sends again."""

from __future__ import annotations

from ..load import Swarm
from ..systems import System

WARM_UP = 0.5


def measure(system: System, *, clients: int = 50, size: int = 128, seconds: float = 3.0) -> dict[str, float]:
    """Echoes a second, and the round trips in milliseconds."""
    with system.running() as running, Swarm(running.port) as swarm:
        members = swarm.connect("/echo", clients)
        swarm.echo(members, b"x" * size, WARM_UP)
        rate, trips, busy = swarm.echo(members, b"x" * size, seconds)
    return {
        "echoes/s": rate,
        "p50 ms": trips[len(trips) // 2] * 1000,
        "p99 ms": trips[len(trips) * 99 // 100] * 1000,
        "client busy": busy,
    }
