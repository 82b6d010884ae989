"""Counters of a manager: what was, and what still moves.

Traffic is counted by each connection and summed up when somebody asks. A connection that is over
leaves its sums here; until its close is done it is listed as closing, because its counters still move.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..core.histogram import LatencyHistogram
from ..loop.services import Services

if TYPE_CHECKING:
    from ..connection import Connection
    from ..reports import Histogram

__all__ = ["Counters"]


class Counters:
    """What a manager has counted.

    Args:
        latencies: names of the latencies to measure.

    Attributes:
        opened: connections whose handshake was complete.
        closed: connections that are over, by close code.
        refused: refusals, by the limit that was hit.
        heartbeats_sent: of event loops whose services have ended.
        heartbeats_missed: of event loops whose services have ended.
    """

    def __init__(self, latencies: Iterable[str] = ()) -> None:
        self.opened = 0
        self.closed: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()
        self.heartbeats_sent = self.heartbeats_missed = 0
        self._past: Counter[str] = Counter()
        self._closing: set[Connection] = set()
        self._latencies = {name: LatencyHistogram() for name in latencies}

    def closing(self, connection: Connection) -> None:
        """It is listed no more, and still counts."""
        self._closing.add(connection)

    def over(self, connection: Connection) -> None:
        """It counts no more; nothing happens when it was never listed, or is over already."""
        if connection in self._closing:
            self._closing.discard(connection)
            add(self._past, traffic_of(connection))
            if connection.ending.close is not None:
                self.closed[int(connection.ending.close.code)] += 1

    def missed(self) -> None:
        """A message came for a connection that was over."""
        self._past["dropped_outbound"] += 1

    def retire(self, services: Services) -> None:
        """The services of an event loop have ended: keep what they counted."""
        self.heartbeats_sent += services.heartbeats_sent
        self.heartbeats_missed += services.heartbeats_missed

    def observe(self, name: str, seconds: float) -> None:
        """Note a latency, if it is measured."""
        histogram = self._latencies.get(name)
        if histogram is not None:
            histogram.observe(seconds)

    def latencies(self) -> dict[str, Histogram]:
        """A snapshot of each latency that is measured."""
        return {name: histogram.snapshot() for name, histogram in self._latencies.items()}

    def traffic(self, listed: Iterable[Connection]) -> Counter[str]:
        """The sums of all connections there ever were.

        Args:
            listed: those that are open.
        """
        sums = self._past.copy()
        for connection in [*listed, *list(self._closing)]:
            add(sums, traffic_of(connection))
        return sums


def add(sums: Counter[str], counted: dict[str, int]) -> None:
    """As `Counter.update`, in a third of its time: most of them are 0 where nobody has said anything."""
    for name, number in counted.items():
        if number:
            sums[name] += number


def traffic_of(connection: Connection) -> dict[str, int]:
    """The counters of a connection that live on in the sums."""
    return {
        "messages_received": connection.receiver.messages,
        "bytes_received": connection.receiver.bytes,
        "messages_sent": connection.sender.messages,
        "bytes_sent": connection.sender.bytes,
        "dropped_outbound": connection.sender.queue.dropped,
        "dropped_inbound": connection.receiver.dropped,
    }
