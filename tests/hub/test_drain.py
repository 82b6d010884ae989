"""Drain: batches, deadlines, and a true report."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Peer, on_stage, push_only, settle, until
from wsstab import (
    Drain,
    DrainFinished,
    DrainRound,
    DrainStarted,
    ShutdownReport,
    WebSocketConfig,
    WebSocketConnectionManager,
)
from wsstab.events import Event
from wsstab.hub.drain import batch_size

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


@pytest.mark.parametrize(
    ("left", "seconds", "size"),
    [(1000, 10.0, 100), (50, 10.0, 100), (100_000, 10.0, 1000), (1000, 0.05, 1000), (1000, -5.0, 1000)],
)
def test_batches_grow_if_the_time_is_short(left: int, seconds: float, size: int) -> None:
    """The last batch must still be closed before the deadline."""
    assert batch_size(left, Drain(batch_size=100, interval=0.1), seconds) == size


def test_an_interval_of_zero_makes_one_batch() -> None:
    """Without pauses there is no reason to split the connections."""
    assert batch_size(1000, Drain(batch_size=1, interval=0), 10) == 1000


async def connected(count: int, **options: Any) -> tuple[WebSocketConnectionManager, list[AsyncMock], list[Event]]:
    """A manager with doubles, the doubles, and the drain events that the manager emits."""
    manager = WebSocketConnectionManager(WebSocketConfig(**options))
    events: list[Event] = []
    for kind in (DrainStarted, DrainRound, DrainFinished):
        manager.on(kind, events.append)
    sockets = [AsyncMock() for _ in range(count)]
    for number, socket in enumerate(sockets):
        await manager.connect(f"n{number}", socket)
    return manager, sockets, events


async def test_a_drain_closes_in_batches_and_emits_events() -> None:
    """The default code is 1012, so that clients come back."""
    plan = Drain(timeout=10, batch_size=4, interval=0.01)
    manager, sockets, events = await connected(10, drain=plan)
    report = await manager.drain()
    assert (report.closed_count, report.failed_count) == (10, 0)
    assert 0.02 <= report.duration_seconds < 5
    for socket in sockets:
        socket.close.assert_awaited_once_with(code=1012, reason="service restart")
    assert events[0] == DrainStarted(10, 10)
    assert events[1:-1] == [DrainRound(4, 6), DrainRound(4, 2), DrainRound(2, 0)]
    assert isinstance(events[-1], DrainFinished)
    assert (events[-1].closed, events[-1].failed) == (10, 0)


async def test_drain_takes_a_plan_as_argument() -> None:
    """The plan brings its own code and reason."""
    manager, sockets, _ = await connected(2)
    await manager.drain(Drain(timeout=5, code=4007, reason="moving"))
    sockets[0].close.assert_awaited_once_with(code=4007, reason="moving")


async def test_a_shutdown_closes_all_connections_in_one_batch() -> None:
    """It ignores the batch size and the interval of the plan."""
    manager, _, events = await connected(10, drain=Drain(batch_size=1, interval=60))
    report = await manager.graceful_shutdown(timeout=5)
    assert report.closed_count == 10
    assert [event for event in events if isinstance(event, DrainRound)] == [DrainRound(10, 0)]


async def test_a_shutdown_joins_a_running_drain_and_speeds_it_up() -> None:
    """Both return the same report."""
    manager, _, events = await connected(4, drain=Drain(timeout=30, batch_size=1, interval=0.05))
    reports: list[ShutdownReport] = []

    async def drain() -> None:
        reports.append(await manager.drain())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(drain)
            await until(lambda: any(isinstance(event, DrainRound) for event in events))
            reports.append(await manager.graceful_shutdown())
    assert reports[0] == reports[1]
    assert reports[0].closed_count == 4
    assert len([event for event in events if isinstance(event, DrainStarted)]) == 1


async def test_a_drain_without_connections_ends_at_once() -> None:
    """The report counts nobody."""
    manager, _, _ = await connected(0)
    report = await manager.graceful_shutdown()
    assert (report.closed_count, report.failed_count) == (0, 0)
    assert report.duration_seconds < 1


async def test_closes_that_hang_fail_at_the_deadline() -> None:
    """The others succeed, and the report counts both."""
    manager, sockets, _ = await connected(3)

    async def hang(**close: Any) -> None:
        await anyio.sleep_forever()

    sockets[1].close.side_effect = hang
    report = await manager.graceful_shutdown(timeout=0.3)
    assert (report.closed_count, report.failed_count) == (2, 1)
    assert report.duration_seconds < 2
    assert manager.get_connection_count() == 0


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_shutdown_refuses_a_negative_timeout(timeout: float) -> None:
    """A timeout of 0 is allowed."""
    manager, _, _ = await connected(1)
    if timeout < 0:
        with pytest.raises(ValueError, match="timeout"):
            await manager.graceful_shutdown(timeout)
        assert manager.get_connection_count() == 1
    else:
        report = await manager.graceful_shutdown(timeout)
        assert report.closed_count + report.failed_count == 1


async def test_handlers_that_ignore_the_drain_are_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """Their peers have got their close frame before."""
    cancelled: list[str] = []

    async def deaf(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append("deaf")

    async with on_stage(deaf) as stage:
        peer = await stage.open()
        report = await stage.manager.graceful_shutdown(timeout=0.3)
        assert peer.closed == (1012, "service restart")
        assert (report.closed_count, report.failed_count, cancelled) == (1, 0, ["deaf"])
        line = f"! handler of /ws '{peer.connection.id}' 203.0.113.7 cancelled: it ignored the drain"
        assert line in [record.getMessage() for record in caplog.records]


async def test_peers_that_do_not_take_their_close_are_aborted() -> None:
    """They count as failed."""
    async with on_stage(push_only, capable=True) as stage:
        healthy, stuck = await stage.named("healthy", "stuck")
        stuck.mute = True
        report = await stage.manager.graceful_shutdown(timeout=0.3)
        assert (report.closed_count, report.failed_count) == (1, 1)
        assert stuck.wire is not None
        assert stuck.wire.aborted
        assert healthy.closed == (1012, "service restart")


async def test_a_hurried_drain_ends_as_if_its_deadline_had_passed() -> None:
    """A second signal asks for that."""
    async with on_stage(push_only, capable=True) as stage:
        (stuck,) = await stage.named("stuck")
        stuck.mute = True
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(stage.manager.drain, Drain(timeout=60))
                await until(lambda: stage.manager.get_connection_count() == 0)
                stage.hub.hurry()
        assert stuck.wire is not None
        await until(lambda: stuck.wire is not None and stuck.wire.aborted)


async def test_handshakes_that_are_not_accepted_yet_are_refused() -> None:
    """They get a 503, and their handlers end."""

    async def never(websocket: WebSocket) -> None:
        await anyio.sleep_forever()

    async with on_stage(never) as stage:
        peer = stage.call(Peer())
        await until(lambda: stage.hub.calls)
        await stage.manager.graceful_shutdown(timeout=5)
        await peer.over()
        assert peer.sent[0]["status"] == 503


async def test_a_handshake_that_is_being_accepted_is_closed_once_it_is_complete() -> None:
    """Its peer may have the accept already, so a refusal comes too late. These closes are paced like all others."""
    async with on_stage() as stage:
        peers = [stage.call(Peer()) for _ in range(3)]
        for peer in peers:
            peer.stalled = True
        await until(lambda: len(stage.hub.calls) == 3)
        await settle()
        assert stage.manager.get_connection_count() == 0
        rounds: list[Event] = []
        stage.manager.on(DrainRound, rounds.append)
        async with anyio.create_task_group() as group:
            group.start_soon(stage.manager.drain, Drain(timeout=60, batch_size=1, interval=0.01))
            await settle()
            for peer in peers:
                peer.resume()
        assert [peer.sent[0]["type"] for peer in peers] == ["websocket.accept"] * 3
        assert [peer.closed for peer in peers] == [(1012, "service restart")] * 3
        assert rounds == [DrainRound(1, 2), DrainRound(1, 1), DrainRound(1, 0)]


async def test_after_a_drain_new_handshakes_are_refused_until_the_next_start() -> None:
    """A readiness probe sees this state in ``is_ready``."""
    async with on_stage() as stage:
        assert (stage.manager.is_ready, stage.manager.is_draining) == (True, False)
        await stage.manager.drain()
        assert (stage.manager.is_ready, stage.manager.is_draining) == (False, True)
        assert stage.manager.statistics().draining
        refused = await stage.open()
        assert refused.sent[0]["status"] == 503
        assert (b"retry-after", b"1") in refused.sent[0]["headers"]
        await stage.manager.start()
        peer = await stage.open()
        peer.says("again")
        assert await peer.hears() == ["again"]
        await settle()
        await stage.manager.graceful_shutdown()
