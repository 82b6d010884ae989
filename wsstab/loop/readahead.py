"""Reading for handlers that do not: within a second somebody is always reading.

A peer that leaves is noticed only by who reads, and on some servers a pong too. Nothing is spawned
for a handler that comes back to ``receive()`` in time.
"""

from __future__ import annotations

from .members import MemberCarrier
from .timekeeper import Timekeeper

__all__ = ["ReadAhead"]

EVERY = 0.4
"""Seconds between two looks; a reader starts at the second one, so after 0.4 s to 0.8 s and a tick."""


class ReadAhead:
    """Watches the carriers whose handler is not in ``receive()``.

    Args:
        timekeeper: of the same event loop.
    """

    def __init__(self, timekeeper: Timekeeper) -> None:
        self._timekeeper = timekeeper
        self._away: set[MemberCarrier] = set()
        self._looked_at = timekeeper.now
        timekeeper.watch(self.look)

    def away(self, carrier: MemberCarrier) -> None:
        """Nobody reads from this carrier now."""
        if carrier.peer.closing.event is None:
            carrier.watched, carrier.away_seen = True, False
            self._away.add(carrier)
            self._timekeeper.wake()

    def back(self, carrier: MemberCarrier) -> None:
        """It need not be watched any more."""
        carrier.watched = False
        self._away.discard(carrier)

    def look(self, now: float) -> bool:
        """Start readers where nobody has read since the look before; whether there is anything to watch."""
        if now - self._looked_at >= EVERY:
            self._looked_at = now
            for carrier in list(self._away):
                self._look_at(carrier)
        return bool(self._away)

    def _look_at(self, carrier: MemberCarrier) -> None:
        if carrier.attended or carrier.peer.receiver.over:
            # Not at the moment when it is read from again: that comes with every message.
            self.back(carrier)
        elif not carrier.away_seen:
            carrier.away_seen = True
        elif not carrier.peer.receiver.full:
            carrier.read_ahead()
        else:
            carrier.look_behind()
