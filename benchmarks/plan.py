"""The scenarios that are measured, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .scenarios import (
    broadcast,
    deflate,
    echo,
    growth,
    handshakes,
    heartbeat,
    http,
    memory,
    rooms,
    sends,
    shutdown,
    stalled,
    stalls,
)
from .systems import System

__all__ = ["EVERY_DAY", "SCENARIOS", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """One thing to measure.

    Args:
        title: its title in the tables.
        measure: measures one system once, or all of them if ``together`` is true.
        size: the arguments of ``measure``.
        needs: the capability of the systems that take part.
        together: whether all systems run at the same time, and are measured in short slices by turns.
    """

    title: str
    measure: Callable[..., Mapping[str, Any]]
    size: Mapping[str, Any] = field(default_factory=dict)
    needs: str = "broadcast"
    together: bool = False

    def turn(self, systems: Sequence[System]) -> Iterator[tuple[System, Mapping[str, float] | Exception]]:
        """Measure each system once; the error takes the place of the result where that fails."""
        parts = [systems] if self.together else [[system] for system in systems]
        for part in parts:
            try:
                measured = self.measure(part if self.together else part[0], **self.size)
            except (RuntimeError, OSError, TimeoutError, ConnectionError) as error:
                yield from ((system, error) for system in part)
            else:
                yield from ((system, measured[system.name] if self.together else measured) for system in part)


SCENARIOS = {
    "single": Scenario("one message of 128 B to 1,000 clients", broadcast.measure),
    "burst": Scenario("a burst of 20 of 128 B to 1,000 clients", broadcast.measure, {"burst": 20}),
    "single-4k": Scenario("one message of 4 KiB to 1,000 clients", broadcast.measure, {"size": 4096}),
    "burst-4k": Scenario("a burst of 20 of 4 KiB to 1,000 clients", broadcast.measure, {"burst": 20, "size": 4096}),
    "single-10k": Scenario("one message of 128 B to 10,000 clients", broadcast.measure, {"clients": 10_000}),
    "burst-10k": Scenario("a burst of 20 of 128 B to 10,000", broadcast.measure, {"clients": 10_000, "burst": 20}),
    "deflate-128": Scenario("128 B of JSON to 1,000, deflate offered", deflate.measure, {"size": 128}, "command"),
    "deflate-1k": Scenario("1 KiB of JSON to 1,000, deflate offered", deflate.measure, {}, "command"),
    "deflate-16k": Scenario("16 KiB of JSON to 1,000, deflate offered", deflate.measure, {"size": 16_384}, "command"),
    "deflate-burst": Scenario(
        "a burst of 20 of 4 KiB of JSON, deflate offered", deflate.measure, {"size": 4096, "burst": 20}, "command"
    ),
    "rooms": Scenario("one message to one of 1,000 rooms of 10", rooms.measure, needs="rooms"),
    "growth": Scenario("one message of 128 B to 10,000 and to 1,000 clients", growth.measure, {}, "command"),
    "echo": Scenario("echo of 128 B, 50 clients", echo.measure, needs="echo"),
    "echo-1k": Scenario("echo of 128 B, 1,000 clients", echo.measure, {"clients": 1000}, "echo"),
    "echo-observed": Scenario("echo of 128 B beneath an observer", echo.measure, needs="observed"),
    "burst-observed": Scenario("a burst of 20 beneath an observer", broadcast.measure, {"burst": 20}, "observed"),
    "sends": Scenario("a handler's own loop of sends of 128 B", sends.measure, needs="sends"),
    "handshakes": Scenario("handshakes", handshakes.measure, needs="echo"),
    "churn": Scenario("churn of 100,000 connections", handshakes.measure, {"connections": 100_000}, "command"),
    "memory": Scenario("idle connections, deflate not offered", memory.measure),
    "memory-deflate": Scenario("idle connections, deflate offered", memory.measure, {"deflate": True}),
    "heartbeat": Scenario("heartbeat of 10,000 idle clients every 10 s", heartbeat.measure, {}, "heartbeat"),
    "stalls": Scenario("loop stall, one message of 4 KiB to 10,000", stalls.measure, {}, "command"),
    "stalls-burst": Scenario("loop stall, 20 of 4 KiB to 10,000", stalls.measure, {"burst": 20}, "command"),
    "stalled": Scenario("4 KiB to 1,000 clients beside 10 stalled ones", stalled.measure, {}, "command"),
    "shutdown": Scenario("SIGTERM with 10,000 clients", shutdown.measure, {}, "command"),
    "http": Scenario("HTTP requests beside it", http.measure, {}, "http", together=True),
}
EVERY_DAY = ("single", "burst", "echo", "handshakes", "http")
"""The scenarios that run when none is named."""
