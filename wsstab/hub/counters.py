"""Counters of a manager: what was, and what still moves.

Traffic is counted by each connection and summed up when somebody asks. A connection that is over
leaves its sums here; until its close is done it is listed as closing, because its counters still move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..core.histogram import LatencyHistogram
from ..loop.services import Services

if TYPE_CHECKING:
    from ..connection import Peer

__all__ = ["Counters"]


class Counters:
    """What a manager has counted.

    Args:
        latencies: names of the latencies to measure.

    Attributes:
        opened: connections whose handshake was complete.
        closed: connections that are over, by close code.
        refused: refusals, by the limit that was hit.
    """

    def __init__(self, latencies: Iterable[str] = ()) -> None:
        self.opened = 0
        self.closed: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self._past: Counter[str] = Counter()
        self._closing: set[Peer] = set()
        self._latencies = {name: LatencyHistogram() for name in latencies}

    def closing(self, peer: Peer) -> None:
        """It is listed no more, and still counts."""
        self._closing.add(peer)

    def over(self, peer: Peer) -> None:
        """It counts no more; nothing happens when it was never listed, or is over already."""
        if peer in self._closing:
            self._closing.discard(peer)
            add(self._past, peer.traffic())
            if peer.closing.close is not None:
                self.closed[int(peer.closing.close.code)] += 1

    def missed(self) -> None:
        """A message came for a connection that was over."""
        self._past["dropped_outbound"] += 1

    def retire(self, services: Services) -> None:
        """The services of an event loop have ended: keep what they counted."""
        add(self._past, services.heartbeats())

    def observe(self, name: str, seconds: float) -> None:
        """Note a latency, if it is measured."""
        histogram = self._latencies.get(name)
        if histogram is not None:
            histogram.observe(seconds)

    def snapshot(self, listed: Iterable[Peer], loops: Iterable[Services]) -> dict[str, Any]:
        """What has been counted, by field of `wsstab.reports.Statistics`; what is not there is 0.

        Args:
            listed: the peers that are open.
            loops: the services that have not ended.
        """
        sums = self._past.copy()
        for peer in [*listed, *list(self._closing)]:
            add(sums, peer.traffic())
        for services in loops:
            add(sums, services.heartbeats())
        return {
            **sums,
            "opened": self.opened,
            "closed": dict(self.closed),
            "refused": dict(self.refused),
            "latencies": {name: histogram.snapshot() for name, histogram in self._latencies.items()},
        }


def add(sums: Counter[str], counted: dict[str, int]) -> None:
    """As `Counter.update`, in a third of its time: most of them are 0 where nobody has said anything."""
    for name, number in counted.items():
        if number:
            sums[name] += number
