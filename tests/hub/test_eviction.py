"""Eviction: what happens at the memory limits, seen through a manager and its doubles."""

from __future__ import annotations

import itertools
import logging
import threading
import weakref
from typing import Any
from unittest.mock import AsyncMock

import anyio
import anyio.lowlevel
import pytest

from tests.support.hand import HandLoop
from wsstab import (
    Close,
    CloseCode,
    ConnectionClosed,
    ConnectionEvicted,
    MemoryLimitExceededError,
    WebSocketConfig,
    WebSocketConnectionManager,
)
from wsstab.hub.eviction import LONGEST_SLICE, SLICE
from wsstab.manager import hub_of

pytestmark = pytest.mark.anyio

KIB = 1024


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


class House:
    """A manager, its doubles by name, and the events of its evictions."""

    def __init__(self, **options: Any) -> None:
        self.manager = WebSocketConnectionManager(WebSocketConfig(**options))
        self.sockets: dict[str, AsyncMock] = {}
        self.evicted: list[ConnectionEvicted] = []
        self.manager.on(ConnectionEvicted, self.evicted.append)

    async def connect(self, name: str, size: int = 0) -> AsyncMock:
        """Connect a client whose metadata has this many bytes, and a little more."""
        socket = self.sockets[name] = AsyncMock()
        await self.manager.connect(name, socket, {"data": "x" * size} if size else None)
        return socket

    async def hold(self, name: str, size: int) -> None:
        """Give a client this many bytes of user data, and a little more."""
        await self.manager.set_user_data(name, "data", "x" * size)

    async def settle(self) -> None:
        """Let pending closes finish."""
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    @property
    def names(self) -> list[str]:
        """The names of the connected clients."""
        return sorted(self.manager.get_active_connections())

    @property
    def total(self) -> float:
        """Bytes in the ledger."""
        return self.manager.get_memory_usage()["total_memory"]


async def three(policy: str, **options: Any) -> House:
    """A manager with a limit of 8 KiB and three clients, which hold 1, 3 and 2 KiB."""
    house = House(max_total_memory=8 * KIB, memory_eviction_policy=policy, **options)
    for name, size in (("ann", 1), ("bob", 3), ("cid", 2)):
        await house.connect(name)
        await house.hold(name, size * KIB)
    return house


async def test_below_the_limit_nobody_is_evicted() -> None:
    """Coming close to the limit is not enough."""
    house = await three("lru")
    await house.connect("dan", 1 * KIB)
    assert (house.names, house.evicted) == (["ann", "bob", "cid", "dan"], [])


@pytest.mark.parametrize(("policy", "victim"), [("lru", "cid"), ("fifo", "ann"), ("oldest", "bob"), ("largest", "bob")])
async def test_each_policy_has_its_own_victim(policy: str, victim: str) -> None:
    """The policies choose by least recent traffic, oldest connection, oldest name, and most bytes."""
    house = House(max_total_memory=8 * KIB, memory_eviction_policy=policy, duplicate_client="replace")
    await house.connect("bob")
    await house.connect("ann")
    await house.connect("bob")  # a reconnect: a younger socket of an older identity
    await house.connect("cid")
    for name, size in (("ann", 2), ("bob", 3), ("cid", 2)):
        await house.hold(name, size * KIB)
    for name in ("cid", "ann", "bob"):
        await house.manager.send_to_client(name, "traffic")
    await house.connect("dan", 2 * KIB)
    assert [event.client_id for event in house.evicted] == [victim]
    assert victim not in house.names
    assert "dan" in house.names


async def test_the_victim_is_told_to_come_back_later() -> None:
    """It is closed with 1013 and a reason, and its memory no longer counts."""
    house = await three("fifo")
    connection = house.manager.get_connection("ann")
    assert connection is not None
    held = connection.statistics().memory
    await house.connect("dan", 2 * KIB)
    with anyio.fail_after(5):
        closed = await connection.closed
    assert (closed.code, closed.reason) == (CloseCode.TRY_AGAIN_LATER, "evicted: memory limit")
    house.sockets["ann"].close.assert_awaited_once_with(code=1013, reason="evicted: memory limit")
    assert house.evicted == [ConnectionEvicted(connection.id, "ann", "fifo", held)]
    assert house.total <= 8 * KIB


