"""SIGTERM: how long until the last of many clients is closed."""

from __future__ import annotations

import signal
import time

from ..load import Swarm
from ..systems import System

PATIENCE = 60.0


def measure(system: System, *, clients: int = 10_000) -> dict[str, float]:
    """Seconds until the last close, and the part of the clients that got a close frame."""
    with system.running(DRAIN="unpaced") as running, Swarm(running.port) as swarm:
        members = swarm.connect("/", clients)
        time.sleep(0.5)
        running.process.send_signal(signal.SIGTERM)
        took, closes = swarm.endings(members, PATIENCE)
    return {"seconds": took, "close frames": closes / clients}
