"""Sends: a handler sends to its own peer in a loop."""

from __future__ import annotations

from statistics import median

from ..load import Swarm, frame_size
from ..systems import System

ROUNDS, WARM_UP = 5, 2


def measure(system: System, *, messages: int = 20_000, size: int = 128) -> dict[str, float]:
    """Messages a second to one client."""
    with system.running() as running, Swarm(running.port) as swarm:
        (client,) = swarm.connect("/", 1)
        expected = {client: messages * frame_size(size)}
        times = [
            swarm.gather(lambda: swarm.send(client, f"send {messages} {size}"), dict(expected)).seconds
            for _ in range(WARM_UP + ROUNDS)
        ]
    return {"sends/s": messages / median(times[WARM_UP:])}
