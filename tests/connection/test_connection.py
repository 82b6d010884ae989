"""`Connection`, the object that a handler holds: the peer's identity and state, and the calls that act on it."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import AsyncMock

import anyio
import anyio.lowlevel
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Handler, Peer, on_stage, peer_of, push_only, settle, until
from wsstab import (
    Connection,
    ConnectionClosed,
    ConnectionOpened,
    WebSocketConnectionManager,
    WebSocketStabilizer,
)
from wsstab.close import Cause
from wsstab.connection import current_peer
from wsstab.connection.handler import Handler as OwnHandler
from wsstab.errors import PeerGoneError
from wsstab.manager import hub_of
from wsstab.types import Event, Receive, Scope, Send

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


async def test_an_accepted_connection_knows_its_identity() -> None:
    """Its id is its client id until the application names it."""
    before = time.time()
    async with on_stage() as stage:
        peer = await stage.open("/ws/room", query_string=b"token=secret")
        connection = peer.connection
        assert connection.client_id == connection.id
        assert (connection.path, connection.address) == ("/ws/room", "203.0.113.7")
        assert before <= connection.opened_at <= time.time()
        assert (connection.rooms, connection.metadata, dict(connection.user_data)) == (frozenset(), {}, {})
        assert (connection.latency, connection.draining, peer_of(connection).subprotocol) == (None, False, None)
        assert stage.manager.get_connection(connection.id) is connection
        assert stage.manager.connections() == [connection]


async def test_connection_ids_are_unique() -> None:
    """They are unique in the process, across all managers."""
    ids = {hub_of(WebSocketConnectionManager()).next_id() for _ in range(100)}
    manager = WebSocketConnectionManager()
    ids |= {hub_of(manager).next_id() for _ in range(100)}
    assert len(ids) == 200


async def test_repr_shows_name_path_queue_and_state() -> None:
    """It leaves out the query string, which may hold a token."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        connection = peer.connection
        peer.stall()
        await connection.send("waits")
        assert repr(connection) == "<Connection ann [/ws | 1 queued | open]>"
        peer.resume()
        await connection.close()
        assert repr(connection) == "<Connection ann [/ws | 0 queued | closed]>"


async def test_before_accept_a_connection_has_no_times_and_is_not_listed() -> None:
    """``opened_at`` and ``last_activity`` are 0."""
    seen: list[Any] = []

    async def handler(websocket: WebSocket) -> None:
        connection: Connection = websocket.state.connection
        seen.extend([connection.opened_at, connection.last_activity, websocket.state.manager.connections()])
        await websocket.accept()

    async with on_stage(handler) as stage:
        await (await stage.open()).over()
    assert seen == [0.0, 0.0, []]


async def test_last_activity_is_the_time_of_the_last_message() -> None:
    """Messages in both directions count; a pong does not."""
    async with on_stage(capable=True, heartbeat_interval=10) as stage:
        (peer,) = await stage.named("ann")
        connection = peer.connection
        peer.inner.opened_at -= 1000
        stage.pass_time(100)
        assert connection.last_activity == pytest.approx(time.time() - 100, abs=1)
        assert peer.wire is not None
        peer.wire.on_pong(peer.pings[-1])
        assert connection.last_activity == pytest.approx(time.time() - 100, abs=1)
        peer.says("hello")
        await peer.hears()
        assert connection.last_activity == pytest.approx(time.time(), abs=1)
        stage.pass_time(50)
        await stage.manager.send_to_client("ann", "hello")
        assert connection.last_activity == pytest.approx(time.time(), abs=1)


async def test_closed_may_be_awaited_any_number_of_times() -> None:
    """Several tasks may await it at once, and again after the end; all get the same event."""
    told: list[ConnectionClosed] = []
    async with on_stage() as stage:
        peer = await stage.open()
        connection = peer.connection

        async def wait() -> None:
            told.append(await connection.closed)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await settle()
            assert told == []
            peer.leaves(4000, "off")
        await wait()
        assert len(told) == 4
        assert len({id(event) for event in told}) == 1
        event = told[0]
        assert (event.connection_id, event.client_id) == (connection.id, connection.id)
        assert (event.code, event.reason, event.cause, event.error) == (4000, "off", Cause.CLIENT, None)
        assert 0 <= event.duration < 10


@pytest.mark.parametrize(("message", "arrives"), [("a", "a"), (b"b", b"b"), ({"c": 1}, '{"c":1}'), ([1, 2], "[1,2]")])
async def test_send_takes_text_bytes_and_json(message: Any, arrives: Any) -> None:
    """It returns whether the message is on its way."""
    async with on_stage(push_only) as stage:
        peer = await stage.open()
        assert await peer.connection.send(message) is True
        (got,) = await peer.hears()
        assert (got.replace(" ", "") if isinstance(got, str) else got) == arrives
        peer.leaves()
        await until(lambda: stage.manager.get_connection_count() == 0)
        assert await peer.connection.send(message) is False


