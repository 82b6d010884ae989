"""Probing where it has its bounds; what it does to real peers is in `tests.servers.test_places`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from wsstab import probing
from wsstab.connection import Connection
from wsstab.probing import BETWEEN_SEARCHES, MOST_AT_ONCE, SHARE, Prober

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


class Loop:
    """A loop whose time is an argument."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        """Its seconds."""
        return self.now


class Crowd:
    """Peers whose pings are unanswered, or none; to look at them takes its time.

    Args:
        loop: on which they are.
        count: how many.
        took: seconds of a look.
    """

    def __init__(self, loop: Loop, count: int = 0, took: float = 0.0) -> None:
        self.loop, self.took, self.looks = loop, took, 0
        self.dead: list[float] = []
        self.peers = [self._peer() for _ in range(count)]

    def look(self) -> list[Connection]:
        """All of them."""
        self.looks += 1
        self.loop.now += self.took
        return cast("list[Connection]", self.peers)

    def _peer(self) -> Any:
        now = self.loop.now
        deadlines = SimpleNamespace(beats=True, unanswered=True, ping_at=now - 10, heard_at=now - 20)
        heartbeat = SimpleNamespace(
            deadlines=deadlines, latency=None, ask=self.loop.time, is_read=lambda: True, dead=self.dead.append
        )
        services = SimpleNamespace(timekeeper=SimpleNamespace(now=now))
        peer = SimpleNamespace(loop=self.loop, open=True, address="::1", heartbeat=heartbeat, services=services)
        # It is the key of a table.
        return type("Peer", (), {**vars(peer), "__slots__": ()})()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The running one, for a prober."""
    made = Loop()
    monkeypatch.setattr(probing, "current_loop", lambda: made)
    return made


def full() -> bool:
    """There is no room."""
    return False


async def test_searches_take_a_small_part_of_the_time_however_many_addresses_ask(loop: Loop) -> None:
    """Each address may cause its own, and each looks at all connections."""
    crowd = Crowd(loop, took=0.01)
    prober = Prober(crowd.look)
    began = loop.now
    for number in range(10_000):
        await prober.make_room(full, f"2001:db8:{number:x}::1")
        loop.now += 0.001
    assert crowd.looks > 10
    assert crowd.looks * crowd.took <= 1.1 * SHARE * (loop.now - began)


async def test_one_address_is_searched_for_once_in_a_second(loop: Loop) -> None:
    """Whoever knocks, and however often."""
    crowd = Crowd(loop)
    prober = Prober(crowd.look)
    for _ in range(100):
        await prober.make_room(full, "::1")
    assert crowd.looks == 1
    loop.now += 2 * BETWEEN_SEARCHES
    await prober.make_room(full, "::1")
    assert crowd.looks == 2


async def test_no_more_wait_than_a_probe_can_free_places(loop: Loop) -> None:
    """The others are refused at once, as where there is nobody to probe."""
    crowd = Crowd(loop, count=MOST_AT_ONCE)
    prober = Prober(crowd.look)
    refused = 0
    room = False

    async def come() -> None:
        nonlocal refused
        await prober.make_room(lambda: room)
        refused += not room

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(3 * MOST_AT_ONCE):
                group.start_soon(come)
                await anyio.lowlevel.checkpoint()
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert refused == 2 * MOST_AT_ONCE
            room = True
    assert (refused, crowd.looks, crowd.dead) == (2 * MOST_AT_ONCE, 1, [])
