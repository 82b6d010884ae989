"""Eviction: keeps memory under its limits, and closes connections when it grows past them.

The ledger's policy chooses all victims in one step; only then are they closed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import ref

import anyio

from ..close import EVICTED
from ..config import WebSocketConfig
from ..connection import Peer, UserData
from ..core.memory import Ledger, estimate
from ..errors import MemoryLimitExceededError
from ..events import ConnectionEvicted, Event
from ..loop.tasks import EventLoop

__all__ = ["Evictor", "estimate_of"]

logger = logging.getLogger("wsstab")

SLICE = 500
"""References in user data to follow between two looks at the clock."""
LONGEST_SLICE = 0.005
"""Seconds of one turn of the event loop to spend on estimating user data again."""
LONGEST_REST = 0.02
"""Seconds between two such turns, at most."""


class Evictor:
    """Keeps a manager's memory within ``max_total_memory`` and ``max_memory_per_connection``.

    Args:
        config: the configuration of the manager.
        ledger: counts the memory.
        emit: receives the events.
        may_tell: whether one more log line of a kind may be written.

    Attributes:
        evicted: connections closed so far.
    """

    def __init__(
        self,
        config: WebSocketConfig,
        ledger: Ledger[Peer],
        emit: Callable[[Event], None],
        may_tell: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._emit = emit
        self._may_tell = may_tell
        self.evicted = 0
        self._recounting: set[EventLoop] = set()

    def charge(self, peer: Peer, delta: int) -> None:
        """Count memory of a peer, and evict if a limit is exceeded."""
        if delta:
            self._ledger.charge(peer, delta)
            if delta > 0:
                self.check(peer)

    def make_room(self, needed: int, spare: Peer) -> None:
        """Evict others until ``needed`` more bytes fit.

        Raises:
            MemoryLimitExceededError: evicting everybody else would not be enough.
        """
        limit = self._config.max_total_memory
        if limit is None:
            return
        total = self._ledger.total
        victims = self._ledger.victims(total + needed - limit, spare=spare) if total + needed > limit else []
        remaining = total - sum(victim.memory for victim in victims) + needed
        if remaining > limit:
            # Before the first eviction: an error must cost nobody a connection.
            raise MemoryLimitExceededError(limit, remaining)
        self._evict(victims)

    def keep_metadata(self, peer: Peer, metadata: dict[str, Any]) -> None:
        """Replace the metadata of a peer.

        Raises:
            MemoryLimitExceededError: ``max_memory_per_connection``, or in all and no eviction helps.
        """
        growth = estimate(metadata) - (estimate(peer.metadata) if peer.metadata else 0)
        self._check_growth(peer, growth)
        peer.metadata = metadata
        self.charge(peer, growth)

    def keep_user_data(self, peer: Peer, key: str, value: Any) -> None:
        """Keep a value in the user data of a peer.

        Raises:
            MemoryLimitExceededError: ``max_memory_per_connection``, or in all and no eviction helps.
        """
        data = peer.data if peer.data is not None else UserData()
        growth, size = data.growth(key, value)
        self._check_growth(peer, growth)
        peer.data = data
        data.set(key, value, size)
        self.charge(peer, growth)

    def _check_growth(self, peer: Peer, growth: int) -> None:
        limit = peer.config.max_memory_per_connection
        # The ledger counts a peer only from its accept on.
        held = estimate_of(peer) if peer.is_awaited else peer.memory
        if limit is not None and held + growth > limit:
            raise MemoryLimitExceededError(limit, held + growth)
        if growth > 0:
            self.make_room(growth, peer)

    def check(self, peer: Peer) -> None:
        """Evict if ``peer``, or all peers together, exceed a limit."""
        own_limit = peer.config.max_memory_per_connection
        if own_limit is not None and peer.memory > own_limit:
            self._evict([peer])
        limit = self._config.max_total_memory
        if limit is not None and self._ledger.total > limit:
            self._evict(self._ledger.victims(self._ledger.total - limit))

    def recount(self, peers: Iterable[Peer], loop: EventLoop) -> None:
        """Estimate user data again, since the application may have changed values in place; works in slices of time.

        Does nothing while an earlier estimate on this event loop is still running.

        Args:
            peers: the peers whose data to estimate; they are referred to weakly.
            loop: the event loop of all these peers.
        """
        if loop not in self._recounting:
            self._recounting.add(loop)
            # Weak, because the task rests between its slices, and must not keep peers that have closed meanwhile.
            loop.spawn(self._recount, [ref(peer) for peer in peers], loop)

    async def _recount(self, peers: list[ref[Peer]], loop: EventLoop) -> None:
        try:
            began = loop.time()
            for _ in self._estimates(peers):
                took = loop.time() - began
                if took >= LONGEST_SLICE:
                    # Give others as much time as this slice has taken.
                    await anyio.sleep(min(took, LONGEST_REST))
                    began = loop.time()
        finally:
            self._recounting.discard(loop)

    def _estimates(self, peers: list[ref[Peer]]) -> Iterator[None]:
        for each in peers:
            peer = each()
            if peer is None or peer.data is None:
                continue
            for growth in peer.data.recounting(SLICE):
                if peer.closing.close is not None:
                    break
                self.charge(peer, growth)
                yield
            yield

    def _evict(self, victims: list[Peer]) -> None:
        policy = self._config.memory_eviction_policy.value
        for victim in victims:
            if victim.closing.close is not None:
                continue
            self.evicted += 1
            freed = victim.memory
            told = {**victim.log_fields(), "policy": policy, "freed": freed}
            if self._may_tell("evicted"):
                logger.warning("! evicted %s: %d bytes freed by %s", victim.log_name(), freed, policy, extra=told)
            # Not flushed: the queue is memory too, and a slow peer would hold it for long.
            victim.closing.begin(EVICTED, flush=False)
            self._emit(ConnectionEvicted(victim.id, victim.client_id, policy, freed))


def estimate_of(peer: Peer) -> int:
    """Bytes of the metadata and user data of a peer."""
    metadata = estimate(peer.metadata) if peer.metadata else 0
    return metadata + (peer.data.size if peer.data is not None else 0)