async def test_sending_an_unsupported_type_raises_type_error() -> None:
    """It raises before anything is sent."""
    async with on_stage(push_only) as stage:
        peer = await stage.open()
        with pytest.raises(TypeError):
            await peer.connection.send(object())  # type: ignore[arg-type]


async def test_a_handler_may_send_through_its_connection() -> None:
    """``send`` waits for room as ``websocket.send_text`` does, and reports a departed peer by ``False``."""
    answers: list[bool] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        connection: Connection = websocket.state.connection
        assert current_peer.get() is peer_of(connection)
        answers.append(await connection.send({"hello": 1}))
        await websocket.receive()
        answers.append(await connection.send("too late"))

    async with on_stage(handler) as stage:
        peer = await stage.open()
        await peer.hears()
        peer.leaves()
        await peer.over()
    assert answers == [True, False]


async def test_close_is_idempotent_and_waits_for_the_end() -> None:
    """Code and reason of the first call count."""
    async with on_stage() as stage:
        peer = await stage.open()
        await peer.connection.close(4000, "first")
        await peer.connection.close(4001, "second")
        closed = await peer.connection.closed
        assert (peer.closed, closed.code, closed.cause) == ((4000, "first"), 4000, Cause.APPLICATION)


async def test_joining_and_leaving_a_room_twice_is_harmless() -> None:
    """Joining a room again, and leaving one that it is not in, are no errors."""
    async with on_stage() as stage:
        (peer,) = await stage.named("ann")
        connection = peer.connection
        await connection.join("lobby")
        await connection.join("lobby")
        await connection.join("attic")
        assert connection.rooms == {"lobby", "attic"}
        assert stage.manager.get_room_members("lobby") == ["ann"]
        await connection.leave("lobby")
        await connection.leave("lobby")
        assert connection.rooms == {"attic"}
        assert stage.manager.get_rooms() == ["attic"]


async def test_user_data_is_a_read_only_view() -> None:
    """Only the manager writes it."""
    async with on_stage() as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.set_user_data("ann", "key", [1])
        assert dict(peer.connection.user_data) == {"key": [1]}
        with pytest.raises(TypeError):
            peer.connection.user_data["key"] = 2  # type: ignore[index]


async def test_a_connection_tells_its_handler_of_a_drain() -> None:
    """``draining`` lets a handler finish its work before the connection is closed."""
    async with on_stage() as stage:
        peer = await stage.open()
        peer.mute = True
        async with anyio.create_task_group() as group:
            group.start_soon(stage.manager.drain)
            await until(lambda: peer.connection.draining)
            peer.mute = False
            peer.resume()


async def test_the_opened_event_has_path_address_and_subprotocol() -> None:
    """Subscribers get the event when the handler accepts."""
    opened: list[ConnectionOpened] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="chat")

    async with on_stage(handler) as stage:
        stage.manager.on(ConnectionOpened, opened.append)
        peer = await stage.open("/ws/x")
        connection = peer.connection
        assert opened == [ConnectionOpened(connection.id, connection.id, "/ws/x", "203.0.113.7", "chat")]


@pytest.mark.parametrize("other", ["asyncio", "trio"])
@pytest.mark.parametrize("own", ["asyncio", "trio"])
def test_closed_may_be_awaited_on_another_event_loop(own: str, other: str) -> None:
    """That loop may run in another thread and on the other backend."""
    manager = WebSocketConnectionManager()
    told: list[ConnectionClosed] = []

    async def watch(connection: Connection) -> None:
        told.append(await connection.closed)

    async def live() -> None:
        await manager.connect("ann", AsyncMock())
        (connection,) = manager.connections()

        def elsewhere() -> None:
            anyio.run(watch, connection, backend=other)

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, elsewhere)
            await until(lambda: peer_of(connection).closing.latch._waiting)
            await manager.disconnect("ann", 4000, "bye")

    anyio.run(live, backend=own)
    assert [(event.code, event.reason) for event in told] == [(4000, "bye")]


class Call:
    """One ASGI call made by hand, which keeps no reference to the connection."""

    def __init__(self, *events: str) -> None:
        self.events = list(events)
        self.sent: list[str] = []

    async def receive(self) -> Event:
        """The next event, not before the handshake is answered; after the last one it waits for ever."""
        if not self.events:
            await anyio.sleep_forever()
        kind = self.events.pop(0)
        while kind != "connect" and not self.sent:
            await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        return {"type": f"websocket.{kind}", **({"text": "hello"} if kind == "receive" else {})}

    async def send(self, event: Event) -> None:
        """Record the type of an event."""
        await anyio.lowlevel.checkpoint()
        self.sent.append(event["type"].removeprefix("websocket."))


async def returns(websocket: WebSocket) -> None:
    """Accept, and return."""
    await websocket.accept()


async def raises(websocket: WebSocket) -> None:
    """Accept, and fail."""
    await websocket.accept()
    raise LookupError("on purpose")


async def reads(websocket: WebSocket) -> None:
    """Accept, and read to the end."""
    await websocket.accept()
    async for _ in websocket.iter_text():
        pass


