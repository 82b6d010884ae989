"""Unfinished messages: counts the bytes of incomplete messages, and finds peers that do not complete theirs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..config import WebSocketConfig
from ..config.marks import any_marked
from ..connection import Peer
from ..connection.receiver import message_timeout
from ..core.registry import Registry
from ..loop.services import Services

__all__ = ["UnfinishedMessages", "seconds_between_looks"]

LOOK_OFTEN = 1.0
"""Seconds between two checks, if memory is limited or endpoints have their own limits."""
LOOK_SELDOM = 5.0
"""The same otherwise, at most: a check costs about a microsecond for each connection."""
LOOKED_AT_ONCE = 100
"""Connections to check in one turn of the event loop."""


class UnfinishedMessages:
    """Checks the unfinished messages of all peers.

    Args:
        registry: the open peers.
    """

    def __init__(self, registry: Registry[Peer]) -> None:
        self._registry = registry

    def look(self, services: Services) -> None:
        """Begin to check all peers of an event loop, some in each turn."""
        services.timekeeper.soon([partial(self._look_on, services, self._registry.slices(LOOKED_AT_ONCE))])

    def _look_on(self, services: Services, slices: Iterator[list[Peer]], now: float) -> None:
        peers = next(slices, None)
        if peers is not None:
            for peer in peers:
                # A peer of another event loop must be looked at in that loop's own thread.
                if peer.services is services:
                    peer.receiver.look(now)
                    # The transport of a slow peer may have drained since its memory was counted.
                    peer.heartbeat.sample()
            services.timekeeper.soon([partial(self._look_on, services, slices)])


def seconds_between_looks(config: WebSocketConfig) -> float:
    """Seconds between two checks.

    Args:
        config: the configuration of the manager.
    """
    paths = (config, *(each for _, each in config.by_pattern))
    timeouts = [message_timeout(each) for each in paths]
    counts = config.max_total_memory is not None or any(each.max_memory_per_connection for each in paths)
    # The limits of endpoints are known only when a connection reaches them.
    often = counts or any_marked()
    return min(LOOK_OFTEN if often else LOOK_SELDOM, *[timeout / 4 for timeout in timeouts])
