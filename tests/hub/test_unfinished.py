"""`wsstab.hub.unfinished`: all peers of a loop are checked for unfinished messages, some in each turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wsstab import Inbound, Override, WebSocketConfig
from wsstab.config import marks
from wsstab.connection import Peer
from wsstab.core.registry import Registry
from wsstab.hub.unfinished import (
    LOOK_OFTEN,
    LOOK_SELDOM,
    LOOKED_AT_ONCE,
    UnfinishedMessages,
    seconds_between_looks,
)
from wsstab.loop.services import Services


class Turns:
    """A timekeeper whose turns the test takes."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[float], None]] = []

    def soon(self, calls: list[Callable[[float], None]]) -> None:
        """Keep calls for the next turn."""
        self.waiting += calls

    def take(self) -> None:
        """Make the calls of one turn."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call(1.0)


class Seen:
    """A peer that counts how often it is checked."""

    def __init__(self, services: object) -> None:
        self.services = services
        self.looks = self.samples = 0
        self.receiver = SimpleNamespace(look=self._look)
        self.heartbeat = SimpleNamespace(sample=self._sample)

    def _look(self, now: float) -> None:
        assert now == 1.0
        self.looks += 1

    def _sample(self) -> None:
        self.samples += 1


class Listed:
    """A registry that is walked in slices."""

    def __init__(self, peers: list[Seen]) -> None:
        self.peers = peers

    def slices(self, size: int) -> Iterator[list[Seen]]:
        """The peers in slices, as a registry returns them."""
        for first in range(0, len(self.peers), size):
            yield self.peers[first : first + size]


def test_all_peers_of_a_loop_are_checked_a_bounded_number_in_each_turn() -> None:
    """Other tasks run in between. Peers of another loop are left to that loop."""
    services, other = SimpleNamespace(timekeeper=Turns()), SimpleNamespace()
    peers = [Seen(services) for _ in range(2 * LOOKED_AT_ONCE + 1)] + [Seen(other)]
    registry = cast(Registry[Peer], Listed(peers))
    UnfinishedMessages(registry).look(cast(Services, services))
    for turn in (1, 2, 3):
        services.timekeeper.take()
        assert sum(peer.looks for peer in peers) == min(turn * LOOKED_AT_ONCE, len(peers) - 1)
    assert services.timekeeper.waiting
    services.timekeeper.take()
    assert services.timekeeper.waiting == []
    assert [(peer.looks, peer.samples) for peer in peers] == [(1, 1)] * (len(peers) - 1) + [(0, 0)]


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, LOOK_SELDOM),
        ({"max_total_memory": 1_000_000}, LOOK_OFTEN),
        ({"max_memory_per_connection": 1_000_000}, LOOK_OFTEN),
        ({"routes": {"/ws": Override(max_memory_per_connection=1000)}}, LOOK_OFTEN),
        ({"inbound": Inbound(message_timeout=2)}, 0.5),
        ({"routes": {"/ws": Override(inbound=Inbound(message_timeout=4))}}, 1.0),
    ],
)
def test_the_interval_between_checks_depends_on_limits_and_timeouts(
    options: dict[str, Any], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is short if memory is limited, and a quarter of the shortest message timeout at most."""
    monkeypatch.setattr(marks, "_marked", [])
    assert seconds_between_looks(WebSocketConfig(**options).frozen()) == seconds


def test_endpoints_with_options_of_their_own_need_frequent_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their limits are known only when a connection reaches them."""
    monkeypatch.setattr(marks, "_marked", [True])
    assert seconds_between_looks(WebSocketConfig().frozen()) == LOOK_OFTEN