async def refuses(websocket: WebSocket) -> None:
    """Close instead of accepting."""
    await websocket.close()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the garbage collector off, so that only objects outside of reference cycles are freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("handler", [returns, raises, reads, refuses])
async def test_a_connection_is_freed_when_its_call_is_over(handler: Handler) -> None:
    """It and its parts are in no reference cycle, so no garbage collection is needed."""
    held: list[weakref.ref[Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["state"]["connection"]
        held.extend([weakref.ref(connection), weakref.ref(peer_of(connection))])
        del connection
        await handler(WebSocket(scope, receive, send))

    call = Call("connect", "receive", "disconnect")
    with suppress(LookupError):
        await WebSocketStabilizer(app)({"type": "websocket", "path": "/ws"}, call.receive, call.send)
    assert call.sent[0] in ("accept", "close")
    await until(lambda: [each() for each in held] == [None, None])


@pytest.mark.usefixtures("no_collector")
async def test_receive_and_send_kept_after_the_end_raise() -> None:
    """They say that the connection has ended, even though the application has let go of the connection itself."""
    kept: list[tuple[Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append((receive, send))
        await reads(WebSocket(scope, receive, send))

    call = Call("connect", "disconnect")
    await WebSocketStabilizer(app)({"type": "websocket", "path": "/ws"}, call.receive, call.send)
    await settle()
    ((receive, send),) = kept
    with pytest.raises(RuntimeError, match="once a disconnect"):
        await receive()
    for kind in ("websocket.send", "websocket.accept"):
        with pytest.raises(PeerGoneError, match="has ended"):
            await send({"type": kind, "text": "late"})
    await send({"type": "websocket.close"})
    assert call.sent == ["accept"]


class Leaver:
    """A client that keeps no reference to its connection after it has left."""

    def __init__(self) -> None:
        self.left = anyio.Event()
        self.heard: list[str] = []
        self._greeted = False

    async def receive(self) -> Event:
        """The handshake, and then the disconnect."""
        if not self._greeted:
            self._greeted = True
            return {"type": "websocket.connect"}
        await self.left.wait()
        return {"type": "websocket.disconnect", "code": 1001, "reason": ""}

    async def send(self, event: Event) -> None:
        """Record a message."""
        if event["type"] == "websocket.send":
            self.heard.append(event["text"])


async def test_a_handler_may_leave_its_room_in_its_last_step_during_broadcasts() -> None:
    """The connection is freed in the middle of a broadcast pass; that pass and all later ones still complete."""

    async def tidy(scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        connection = websocket.state.connection
        await connection.join("lobby")
        try:
            async for _ in websocket.iter_text():
                pass
        finally:
            await connection.leave("lobby")

    middleware = WebSocketStabilizer(tidy, max_concurrent_broadcast=2)
    manager, peers = middleware.manager, [Leaver() for _ in range(60)]

    async def call(peer: Leaver) -> None:
        await middleware({"type": "websocket", "path": "/ws"}, peer.receive, peer.send)

    async with anyio.create_task_group() as group:
        for peer in peers:
            group.start_soon(call, peer)
        await until(lambda: len(hub_of(manager).registry.members("lobby")) == 60)
        for number in range(90):
            await manager.broadcast(str(number), room="lobby")
            if number % 3 == 0:
                peers[-1 - number // 3].left.set()
            await settle(3)
        await manager.broadcast("the last", room="lobby")
        await until(lambda: all(peer.heard[-1] == "the last" for peer in peers[:30]))
        for peer in peers:
            peer.left.set()


async def test_a_kept_connection_still_answers_after_its_end() -> None:
    """Its statistics and close event stay readable, and nothing can be sent through it any more."""
    async with on_stage() as stage:
        peer = await stage.open()
        connection = peer.connection
        await connection.join("lobby")
        peer.says("hello")
        await peer.hears()
        peer.leaves(4001)
        await peer.over()
        await settle()
        assert (await connection.closed).code == 4001
        statistics = connection.statistics()
        assert (statistics.messages_received, statistics.messages_sent, statistics.queued_messages) == (1, 1, 0)
        assert not await connection.send("late")
        await connection.close()
        await connection.leave("lobby")
        own = OwnHandler(peer_of(connection))
        with pytest.raises(PeerGoneError):
            await own.send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError, match="once a disconnect"):
            await own.receive()
        assert (connection.latency, connection.rooms) == (None, frozenset())
        assert connection.last_activity > 0
        assert repr(connection).endswith("closed]>")


async def test_a_disconnect_stays_readable_after_the_handler_has_returned() -> None:
    """A task that the handler left running still gets the unread messages and then the disconnect."""
    async with on_stage(returns) as stage:
        peer = Peer()
        peer.says("unread")
        stage.call(peer)
        await peer.over()
        await settle()
        connection = peer.connection
        own = OwnHandler(peer_of(connection))
        kinds = [(await own.receive())["type"]]
        while kinds[-1] != "websocket.disconnect":
            kinds.append((await own.receive())["type"])
        assert connection.statistics().unread_messages == 0
