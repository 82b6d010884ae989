"""Memory: what one idle connection costs the server."""

from __future__ import annotations

import time

from ..load import Swarm
from ..member import DEFLATE
from ..systems import System

SETTLE = 1.0


def measure(system: System, *, clients: int = 10_000, deflate: bool = False) -> dict[str, float]:
    """Resident KiB for each idle connection."""
    offer = [DEFLATE] if deflate else []
    with system.running(COMPRESSION="deflate" if deflate else "none") as running, Swarm(running.port, offer) as swarm:
        swarm.connect("/", 100)
        time.sleep(SETTLE)
        before = running.memory
        swarm.connect("/", clients)
        time.sleep(SETTLE)
        return {"KiB/connection": (running.memory - before) / clients / 1024}
