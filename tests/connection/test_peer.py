"""`wsstab.connection.peer`: the milestones of a peer, each once and in order, and what remains after them."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Handler, Peer, Stage, on_stage, peer_of, until
from wsstab import Override, RateLimit, WebSocketConnectionManager
from wsstab.connection import Delivery, connection_of
from wsstab.connection.peer import current_peer
from wsstab.events import ConnectionClosed
from wsstab.manager import hub_of

pytestmark = pytest.mark.anyio

MILESTONES = ["opened", "closing", "closed", "released"]


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


def recorded(manager: WebSocketConnectionManager) -> list[str]:
    """The milestones that a manager's hub is told of, in order; the hub still handles them."""
    hub, reached = hub_of(manager), list[str]()

    def reach(name: str, real: Callable[[Any], None], peer: Any) -> None:
        reached.append(name)
        real(peer)

    for name in MILESTONES:
        setattr(hub, name, partial(reach, name, getattr(hub, name)))
    return reached


async def accepts(websocket: WebSocket) -> None:
    """Accept, and read to the end."""
    await websocket.accept()
    while (await websocket.receive())["type"] == "websocket.receive":
        pass


async def raises(websocket: WebSocket) -> None:
    """Accept, and fail."""
    await websocket.accept()
    raise ValueError("on purpose")


async def closes(websocket: WebSocket) -> None:
    """Accept, close, and disconnect again."""
    await websocket.accept()
    await websocket.state.connection.close(4000)
    await websocket.state.manager.disconnect(websocket.state.connection.client_id)


async def leaves(stage: Stage, peer: Peer) -> None:
    """The peer leaves."""
    peer.leaves()


async def disconnects(stage: Stage, peer: Peer) -> None:
    """The manager disconnects the peer at the moment at which it leaves."""
    peer.leaves()
    await stage.manager.disconnect_all()


async def drains(stage: Stage, peer: Peer) -> None:
    """The manager shuts down."""
    await stage.manager.graceful_shutdown(1)


async def is_cut(stage: Stage, peer: Peer) -> None:
    """The heartbeat aborts the peer, and the manager closes it meanwhile."""
    assert peer.wire is not None
    peer.inner.heartbeat.dead(0.0)
    await stage.manager.disconnect_all()


async def is_cancelled(stage: Stage, peer: Peer) -> None:
    """The server cancels the call."""
    peer.call.cancel()


async def nothing(stage: Stage, peer: Peer) -> None:
    """The handler ends by itself."""


@pytest.mark.parametrize(
    ("handler", "end"),
    [
        (accepts, leaves),
        (accepts, disconnects),
        (accepts, drains),
        (accepts, is_cut),
        (accepts, is_cancelled),
        (raises, nothing),
        (closes, nothing),
        (closes, leaves),
    ],
)
async def test_each_milestone_is_reached_once_however_the_connection_ends(
    handler: Handler, end: Callable[[Stage, Peer], Awaitable[None]]
) -> None:
    """Their order is opened, closing, closed, released."""
    async with on_stage(handler, capable=True, errors=True) as stage:
        reached = recorded(stage.manager)
        peer = await stage.open()
        await end(stage, peer)
        await peer.over()
        assert reached == MILESTONES


async def refuses(websocket: WebSocket) -> None:
    """Close instead of accepting."""
    await websocket.close()


async def denies(websocket: WebSocket) -> None:
    """Fail before accept."""
    raise ValueError("on purpose")


@pytest.mark.parametrize("handler", [refuses, denies])
async def test_a_handshake_that_is_never_accepted_is_only_released(handler: Handler) -> None:
    """It was in no list, so there is nothing to close."""
    async with on_stage(handler, errors=True) as stage:
        reached = recorded(stage.manager)
        await stage.call(Peer()).over()
        assert reached == ["released"]


