"""Eviction: brings memory back under its limits.

Decides first, in one step (whom, by the ledger's policy), then closes.
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
"""References of user data that are followed until the clock is looked at."""
LONGEST_SLICE = 0.005
"""Seconds for which user data is estimated again in one turn of the loop."""
LONGEST_REST = 0.02
"""Seconds between two such turns, when others leave no time."""


class Evictor:
    """Keeps a manager's memory within ``max_total_memory`` and ``max_memory_per_connection``.

    Args:
        config: of the manager.
        ledger: where memory is counted.
        emit: where events go.
        may_tell: whether a line of this kind may be logged.

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
        """Count memory, and evict where it becomes too much."""
        if delta:
            self._ledger.charge(peer, delta)
            if delta > 0:
                self.check(peer)

    def make_room(self, needed: int, spare: Peer) -> None:
        """Evict others until ``needed`` more bytes fit.

        Raises:
            MemoryLimitExceededError: they do not, whoever is evicted.
        """
        limit = self._config.max_total_memory
        if limit is None:
            return
        total = self._ledger.total
        victims = self._ledger.victims(total + needed - limit, spare=spare) if total + needed > limit else []
        remaining = total - sum(victim.memory for victim in victims) + needed
        if remaining > limit:
            raise MemoryLimitExceededError(limit, remaining)
        self._evict(victims)

    def keep_metadata(self, peer: Peer, metadata: dict[str, Any]) -> None:
        """Keep this with a peer, in the place of what there is.

        Raises:
            MemoryLimitExceededError: ``max_memory_per_connection``, or in all and no eviction helps.
        """
        growth = estimate(metadata) - (estimate(peer.metadata) if peer.metadata else 0)
        self._check_growth(peer, growth)
        peer.metadata = metadata
        self.charge(peer, growth)

    def keep_user_data(self, peer: Peer, key: str, value: Any) -> None:
        """Keep a value with a peer.

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
        # Nothing is counted before accept.
        held = estimate_of(peer) if peer.is_awaited else peer.memory
        if limit is not None and held + growth > limit:
            raise MemoryLimitExceededError(limit, held + growth)
        if growth > 0:
            self.make_room(growth, peer)

    def check(self, peer: Peer) -> None:
        """``peer`` holds more than before: is that too much, for it or in all?"""
        own_limit = peer.config.max_memory_per_connection
        if own_limit is not None and peer.memory > own_limit:
            self._evict([peer])
        limit = self._config.max_total_memory
        if limit is not None and self._ledger.total > limit:
            self._evict(self._ledger.victims(self._ledger.total - limit))

    def recount(self, connections: Iterable[Peer], loop: EventLoop) -> None:
        """Estimate user data again, which the application may have changed in place, in slices of time.

        While the last estimate goes on, there is no other.

        Args:
            connections: whose; none of them is kept alive by this.
            loop: on which they all are.
        """
        if loop not in self._recounting:
            self._recounting.add(loop)
            loop.spawn(self._recount, [ref(peer) for peer in connections], loop)

    async def _recount(self, connections: list[ref[Peer]], loop: EventLoop) -> None:
        try:
            began = loop.time()
            for _ in self._estimates(connections):
                took = loop.time() - began
                if took >= LONGEST_SLICE:
                    # As long as it has stood, the loop belongs to others.
                    await anyio.sleep(min(took, LONGEST_REST))
                    began = loop.time()
        finally:
            self._recounting.discard(loop)

    def _estimates(self, connections: list[ref[Peer]]) -> Iterator[None]:
        for each in connections:
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
            victim.closing.begin(EVICTED, flush=False)
            self._emit(ConnectionEvicted(victim.id, victim.client_id, policy, freed))


def estimate_of(peer: Peer) -> int:
    """Bytes of what an application keeps with a peer."""
    metadata = estimate(peer.metadata) if peer.metadata else 0
    return metadata + (peer.data.size if peer.data is not None else 0)
