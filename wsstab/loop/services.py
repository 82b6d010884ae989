"""Services that run on one event loop for its connections: deadlines, read-ahead, backpressure, the turn log.

A manager has one set for each event loop on which it has connections: one in production, one per
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
        loop: the event loop.
        config: the configuration of the manager.
        observe: called with the name of a latency and its value in seconds.
        lingering: the wires that have closed while their sockets still exist; shared by the whole manager.

    Attributes:
        connections: number of connections on this loop.
        carried: number of them that have a socket of this package.
        started: whether ``start()`` was called on this loop.
        draining: whether the manager is about to stop.
        heartbeats_sent: number of pings sent.
        heartbeats_missed: number of peers closed because they stayed silent.
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
        """Alias of `turn_log`, kept for programs that monitor a manager under this name."""
        return self.turn_log

    def heartbeats(self) -> dict[str, int]:
        """The heartbeat counters of this loop, which the manager adds up."""
        return {"heartbeats_sent": self.heartbeats_sent, "heartbeats_missed": self.heartbeats_missed}

    def every(self, seconds: float, chore: Callable[[], None]) -> None:
        """Call ``chore()`` every ``seconds`` seconds, until `retire`."""

        def run(now: float) -> None:
            try:
                chore()
            finally:
                # The chore itself may have closed the last connection, which retires all chores.
                if chore in self._chores:
                    self._chores[chore] = self.timekeeper.schedule(run, now + seconds)

        self._chores[chore] = self.timekeeper.schedule(run, self.timekeeper.now + seconds)

    def retire(self) -> None:
        """Stop the chores when no connection is left, so that only closes under way keep the clock ticking."""
        for deadline in self._chores.values():
            self.timekeeper.cancel(deadline)
        self._chores.clear()
        self.timekeeper.rest()

    def forget(self, connection: Member) -> None:
        """Drop a connection that is closing or gone."""
        self.backpressure.forget(connection)
        self.readahead.back(connection.carrier)

    def abort_later(self, wire: Socket, seconds: float) -> None:
        """Abort the TCP connection after ``seconds`` if the peer has not left by then. Only the first call counts."""
        # A peer that closed first leaves in this turn of the loop, and a deadline for it would make every handshake
        # cost more.
        if wire.ends_now() or wire in self._lingering:
            return

        def abort(now: float) -> None:
            wire.abort()
            self._lingering.end(wire)

        def left() -> None:
            self._lingering.end(wire)
            self.timekeeper.cancel(deadline)
            # Break the reference cycle between this function and the wire.
            wire.on_lost = _nobody

        deadline = self.timekeeper.schedule(abort, self.timekeeper.now + seconds)
        self._lingering.add(wire, self.loop)
        wire.on_lost = left


def _nobody() -> None:
    pass