async def test_a_peer_without_a_call_is_released_when_its_close_begins() -> None:
    """No end of a call would release it later, and the close may take long."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    reached = recorded(manager)
    await manager.connect("ann", socket)
    await manager.disconnect("ann")
    assert reached == ["opened", "closing", "released", "closed"]
    assert hub_of(manager).admission.count == 0


async def test_a_peer_is_awaited_until_it_is_accepted_or_refused() -> None:
    """``is_awaited`` says that its handshake can still be answered."""
    seen = list[bool]()

    async def handler(websocket: WebSocket) -> None:
        peer = peer_of(websocket.state.connection)
        assert current_peer.get() is peer
        seen.append(peer.is_awaited)
        await websocket.accept()
        seen.append(peer.is_awaited)

    async def late(websocket: WebSocket) -> None:
        peer = peer_of(websocket.state.connection)
        await websocket.close()
        seen.append(peer.is_awaited)

    for each in (handler, late):
        async with on_stage(each) as stage:
            await stage.call(Peer()).over()
    assert seen == [True, False, False]


async def test_peers_that_open_together_do_not_beat_together() -> None:
    """The first ping is delayed by a phase that depends on the shard."""
    async with on_stage(accepts, capable=True, heartbeat_interval=10, num_shards=4) as stage:
        peers = [await stage.open() for _ in range(20)]
        phases = {peer.inner.shard: peer.inner._phase() for peer in peers}
        assert sorted(phases.values()) == [phases[shard] for shard in sorted(phases)]
        assert max(phases.values()) == max(phases) / 4 * 0.5


async def test_a_delaying_rate_limit_needs_a_reader_task() -> None:
    """A handler that reads directly could outrun the rate."""
    for action, direct in (("delay", False), ("drop", True)):
        rate = RateLimit(messages_per_second=10, action=action)  # type: ignore[arg-type]
        async with on_stage(accepts, capable=True, rate_limit=rate) as stage:
            assert (await stage.open()).inner.carrier.direct is direct


async def test_the_traffic_of_a_peer_is_in_the_statistics_of_its_manager() -> None:
    """Each counter of a peer is a field of the statistics."""
    async with on_stage(accepts) as stage:
        peer = await stage.open()
        peer.says("four")
        await peer.connection.send("three")
        await until(lambda: peer.inner.receiver.messages)
        traffic = peer.inner.traffic()
        statistics = stage.manager.statistics()
        assert traffic == {name: getattr(statistics, name) for name in traffic}
        assert (traffic["bytes_received"], traffic["bytes_sent"]) == (4, 5)


async def test_repr_shows_name_path_queue_and_state() -> None:
    """It is meant for those who debug this package."""
    async with on_stage(accepts) as stage:
        (peer,) = await stage.named("ann")
        assert repr(peer.inner) == "<Peer ann [/ws | 0 queued | open]>"


async def test_the_closed_event_comes_before_the_peer_is_released() -> None:
    """A callback can therefore still read the state of the peer."""
    told = list[tuple[str, bool]]()
    async with on_stage(accepts, routes={"/ws": Override(broadcast=False)}) as stage:

        def hear(event: ConnectionClosed) -> None:
            (peer,) = stage.hub.calls
            told.append((event.client_id, peer.accepts_broadcasts))

        stage.manager.on(ConnectionClosed, hear)
        peer = await stage.open()
        peer.leaves()
        await peer.over()
        assert told == [(peer.inner.client_id, False)]
        with anyio.fail_after(5):
            assert (await peer.connection.closed).code == 1001


async def test_a_message_from_another_loop_keeps_the_peer_alive_until_delivered() -> None:
    """Its call may end, and every other reference may go, before its loop runs the delivery."""
    async with on_stage(accepts, capable=True) as stage:
        peer = await stage.open()
        handed_over = list[Callable[[], object]]()

        class Elsewhere:
            """The loop of the peer, as code in another thread sees it."""

            def call_from_thread(self, call: Callable[..., object], *args: object) -> bool:
                handed_over.append(partial(call, *args))
                return True

        loop, peer.inner.loop = peer.inner.loop, Elsewhere()  # type: ignore[assignment]
        assert await peer.connection.send("late")
        peer.inner.loop = loop
        peer.leaves()
        await peer.over()
        peer.scope.clear()
        gc.collect()
        (deliver,) = handed_over
        assert deliver() is Delivery.GONE


async def test_asking_for_the_connection_after_the_end_makes_no_reference_cycle() -> None:
    """`connection_of` returns an equal object each time, which the peer does not keep."""
    async with on_stage(accepts) as stage:
        peer = await stage.open()
        before = peer.connection
        peer.leaves()
        await peer.over()
        after = connection_of(peer.inner)
        assert after == before
        assert hash(after) == hash(before)
        assert after is not before
        assert peer.inner.connection is None
