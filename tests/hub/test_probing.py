"""Probing: when all places are taken, peers that may be gone are pinged at once, at a bounded cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from tests.support.stage import Peer, Stage, on_stage, settle, until
from wsstab.connection import Peer as Known
from wsstab.events import HeartbeatMissed
from wsstab.hub import probing
from wsstab.hub.probing import BETWEEN_SEARCHES, MOST_AT_ONCE, SHARE, Prober

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


class Loop:
    """A loop whose clock the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def time(self) -> float:
        """The seconds on its clock."""
        return self.now


class Crowd:
    """Peers whose pings are unanswered; looking at them takes time.

    Args:
        loop: the loop of the peers.
        count: the number of peers.
        took: the seconds that one look takes.
    """

    def __init__(self, loop: Loop, count: int = 0, took: float = 0.0) -> None:
        self.loop, self.took, self.looks = loop, took, 0
        self.dead: list[float] = []
        self.peers = [self._peer() for _ in range(count)]

    def look(self) -> list[Known]:
        """All peers."""
        self.looks += 1
        self.loop.now += self.took
        return cast("list[Known]", self.peers)

    def _peer(self) -> Any:
        now = self.loop.now
        deadlines = SimpleNamespace(beats=True, unanswered=True, ping_at=now - 10, heard_at=now - 20)
        heartbeat = SimpleNamespace(
            deadlines=deadlines, latency=None, ask=self.loop.time, is_read=lambda: True, dead=self.dead.append
        )
        services = SimpleNamespace(timekeeper=SimpleNamespace(now=now))
        peer = SimpleNamespace(loop=self.loop, open=True, address="::1", heartbeat=heartbeat, services=services)
        # The prober uses peers as keys, and a namespace has no hash.
        return type("Peer", (), {**vars(peer), "__slots__": ()})()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """The loop that the prober takes for the running one."""
    made = Loop()
    monkeypatch.setattr(probing, "current_loop", lambda: made)
    return made


def full() -> bool:
    """Say that no place is free."""
    return False


async def test_searches_take_a_small_share_of_the_time_for_any_number_of_addresses(loop: Loop) -> None:
    """Each address may cause a search of its own, and each search looks at all connections."""
    crowd = Crowd(loop, took=0.01)
    prober = Prober(crowd.look)
    began = loop.now
    for number in range(10_000):
        await prober.make_room(full, f"2001:db8:{number:x}::1")
        loop.now += 0.001
    assert crowd.looks > 10
    assert crowd.looks * crowd.took <= 1.1 * SHARE * (loop.now - began)


async def test_one_address_causes_at_most_one_search_a_second(loop: Loop) -> None:
    """That holds however many handshakes come from it."""
    crowd = Crowd(loop)
    prober = Prober(crowd.look)
    for _ in range(100):
        await prober.make_room(full, "::1")
    assert crowd.looks == 1
    loop.now += 2 * BETWEEN_SEARCHES
    await prober.make_room(full, "::1")
    assert crowd.looks == 2


async def test_no_more_callers_wait_than_a_probe_can_free_places(loop: Loop) -> None:
    """The others are refused at once, as if there were no peer to probe."""
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


async def status(stage: Stage) -> str:
    """The type of the event that answers one more handshake."""
    peer = stage.call(Peer())
    with anyio.fail_after(10):
        await until(lambda: bool(peer.sent), within=10)
    return str(peer.sent[0]["type"])


async def test_a_doubtful_peer_that_does_not_answer_is_aborted_to_make_room() -> None:
    """This comes long before its timeout, and is reported like any missed heartbeat."""
    missed: list[HeartbeatMissed] = []
    async with on_stage(capable=True, max_connections=1, heartbeat_interval=10, heartbeat_timeout=60) as stage:
        stage.manager.on(HeartbeatMissed, missed.append)
        gone = await stage.open()
        stage.pass_time(10.5)
        assert len(gone.pings) == 1
        stage.pass_time(2)
        assert await status(stage) == "websocket.accept"
        assert len(gone.pings) == 2
        assert gone.wire is not None
        assert gone.wire.aborted
        assert [event.connection_id for event in missed] == [gone.connection.id]


async def test_a_doubtful_peer_that_answers_keeps_its_place() -> None:
    """The new handshake is refused."""
    async with on_stage(capable=True, max_connections=1, heartbeat_interval=10, heartbeat_timeout=60) as stage:
        slow = await stage.open()
        stage.pass_time(10.5)
        stage.pass_time(2)
        peer = stage.call(Peer())
        await until(lambda: len(slow.pings) == 2)
        assert slow.wire is not None
        slow.wire.on_pong(slow.pings[-1])
        await until(lambda: bool(peer.sent), within=10)
        assert peer.sent[0]["type"] == "websocket.http.response.start"
        assert not slow.wire.aborted


async def test_without_doubtful_peers_the_silent_ones_are_pinged_for_the_next_time() -> None:
    """Nobody waits for the ping, and a peer that was just heard from is not pinged."""
    async with on_stage(capable=True, max_connections=2, heartbeat_interval=100, heartbeat_timeout=60) as stage:
        silent, busy = await stage.open(), await stage.open()
        stage.pass_time(5)
        busy.says("here")
        await settle()
        assert await status(stage) == "websocket.http.response.start"
        assert (len(silent.pings), len(busy.pings)) == (1, 0)


async def test_a_peer_that_is_not_read_from_is_not_probed() -> None:
    """Its silence proves nothing."""
    async with on_stage(capable=True, max_connections=1, heartbeat_interval=10, heartbeat_timeout=60) as stage:
        paused = await stage.open()
        assert paused.wire is not None
        stage.pass_time(10.5)
        paused.wire.paused = True
        stage.pass_time(2)
        assert await status(stage) == "websocket.http.response.start"
        assert len(paused.pings) == 1


async def test_without_a_heartbeat_no_peer_is_probed() -> None:
    """Pings are switched off then."""
    async with on_stage(capable=True, max_connections=1, heartbeat_type="off") as stage:
        peer = await stage.open()
        stage.pass_time(100)
        assert await status(stage) == "websocket.http.response.start"
        assert peer.pings == []


async def test_the_limit_of_an_address_probes_only_peers_of_that_address() -> None:
    """Aborting other peers would free no place for it."""
    async with on_stage(capable=True, max_connections_per_address=1, heartbeat_interval=10) as stage:
        gone = await stage.open()
        other = await stage.open(client=("198.51.100.1", 1))
        stage.pass_time(10.5)
        stage.pass_time(2)
        assert await status(stage) == "websocket.accept"
        assert (len(gone.pings), len(other.pings)) == (2, 1)
