"""Eviction: brings memory back under its limits.

Decides first, in one step (whom, by the ledger's policy), then closes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .close import EVICTED
from .config import WebSocketConfig
from .connection import Connection
from .core.memory import Ledger
from .errors import MemoryLimitExceededError
from .events import ConnectionEvicted, Event
from .tasks import EventLoop

__all__ = ["Evictor"]

logger = logging.getLogger("wsstab")

SLICE = 200
"""Connections whose user data is estimated again in one turn of the loop."""


class Evictor:
    """Keeps a manager's memory within ``max_total_memory`` and ``max_memory_per_connection``.

    Args:
        config: of the manager.
        ledger: where memory is counted.
        emit: where events go.

    Attributes:
        evicted: connections closed so far.
    """

    def __init__(self, config: WebSocketConfig, ledger: Ledger[Connection], emit: Callable[[Event], None]) -> None:
        self._config = config
        self._ledger = ledger
        self._emit = emit
        self.evicted = 0

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

    def recount(self, connections: list[Connection], loop: EventLoop) -> None:
        """Estimate user data again, which the application may have changed in place, a slice in each turn."""
        for connection in connections[:SLICE]:
            if connection.data is not None and connection.ending.close is None:
                self.charge(connection, connection.data.recount())
        if len(connections) > SLICE:
            loop.call_soon(self.recount, connections[SLICE:], loop)

    def _evict(self, victims: list[Connection]) -> None:
        policy = self._config.memory_eviction_policy.value
        for victim in victims:
            if victim.ending.close is not None:
                continue
            self.evicted += 1
            freed = victim.memory
            told = {**victim.log_fields(), "policy": policy, "freed": freed}
            logger.warning("! evicted %s: %d bytes freed by %s", victim.log_name(), freed, policy, extra=told)
            victim.ending.begin(EVICTED, flush=False)
            self._emit(ConnectionEvicted(victim.id, victim.client_id, policy, freed))
