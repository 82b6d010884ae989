"""The targets: ratios between systems of one run, and a few bounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .plan import SCENARIOS
from .report import Result, number

__all__ = ["TARGETS", "Target", "judged"]

OURS = "wsstab"
RATE = "deliveries/s"


@dataclass(frozen=True)
class Target:
    """One target.

    Args:
        scenario: the name of the scenario.
        metric: the name of the metric.
        least: the value must be this or more.
        most: the value must be this or less; one of the two is given.
        against: the system whose value ours is divided by; ``None``: ours alone.
        ours: which of our own systems.
        difference: whether their value is subtracted from ours instead of dividing it.
    """

    scenario: str
    metric: str
    least: float | None = None
    most: float | None = None
    against: str | None = None
    ours: str = OURS
    difference: bool = False

    def value(self, results: Sequence[Result]) -> float | None:
        """What was measured; ``None`` where a system was left out."""
        title = SCENARIOS[self.scenario].title
        medians = {each.system: each.median(self.metric) for each in results if each.scenario == title}
        if self.ours not in medians:
            return None
        if self.against is None:
            return medians[self.ours]
        if self.against not in medians:
            return None
        if self.difference:
            return medians[self.ours] - medians[self.against]
        return medians[self.ours] / medians[self.against] if medians[self.against] else None

    def reached(self, value: float) -> bool:
        """Whether that is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def text(self) -> str:
        """The target in words."""
        relation = " minus " if self.difference else " ÷ "
        whose = self.ours if self.against is None else f"{self.ours}{relation}{self.against}"
        return f"{SCENARIOS[self.scenario].title}: {self.metric}, {whose}"

    @property
    def bound(self) -> str:
        """The bound that is asked for."""
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


def _asked() -> Iterator[Target]:
    for system, least in (
        ("limit: write each", 0.9),
        ("picows", 0.9),
        ("websockets", 1.3),
        ("Starlette loop", 1.8),
        ("fastapi-websocket-stabilizer", 3.0),
    ):
        yield Target("single", RATE, least, against=system)
    for system, least in (
        ("limit: joined", 0.8),
        ("Bun", 0.7),
        ("picows", 6.0),
        ("Starlette loop", 15.0),
        ("fastapi-websocket-stabilizer", 40.0),
        ("python-socketio", 100.0),
    ):
        yield Target("burst", RATE, least, against=system)
    yield Target("single", RATE, 0.9, against="limit: write each asyncio", ours="wsstab asyncio")
    yield Target("burst", RATE, 0.8, against="limit: joined asyncio", ours="wsstab asyncio")
    for server in ("hypercorn", "granian"):
        for scenario in ("single", "burst"):
            yield Target(scenario, RATE, 1.3, against=f"gather on {server}", ours=f"wsstab on {server}")
    for scenario in ("echo", "echo-1k"):
        yield Target(scenario, "echoes/s", 0.95, against="Starlette loop")
        yield Target(scenario, "p99 ms", most=1.05, against="Starlette loop")
    yield Target("sends", "sends/s", 0.5, against="Starlette beneath middleware", ours="wsstab beneath middleware")
    for observer in ("OpenTelemetry", "Sentry"):
        ours = f"wsstab beneath {observer}"
        yield Target("echo-observed", "echoes/s", 0.95, against="wsstab", ours=ours)
        yield Target("burst-observed", RATE, 0.95, against="wsstab", ours=ours)
    yield Target("handshakes", "handshakes/s", 0.9, against="Starlette loop")
    yield Target("memory", "KiB/connection", most=2.0, against="Starlette loop", difference=True)
    yield Target("memory-deflate", "KiB/connection", most=0.55, against="Starlette loop")
    yield Target("heartbeat", "CPU %", most=0.7, against="uvicorn's keepalive")
    yield Target("heartbeat", "stall ms", most=5.0)
    yield Target("stalls", "stall ms", most=10.0)
    yield Target("stalls-burst", "stall ms", most=10.0)
    yield Target("stalled", "p99 growth", most=1.1)
    yield Target("shutdown", "seconds", most=3.0)
    yield Target("shutdown", "close frames", 1.0)
    yield Target("http", "requests/s", 0.99, against="Starlette loop")
    yield Target("growth", "growth", most=1.15)
    yield Target("growth", "room growth", most=1.15)


TARGETS = list(_asked())
"""All targets."""


def judged(results: Sequence[Result]) -> str:
    """A line for each target that this run can judge."""
    lines = []
    for target in TARGETS:
        value = target.value(results)
        if value is not None:
            mark = "reached" if target.reached(value) else "MISSED"
            lines.append(f"{mark:8} {number(value):>7}  {target.bound:7} {target.text}\n")
    return "".join(lines)
