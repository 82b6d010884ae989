"""Eviction: brings memory back under its limits.

Decides first, in one step (whom, by the ledger's policy), then closes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from weakref import ref

import anyio

from ..close import EVICTED
from ..config import WebSocketConfig
from ..connection import Connection
from ..core.memory import Ledger
from ..errors import MemoryLimitExceededError
from ..events import ConnectionEvicted, Event
from ..loop.tasks import EventLoop

__all__ = ["Evictor"]

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
        ledger: Ledger[Connection],
        emit: Callable[[Event], None],
        may_tell: Callable[[str], bool],
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._emit = emit
        self._may_tell = may_tell
        self.evicted = 0
        self._recounting: set[EventLoop] = set()

    def charge(self, connection: Connection, delta: int) -> None:
        """Count memory, and evict where it becomes too much."""
        if delta:
            self._ledger.charge(connection, delta)
            if delta > 0:
                self.check(connection)

    def make_room(self, needed: int, spare: Connection) -> None:
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

    def check(self, connection: Connection) -> None:
        """``connection`` holds more than before: is that too much, for it or in all?"""
        own_limit = connection.config.max_memory_per_connection
        if own_limit is not None and connection.memory > own_limit:
            self._evict([connection])
        limit = self._config.max_total_memory
        if limit is not None and self._ledger.total > limit:
            self._evict(self._ledger.victims(self._ledger.total - limit))

    def recount(self, connections: Iterable[Connection], loop: EventLoop) -> None:
        """Estimate user data again, which the application may have changed in place, in slices of time.

        While the last estimate goes on, there is no other.

        Args:
            connections: whose; none of them is kept alive by this.
            loop: on which they all are.
        """
        if loop not in self._recounting:
            self._recounting.add(loop)
            loop.spawn(self._recount, [ref(connection) for connection in connections], loop)

    async def _recount(self, connections: list[ref[Connection]], loop: EventLoop) -> None:
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

    def _estimates(self, connections: list[ref[Connection]]) -> Iterator[None]:
        for each in connections:
            connection = each()
            if connection is None or connection.data is None:
                continue
            for growth in connection.data.recounting(SLICE):
                if connection.ending.close is not None:
                    break
                self.charge(connection, growth)
                yield
            yield

    def _evict(self, victims: list[Connection]) -> None:
        policy = self._config.memory_eviction_policy.value
        for victim in victims:
            if victim.ending.close is not None:
                continue
            self.evicted += 1
            freed = victim.memory
            told = {**victim.log_fields(), "policy": policy, "freed": freed}
            if self._may_tell("evicted"):
                logger.warning("! evicted %s: %d bytes freed by %s", victim.log_name(), freed, policy, extra=told)
            victim.ending.begin(EVICTED, flush=False)
            self._emit(ConnectionEvicted(victim.id, victim.client_id, policy, freed))
