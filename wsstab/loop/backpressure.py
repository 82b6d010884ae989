"""Backpressure: stalled peers are closed; lagging ones slow their senders, for a bounded time.

A connection lags from the moment its wire takes no more data until its queue is empty. A peer that takes nothing
at all for ``send_timeout`` is closed. A sender that is faster than every peer (a loop of broadcasts without a pause)
is paced, so that a healthy peer does not look slow: the sender waits while a queue is over half full and drains.
Each lagging peer has a fixed amount of patience; once it is used up, senders no longer wait for that peer.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from .members import Member
from .tasks import EventLoop
from .timekeeper import Timekeeper

__all__ = ["Backpressure"]

PATIENCE = 0.5
"""Seconds that a sender waits for a peer each time the peer falls behind."""
KEEPING_UP = 262_144
"""Bytes per second at which a peer counts as keeping up and uses up no patience."""
NAP = 0.05
"""Seconds after which a paced sender checks again, if nothing has woken it before."""
LAST_WORD = 1.0
"""Seconds that a stalled peer still has to take its close frame."""
MOST_GROWTH = 1_048_576
"""Bytes by which a blocked transport may grow. We write nothing then, so the server is answering a flood of pings."""


class Lag:
    """Progress of one connection while it is behind."""

    __slots__ = (
        "buffered",
        "buffered_first",
        "drained",
        "dropped",
        "patience",
        "progressed_at",
        "sent",
        "told",
        "waited_at",
    )

    def __init__(self, connection: Member, now: float, time: float) -> None:
        self.patience = PATIENCE
        self.progressed_at = now
        self.waited_at = time
        self.sent = connection.sender.messages
        self.buffered = self.buffered_first = connection.wire.buffered()
        self.drained = connection.sender.bytes - self.buffered
        self.dropped = connection.sender.queue.dropped
        self.told = False

    def progressed(self, connection: Member, now: float) -> None:
        """Record whether the peer has taken anything since the last check."""
        buffered = connection.wire.buffered()
        if connection.sender.messages != self.sent or buffered < self.buffered:
            self.progressed_at = now
            self.buffered_first = buffered
        self.sent = connection.sender.messages
        self.buffered = buffered

    def wait(self, connection: Member, time: float) -> None:
        """Charge the time a sender has waited for this peer to its patience, unless the peer keeps up."""
        # A longer wait than two naps is lag of our own loop, for which the peer does not pay.
        spent = min(time - self.waited_at, 2 * NAP)
        drained = connection.sender.bytes - connection.wire.buffered()
        if drained - self.drained >= spent * KEEPING_UP:
            self.patience = min(self.patience + spent, PATIENCE)
        else:
            self.patience -= spent
        self.waited_at = time
        self.drained = drained


class Backpressure:
    """The connections of one event loop that are behind.

    Args:
        loop: the event loop.
        timekeeper: the timekeeper of the same loop.

    Attributes:
        lagging: the connections that are behind.
    """

    def __init__(self, loop: EventLoop, timekeeper: Timekeeper) -> None:
        self._loop = loop
        self._timekeeper = timekeeper
        self.lagging: dict[Member, Lag] = {}
        self._progress: anyio.Event | None = None
        timekeeper.watch(self.look)

    def behind(self, connection: Member) -> None:
        """Note that the wire takes no more data, or that a message was queued for the connection."""
        if connection not in self.lagging:
            self.lagging[connection] = Lag(connection, self._timekeeper.now, self._loop.time())
            # Stalled peers are found by a check at each tick.
            self._timekeeper.wake()

    def caught_up(self, connection: Member) -> None:
        """Note that the wire takes data again; once its queue is empty, the connection is no longer behind."""
        if not connection.sender.queue:
            self.lagging.pop(connection, None)
        progress, self._progress = self._progress, None
        if progress is not None:
            progress.set()

    def is_news(self, connection: Member) -> bool:
        """Whether this lag has not been reported yet; asking marks it as reported."""
        lag = self.lagging.get(connection)
        if lag is None:
            return True
        news, lag.told = not lag.told, True
        return news

    def forget(self, connection: Member) -> None:
        """Drop a connection that is closing or gone."""
        if self.lagging.pop(connection, None) is not None:
            # Wakes the paced senders, which wait for this peer no longer.
            self.caught_up(connection)

    def look(self, now: float) -> bool:
        """Close stalled peers; return whether any connection is behind."""
        # A copy, because a connection that is closed here takes itself off the list.
        for connection, lag in list(self.lagging.items()):
            lag.progressed(connection, now)
            self._tell_of_drops(connection, lag)
            connection.heartbeat.sample()
            stalled = now - lag.progressed_at >= connection.config.outbound.send_timeout
            if stalled or (not connection.wire.writable and lag.buffered > lag.buffered_first + MOST_GROWTH):
                connection.sender.too_slow(within=LAST_WORD)
        return bool(self.lagging)

    async def pace(self, connections: Iterable[Member]) -> None:
        """Wait while the queue of one of these peers is crowded and its patience lasts, for a bounded time in total.

        Args:
            connections: the connections to which a message was just sent.
        """
        until = self._loop.time() + PATIENCE
        crowded = self._crowded(connections)
        for _, lag in crowded:
            # Time before this call, in which nobody waited for the peer, costs it one nap at most.
            lag.waited_at = max(lag.waited_at, self._loop.time() - NAP)
        while crowded and self._loop.time() < until:
            await self._some_progress()
            time = self._loop.time()
            for connection, lag in crowded:
                lag.wait(connection, time)
            crowded = self._crowded(connections)

    def _crowded(self, connections: Iterable[Member]) -> list[tuple[Member, Lag]]:
        pairs = [(connection, self.lagging.get(connection)) for connection in connections]
        return [(c, lag) for c, lag in pairs if lag is not None and lag.patience > 0 and c.sender.crowded]

    async def _some_progress(self) -> None:
        if self._progress is None:
            self._progress = anyio.Event()
        with anyio.move_on_after(NAP):
            await self._progress.wait()

    def _tell_of_drops(self, connection: Member, lag: Lag) -> None:
        if not lag.told and connection.sender.queue.dropped != lag.dropped:
            connection.sender.tell_slow()
