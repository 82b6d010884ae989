"""`wsstab.hub.hub`: the parts of a manager together, and what each milestone in the life of a peer does to them."""

from __future__ import annotations

import logging
from functools import partial
from unittest.mock import AsyncMock

import anyio
import anyio.to_thread
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Peer, Stage, echo, on_stage, push_only, until
from wsstab import Close, Drain, LimitHit, ShutdownReport, WebSocketConfig, WebSocketConnectionManager
from wsstab.close import Cause
from wsstab.events import ConnectionOpened
from wsstab.hub.serving import ServingServer
from wsstab.manager import hub_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


async def test_an_open_peer_is_in_every_list_and_a_released_one_in_none() -> None:
    """A closing peer is listed only as leaving; its traffic still counts, because it still grows."""
    async with on_stage(push_only, capable=True) as stage:
        hub = stage.hub
        (peer,) = await stage.named("ann")
        assert (hub.peers(), hub.ledger.count, hub.counters.opened) == ([peer.inner], 1, 1)
        assert (hub.calls, list(hub.registry.audience)) == ({peer.inner}, [peer.inner])
        await peer.connection.send("hello")
        peer.wire.block() if peer.wire is not None else None
        await peer.connection.send("waits")
        peer.inner.closing.begin(Close(4000, "", Cause.APPLICATION))
        assert (hub.peers(), hub.ledger.count, list(hub.registry.audience)) == ([], 0, [])
        assert (hub.clients.leaving("ann"), hub.calls) == (1, {peer.inner})
        assert hub.statistics().messages_sent == 1
        peer.resume()
        await peer.connection.closed
        assert hub.statistics().messages_sent == 2
        assert hub.statistics().closed == {4000: 1}
        assert (hub.admission.count, hub.clients.leaving("ann")) == (1, 1)
        peer.leaves()
        peer.call.cancel()
        await peer.over()
        await until(lambda: hub.admission.count == 0)
        assert (hub.calls, hub.clients.leaving("ann")) == (set(), 0)


async def test_an_opening_reaches_only_subscribers_that_were_there() -> None:
    """Without a subscriber the event need not be made."""
    async with on_stage(echo) as stage:
        await stage.open()
        opened = list[ConnectionOpened]()
        stage.manager.on(ConnectionOpened, opened.append)
        peer = await stage.open()
        assert [event.connection_id for event in opened] == [peer.connection.id]


async def test_memory_kept_before_accept_counts_from_accept_on() -> None:
    """Metadata, user data and rooms may all be set before."""
    totals = list[int]()

    async def early(websocket: WebSocket) -> None:
        manager = websocket.state.manager
        await manager.connect("ann", websocket, {"role": "guest"})
        await manager.set_user_data("ann", "key", "value")
        await manager.join("ann", "lobby")
        totals.append(manager.get_memory_usage()["total_memory"])
        await websocket.accept()
        totals.append(manager.get_memory_usage()["total_memory"])
        assert manager.get_room_members("lobby") == ["ann"]

    async with on_stage(early) as stage:
        await stage.call(Peer()).over()
    assert totals[0] == 0 < totals[1]


async def test_refusals_are_counted_by_limit() -> None:
    """The counts come from the `LimitHit` events, whichever part emits them."""
    hub = hub_of(WebSocketConnectionManager())
    for limit in ("max_connections", "max_connections", "rate_limit"):
        hub.emit(LimitHit(limit, None, ""))
    assert hub.statistics().refused == {"max_connections": 2, "rate_limit": 1}


async def test_connection_ids_never_repeat() -> None:
    """They are unique across managers, too."""
    hubs = [hub_of(WebSocketConnectionManager()) for _ in range(2)]
    assert len({hub.next_id() for hub in hubs for _ in range(100)}) == 200


async def test_services_end_with_the_last_of_several_shutdowns() -> None:
    """Each ``start()`` needs a shutdown of its own."""
    hub = hub_of(WebSocketConnectionManager())
    hub.start()
    hub.start()
    await hub.shut_down(0.1)
    assert list(hub.loops)
    await hub.shut_down(0.1)
    assert list(hub.loops) == []
    assert not hub.is_draining


