"""Handshakes: how many a second, and what is left of a server after many have come and gone."""

from __future__ import annotations

import time

from ..load import AT_ONCE, Swarm
from ..systems import System


def measure(system: System, *, connections: int = 4000) -> dict[str, float]:
    """Handshakes a second, and the memory that the churn left behind, in bytes a connection."""
    with system.running() as running:
        with Swarm(running.port) as swarm:
            swarm.connect("/echo", AT_ONCE)
        before, took, made = running.memory, 0.0, 0
        while made < connections:
            with Swarm(running.port) as swarm:
                began = time.perf_counter()
                swarm.connect("/echo", AT_ONCE)
                took += time.perf_counter() - began
            made += AT_ONCE
        return {"handshakes/s": made / took, "left bytes": (running.memory - before) / made}