async def test_an_eviction_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One warning names the victim and the bytes that it gave back."""
    house = await three("largest")
    await house.connect("dan", 4 * KIB)
    assert house.manager.statistics().evicted == 1
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert " 'bob' " in record.getMessage()
    assert vars(record)["client_id"] == "bob"
    assert vars(record)["policy"] == "largest"
    assert vars(record)["freed"] > 3 * KIB


async def test_no_more_clients_are_evicted_than_necessary() -> None:
    """Here that takes two victims."""
    house = await three("fifo")
    await house.connect("dan", 4 * KIB)
    assert [event.client_id for event in house.evicted] == ["ann", "bob"]
    assert house.names == ["cid", "dan"]


async def test_connect_refuses_metadata_that_can_never_fit() -> None:
    """No eviction would help, so nobody is evicted, and the new client is not connected."""
    house = await three("lru")
    with pytest.raises(MemoryLimitExceededError) as caught:
        await house.connect("dan", 9 * KIB)
    assert caught.value.limit == 8 * KIB
    assert caught.value.needed > 9 * KIB
    assert (house.names, house.evicted) == (["ann", "bob", "cid"], [])


async def test_a_client_that_asks_for_memory_is_never_its_own_victim() -> None:
    """That holds even if the policy would choose it first."""
    house = await three("fifo")
    await house.hold("ann", 4 * KIB)
    assert house.names == ["ann", "cid"]


async def test_user_data_that_cannot_fit_is_refused_and_the_old_value_stays() -> None:
    """Nobody is evicted for it."""
    house = await three("lru")
    with pytest.raises(MemoryLimitExceededError):
        await house.hold("ann", 9 * KIB)
    assert await house.manager.get_user_data("ann", "data") == "x" * KIB
    assert (house.names, house.evicted) == (["ann", "bob", "cid"], [])


async def test_a_single_connection_has_a_memory_limit_of_its_own() -> None:
    """It applies to metadata and user data together."""
    house = House(max_memory_per_connection=4 * KIB)
    await house.connect("ann", 2 * KIB)
    with pytest.raises(MemoryLimitExceededError) as caught:
        await house.hold("ann", 2 * KIB)
    assert caught.value.limit == 4 * KIB
    with pytest.raises(MemoryLimitExceededError):
        await house.connect("bob", 4 * KIB)
    assert house.names == ["ann"]


async def test_replacing_a_value_by_a_smaller_one_frees_memory() -> None:
    """The limit applies to what is held now."""
    house = House(max_memory_per_connection=4 * KIB)
    await house.connect("ann")
    for size in (3, 1, 3):
        await house.hold("ann", size * KIB)
    assert house.names == ["ann"]


async def test_without_limits_nobody_is_evicted() -> None:
    """This is the default. Memory is counted nevertheless."""
    house = House()
    await house.connect("ann", 5000 * KIB)
    assert house.total > 5000 * KIB
    assert house.names == ["ann"]


async def test_without_connections_no_memory_is_counted() -> None:
    """The ledger is back at 0 bytes."""
    house = await three("lru")
    await house.manager.disconnect_all()
    assert (house.total, house.names) == (0, [])


@pytest.mark.parametrize("started", [True, False], ids=["started", "not started"])
@pytest.mark.parametrize("limit", ["max_memory_per_connection", "max_total_memory"])
async def test_user_data_that_grew_in_place_is_noticed(
    limit: str, started: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The next recount after ``memory_check_interval`` finds it, even if the victim is the last connection."""
    options: dict[str, Any] = {limit: 8 * KIB}
    house, closed = House(memory_check_interval=0.05, **options), anyio.Event()
    house.manager.on(ConnectionClosed, lambda event: closed.set())
    if started:
        await house.manager.start()
    await house.connect("ann")
    values: list[str] = []
    await house.manager.set_user_data("ann", "values", values)
    values.append("x" * 9 * KIB)
    with anyio.fail_after(5):
        await closed.wait()
    await house.settle()
    assert [event.client_id for event in house.evicted] == ["ann"]
    assert (house.total, house.names) == (0, [])
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    await house.manager.graceful_shutdown(1.0)


