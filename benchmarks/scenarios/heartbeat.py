"""Heartbeat: what it costs to ask 10,000 idle clients every ten seconds whether they are there."""

from __future__ import annotations

import time

from ..load import Swarm
from ..systems import System

SETTLE = 2.0


def measure(
    system: System, *, clients: int = 10_000, interval: float = 10.0, seconds: float = 20.0
) -> dict[str, float]:
    """Percent of a core, and the longest stall in milliseconds."""
    with system.running(HEARTBEAT=str(interval)) as running, Swarm(running.port) as swarm:
        swarm.connect("/", clients)
        (control,) = swarm.connect("/", 1)
        swarm.answer_pings(SETTLE)
        cpu, began = running.cpu, time.perf_counter()
        swarm.answer_pings(seconds)
        used = (running.cpu - cpu) / (time.perf_counter() - began)
        # Only now, because the watch for stalls wakes up a thousand times a second.
        swarm.send(control, "stall")
        swarm.receive_text(control)
        swarm.answer_pings(seconds)
        swarm.send(control, "stall")
        return {"CPU %": used * 100, "stall ms": float(swarm.receive_text(control))}
