"""Where all places are taken, a peer that may be gone is asked at once."""

from __future__ import annotations

import anyio
import pytest

from tests.support.stage import Peer, Stage, on_stage, settle, until
from wsstab.events import HeartbeatMissed

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


async def status(stage: Stage) -> str:
    """How one more is answered."""
    peer = stage.call(Peer())
    with anyio.fail_after(10):
        await until(lambda: bool(peer.sent), within=10)
    return str(peer.sent[0]["type"])


async def test_a_doubtful_peer_that_does_not_answer_makes_room() -> None:
    """Long before its timeout; it is told as any that dies of silence."""
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


async def test_one_that_answers_keeps_its_place() -> None:
    """However doubtful it was."""
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


async def test_who_was_silent_is_asked_for_the_next_that_comes() -> None:
    """Nobody waits for that; and who has just been heard is left alone."""
    async with on_stage(capable=True, max_connections=2, heartbeat_interval=100, heartbeat_timeout=60) as stage:
        silent, busy = await stage.open(), await stage.open()
        stage.pass_time(5)
        busy.says("here")
        await settle()
        assert await status(stage) == "websocket.http.response.start"
        assert (len(silent.pings), len(busy.pings)) == (1, 0)


async def test_who_is_not_read_from_is_not_asked() -> None:
    """Its silence says nothing."""
    async with on_stage(capable=True, max_connections=1, heartbeat_interval=10, heartbeat_timeout=60) as stage:
        paused = await stage.open()
        assert paused.wire is not None
        stage.pass_time(10.5)
        paused.wire.paused = True
        stage.pass_time(2)
        assert await status(stage) == "websocket.http.response.start"
        assert len(paused.pings) == 1


async def test_without_a_heartbeat_nobody_is_asked() -> None:
    """It was switched off."""
    async with on_stage(capable=True, max_connections=1, heartbeat_type="off") as stage:
        peer = await stage.open()
        stage.pass_time(100)
        assert await status(stage) == "websocket.http.response.start"
        assert peer.pings == []


async def test_the_limit_of_an_address_asks_those_of_the_address() -> None:
    """Others are none of its business."""
    async with on_stage(capable=True, max_connections_per_address=1, heartbeat_interval=10) as stage:
        gone = await stage.open()
        other = await stage.open(client=("198.51.100.1", 1))
        stage.pass_time(10.5)
        stage.pass_time(2)
        assert await status(stage) == "websocket.accept"
        assert (len(gone.pings), len(other.pings)) == (2, 1)