async def test_a_closing_connection_is_not_evicted() -> None:
    """Another thread has begun to close it, and its loop does not know yet; its memory is about to be freed."""
    house = House(max_total_memory=8 * KIB, memory_eviction_policy="fifo")
    await house.connect("ann", 6 * KIB)
    connection = house.manager.get_connection("ann")
    assert connection is not None
    thread = threading.Thread(target=connection._peer.closing.begin, args=(Close(4000, "by another thread"),))
    thread.start()
    thread.join()
    await house.connect("bob", 4 * KIB)
    with anyio.fail_after(5):
        closed = await connection.closed
    assert (closed.code, house.evicted, house.names) == (4000, [], ["bob"])


async def test_a_recount_in_slices_reaches_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections without user data, or whose data has not changed, add nothing."""
    monkeypatch.setattr("wsstab.hub.eviction.SLICE", 2)
    house, kept = House(memory_check_interval=0.05), list[list[str]]()
    for number in range(9):
        await house.connect(f"c{number}")
        if number % 2:
            kept.append([])
            await house.manager.set_user_data(f"c{number}", "values", kept[-1])
    await house.manager.set_user_data("c0", "constant", "value")
    before = house.total
    for values in kept:
        values.append("x" * 10 * KIB)
    with anyio.fail_after(5):
        while house.total < before + 40 * KIB:
            await anyio.sleep(0.01)
    assert len(house.names) == 9
    await house.manager.disconnect_all()


async def test_a_recount_of_large_values_runs_in_slices_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two slices it leaves the event loop to others for as long as a slice has taken."""
    house, loop = House(), HandLoop()
    for number in range(5):
        await house.connect(f"c{number}")
        await house.manager.set_user_data(f"c{number}", "values", [str(each) for each in range(50_000)])
    monkeypatch.setattr(loop, "time", itertools.count(0.0, 0.001).__next__)
    evictor, rests = hub_of(house.manager).evictor, list[float]()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        # No second recount begins while one is running.
        evictor.recount(hub_of(house.manager).peers(), loop)

    evictor.recount(hub_of(house.manager).peers(), loop)
    with monkeypatch.context() as patch:
        patch.setattr("wsstab.hub.eviction.anyio.sleep", rest)
        await loop.tasks[0].run()
    assert len(loop.tasks) == 1
    # The clock is read once for every 500 references, and each reading is a millisecond later.
    assert len(rests) == pytest.approx(5 * 50_000 / SLICE / 5, rel=0.1)
    assert LONGEST_SLICE <= min(rests) <= max(rests) < LONGEST_SLICE + 0.002
    evictor.recount(hub_of(house.manager).peers(), loop)
    assert len(loop.tasks) == 2
    await house.manager.disconnect_all()


async def test_a_connection_that_closes_during_a_recount_is_not_charged() -> None:
    """The recount goes on with the other connections."""
    house, loop = House(), HandLoop()
    large, small = [str(each) for each in range(5_000)], list[str]()
    for name, value in (("ann", large), ("bob", small)):
        await house.connect(name)
        await house.manager.set_user_data(name, "values", value)
    before = house.total
    small.append("x" * 10 * KIB)
    steps = hub_of(house.manager).evictor._estimates([weakref.ref(each) for each in hub_of(house.manager).peers()])
    next(steps)
    await house.manager.disconnect("ann")
    assert list(steps)
    assert 10 * KIB < house.total < before
    assert not loop.tasks
    await house.manager.disconnect_all()


async def test_user_data_that_shrank_in_place_is_noticed() -> None:
    """The sum goes down without any call of the application."""
    house = House(memory_check_interval=0.05)
    await house.manager.start()
    await house.connect("ann")
    values = ["x" * 100 * KIB]
    await house.manager.set_user_data("ann", "values", values)
    values.clear()
    with anyio.fail_after(5):
        while house.total > 10 * KIB:
            await anyio.sleep(0.01)
    await house.manager.graceful_shutdown(1.0)
