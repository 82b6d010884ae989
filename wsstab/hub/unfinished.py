"""Unfinished messages: who has begun a message and does not go on is found, and what he holds is counted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..config import WebSocketConfig
from ..config.marks import any_marked
from ..connection import Peer
from ..connection.receiver import message_timeout
from ..core.registry import Registry
from ..loop.services import Services

__all__ = ["UnfinishedMessages"]

LOOK_OFTEN = 1.0
"""Seconds between two looks at unfinished messages, where memory is limited or endpoints have their own limits."""
LOOK_SELDOM = 5.0
"""The same elsewhere, at most: each costs about a microsecond for each connection."""
LOOKED_AT_ONCE = 100
"""Connections that are looked at before others have their turn."""


class UnfinishedMessages:
    """Looks at the unfinished messages of a manager's peers.

    Args:
        registry: who is connected.
    """

    def __init__(self, registry: Registry[Peer]) -> None:
        self._registry = registry

    def look(self, services: Services) -> None:
        """Begin to look at all peers of an event loop, some in each turn."""
        services.timekeeper.soon([partial(self._look_on, services, self._registry.slices(LOOKED_AT_ONCE))])

    def _look_on(self, services: Services, slices: Iterator[list[Peer]], now: float) -> None:
        peers = next(slices, None)
        if peers is not None:
            for peer in peers:
                if peer.services is services:
                    peer.receiver.look(now)
                    # What a slow peer had in its buffer when it was looked at last may have left since.
                    peer.heartbeat.sample()
            services.timekeeper.soon([partial(self._look_on, services, slices)])


def seconds_between_looks(config: WebSocketConfig) -> float:
    """Seconds between two looks.

    Args:
        config: of the manager.
    """
    paths = (config, *(each for _, each in config.by_pattern))
    timeouts = [message_timeout(each) for each in paths]
    counts = config.max_total_memory is not None or any(each.max_memory_per_connection for each in paths)
    # What stands on endpoints is known when they are reached.
    often = counts or any_marked()
    return min(LOOK_OFTEN if often else LOOK_SELDOM, *[timeout / 4 for timeout in timeouts])
