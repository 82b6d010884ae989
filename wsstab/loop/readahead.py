"""Read-ahead: reads on behalf of handlers that have not called ``receive()`` for up to a second.

Only a pending read notices that a peer leaves; on some servers the same holds for a pong. No task is
spawned for a handler that comes back to ``receive()`` in time.
"""

from __future__ import annotations

from .members import MemberCarrier
from .timekeeper import Timekeeper

__all__ = ["ReadAhead"]

EVERY = 0.4
"""Seconds between two checks. A reader starts at the second one, so after 0.4 s to 0.8 s plus a tick."""


class ReadAhead:
    """Watches the carriers whose handler is not in ``receive()``.

    Args:
        timekeeper: the timekeeper of the same event loop.
    """

    def __init__(self, timekeeper: Timekeeper) -> None:
        self._timekeeper = timekeeper
        self._away: set[MemberCarrier] = set()
        self._looked_at = timekeeper.now
        timekeeper.watch(self.look)

    def away(self, carrier: MemberCarrier) -> None:
        """Watch a carrier that nobody reads from now."""
        if carrier.peer.closing.event is None:
            carrier.watched, carrier.away_seen = True, False
            self._away.add(carrier)
            self._timekeeper.wake()

    def back(self, carrier: MemberCarrier) -> None:
        """Stop watching a carrier."""
        carrier.watched = False
        self._away.discard(carrier)

    def look(self, now: float) -> bool:
        """Start readers where nobody has read since the previous check; return whether any carrier is watched."""
        if now - self._looked_at >= EVERY:
            self._looked_at = now
            # A copy, because a carrier that is read from again takes itself off the set here.
            for carrier in list(self._away):
                self._look_at(carrier)
        return bool(self._away)

    def _look_at(self, carrier: MemberCarrier) -> None:
        if carrier.attended or carrier.peer.receiver.over:
            # Unwatched here and not when the handler reads again, because that happens with every message.
            self.back(carrier)
        elif not carrier.away_seen:
            carrier.away_seen = True
        elif not carrier.peer.receiver.full:
            carrier.read_ahead()
        else:
            carrier.look_behind()
