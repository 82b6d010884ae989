"""What runs on one event loop for its connections: deadlines, reading, backpressure, the turn log.

A manager has one set of these for each loop on which it has connections: one in production, one a
socket under a test client that gives each socket its own loop.
"""

from __future__ import annotations

from collections.abc import Callable

from ..config import WebSocketConfig
from .backpressure import Backpressure
from .lingering import Lingering
from .members import Member, Socket
from .readahead import ReadAhead
from .tasks import EventLoop
from .timekeeper import Deadline, Timekeeper
from .turn_log import TurnLog

__all__ = ["Services"]


class Services:
    """The services of one event loop.

    Args:
        loop: the loop.
        config: of the manager.
        observe: where latencies go, by name.
        lingering: what has closed and is not gone; kept by the manager.

    Attributes:
        connections: how many connections this loop has.
        carried: how many of them have a socket of this package's.
        started: whether ``start()`` was called on this loop.
        draining: whether the manager is about to stop.
        heartbeats_sent: pings.
        heartbeats_missed: peers that died of silence.
    """

    def __init__(
        self,
        loop: EventLoop,
        config: WebSocketConfig,
        observe: Callable[[str, float], None],
        lingering: Lingering,
    ) -> None:
        self.loop = loop
        self._lingering = lingering
        self.timekeeper = Timekeeper(loop)
        self.backpressure = Backpressure(loop, self.timekeeper)
        self.readahead = ReadAhead(self.timekeeper)
        self.turn_log = TurnLog(
            loop, self.timekeeper, config.max_concurrent_broadcast, lambda seconds: observe("broadcast", seconds)
        )
        self._chores: dict[Callable[[], None], Deadline] = {}
        self.connections = self.carried = 0
        self.timekeeper.watch(lambda now: self.carried > 0)
        self.started = False
        self.draining = False
        self.heartbeats_sent = 0
        self.heartbeats_missed = 0

    @property
    def broadcaster(self) -> TurnLog:
        """The turn log, under the name by which programs that watch a manager know it."""
        return self.turn_log

    def heartbeats(self) -> dict[str, int]:
        """Its counters that a manager adds to its sums."""
        return {"heartbeats_sent": self.heartbeats_sent, "heartbeats_missed": self.heartbeats_missed}

    def every(self, seconds: float, chore: Callable[[], None]) -> None:
        """Call ``chore()`` every so many seconds, until `retire`."""

        def run(now: float) -> None:
            try:
                chore()
            finally:
                # It may have been what made the last connection leave.
                if chore in self._chores:
                    self._chores[chore] = self.timekeeper.schedule(run, now + seconds)

        self._chores[chore] = self.timekeeper.schedule(run, self.timekeeper.now + seconds)

    def retire(self) -> None:
        """No connection is left: nothing keeps the clock ticking but closes that are under way."""
        for deadline in self._chores.values():
            self.timekeeper.cancel(deadline)
        self._chores.clear()
        self.timekeeper.rest()

    def forget(self, connection: Member) -> None:
        """The connection is closing or gone."""
        self.backpressure.forget(connection)
        self.readahead.back(connection.carrier)

    def abort_later(self, wire: Socket, seconds: float) -> None:
        """Abort the TCP connection of a peer that did not leave by then. The first one to ask decides."""
        if wire.ends_now() or wire in self._lingering:
            return

        def abort(now: float) -> None:
            wire.abort()
            self._lingering.end(wire)

        def left() -> None:
            self._lingering.end(wire)
            self.timekeeper.cancel(deadline)
            # This refers to the wire, and the wire to this.
            wire.on_lost = _nobody

        deadline = self.timekeeper.schedule(abort, self.timekeeper.now + seconds)
        self._lingering.add(wire, self.loop)
        wire.on_lost = left


def _nobody() -> None:
    pass