async def test_while_the_hub_drains_its_loops_know() -> None:
    """Loops that come later learn of it as well, until the next start."""
    hub = hub_of(WebSocketConnectionManager())
    await hub.drain()
    assert hub.is_draining
    assert hub.loops.here().draining
    hub.start()
    assert not hub.is_draining
    await hub.shut_down(0.1)


async def test_a_stop_of_the_server_drains_through_an_overridden_drain() -> None:
    """An application that overrides ``drain()`` sees the stop of the server as well."""

    class Announcing(WebSocketConnectionManager):
        async def drain(self, plan: Drain | None = None) -> ShutdownReport:
            """Announce the drain first."""
            announced.append(self.get_connection_count())
            return await super().drain(plan)

    announced = list[int]()
    hub = hub_of(Announcing())
    await hub.drain_before_stop()
    assert (announced, hub.is_draining) == ([0], True)


async def test_a_drain_can_be_hurried() -> None:
    """It then ends as if its deadline had passed."""
    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        peer.mute = True
        async with anyio.create_task_group() as group:
            group.start_soon(stage.hub.shut_down, 60)
            await until(lambda: peer.inner.closing.close is not None)
            stage.hub.hurry()
        assert peer.wire is not None
        assert peer.wire.aborted


async def test_stopping_one_of_several_servers_closes_its_own_connections_only() -> None:
    """The other servers go on."""
    async with on_stage(echo, capable=True) as stage:
        mine, other = await stage.open(), await stage.open()
        server = mine.inner.carrier.server = ServingServer()
        await stage.hub.stop_server(server, 1)
        assert server.stopping
        assert (mine.closed is None, other.closed) == (False, None)


async def test_close_all_closes_all_peers_at_once_and_waits_for_them() -> None:
    """One after the other would add up all their waits."""
    async with on_stage(echo, capable=True) as stage:
        peers = [await stage.open() for _ in range(3)]
        await stage.hub.close_all([peer.inner for peer in peers], Close(4000, "", Cause.APPLICATION))
        assert [peer.inner.closing.latch.is_set for peer in peers] == [True] * 3


async def test_a_start_begins_the_heartbeat_of_earlier_doubles() -> None:
    """Without the middleware nothing runs in the background before ``start()``."""
    manager = WebSocketConnectionManager(WebSocketConfig(heartbeat_interval=0.02, heartbeat_timeout=30))
    socket = AsyncMock()
    await manager.connect("ann", socket)
    hub_of(manager).start()
    await until(lambda: socket.send_text.await_count + socket.send_json.await_count)
    await hub_of(manager).shut_down(1)


async def test_warnings_that_peers_cause_have_a_budget_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    """They must not use up the budget of the other warnings."""
    caplog.set_level(logging.WARNING, "wsstab")
    hub = hub_of(WebSocketConnectionManager())
    for number in range(50):
        hub.warn_once(f"origin {number}", "! origin %s", number, by_peers=True)
    hub.warn_once("mine", "! mine")
    hub.warn_once("mine", "! mine")
    assert caplog.text.count("! mine") == 1
    assert 0 < caplog.text.count("! origin") < 50
    assert hub.may_tell("something")


async def test_slow_peers_and_their_queued_bytes_are_counted(anyio_backend: str) -> None:
    """The counts cover the peers of all event loops."""

    async def elsewhere() -> None:
        async with anyio.create_task_group() as group:
            other = await Stage(group, push_only, True, False, {"manager": stage.manager}).open()
            other.stall()
            await other.connection.send("twelve bytes")
            assert set(stage.hub.lagging()) == {peer.inner, other.inner}
            statistics = stage.hub.statistics()
            assert (statistics.slow_consumers, statistics.queued_bytes, statistics.connections) == (2, 16, 3)
            other.resume()
            other.leaves()
            group.cancel_scope.cancel()

    async with on_stage(push_only, capable=True) as stage:
        peer, _ = await stage.open(), await stage.open()
        peer.stall()
        await peer.connection.send("four")
        await anyio.to_thread.run_sync(partial(anyio.run, elsewhere, backend=anyio_backend))
        assert list(stage.hub.lagging()) == [peer.inner]
        statistics = stage.hub.statistics()
        assert (statistics.slow_consumers, statistics.queued_bytes, statistics.connections) == (1, 4, 2)
        peer.resume()
