"""The manager's public methods: their documented results and errors."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.published.doubles import CountingSocket, Gauge, fleet
from tests.support.stage import echo, on_stage, push_only, settle
from wsstab import (
    CloseCode,
    ConnectionClosed,
    ConnectionIdentified,
    ConnectionLimitExceededError,
    ConnectionNotFoundError,
    ConnectionOpened,
    Hooks,
    LimitHit,
    MemoryLimitExceededError,
    WebSocketConfig,
    WebSocketConnectionManager,
)
from wsstab.events import Event
from wsstab.manager import hub_of
from wsstab.notices import FEW

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on asyncio and on trio."""
    return str(request.param)


# Life cycle.


async def test_the_repr_shows_connections_rooms_queued_bytes_and_state() -> None:
    """For logs and debuggers."""
    async with on_stage(push_only, capable=True) as stage:
        ann, _ = await stage.named("ann", "bob")
        await stage.manager.join("ann", "lobby")
        ann.stall()
        await stage.manager.send_to_client("ann", "x" * 2048)
        assert repr(stage.manager) == "<WebSocketConnectionManager [2 connections, 1 rooms | queued 2.0 KiB | open]>"
    await stage.manager.drain()
    assert repr(stage.manager) == "<WebSocketConnectionManager [0 connections, 0 rooms | queued 0.0 KiB | draining]>"


async def test_the_configuration_is_a_frozen_copy() -> None:
    """Later changes to the original have no effect."""
    config = WebSocketConfig(max_connections=5)
    manager = WebSocketConnectionManager(config)
    config.max_connections = 1
    assert manager.config.max_connections == 5
    with pytest.raises(AttributeError):
        manager.config.max_connections = 2


async def test_each_start_needs_its_own_shutdown() -> None:
    """Only the last shutdown stops the services."""
    manager = WebSocketConnectionManager()
    await manager.start()
    await manager.start()
    services = hub_of(manager).loops.here()
    await manager.graceful_shutdown()
    assert services.started
    await manager.graceful_shutdown()
    assert not services.started
    assert manager.is_ready


async def test_a_manager_can_be_started_and_shut_down_repeatedly() -> None:
    """More shutdowns than starts do no harm."""
    manager = WebSocketConnectionManager()
    for _ in range(3):
        await manager.start()
        await manager.connect("ann", AsyncMock())
        assert (await manager.graceful_shutdown()).closed_count == 1
        assert (await manager.graceful_shutdown()).closed_count == 0
        assert manager.get_connection_count() == 0
    assert manager.statistics().opened == 3


# Names.


async def test_a_connection_without_a_name_is_listed_under_its_id() -> None:
    """Lists, sends and exclusion work with the id as soon as the socket is accepted."""
    async with on_stage(push_only) as stage:
        peer, other = await stage.open(), await stage.open()
        name = peer.connection.id
        assert set(stage.manager.get_active_connections()) == {name, other.connection.id}
        assert await stage.manager.send_to_client(name, "1")
        assert (await stage.manager.broadcast("2", exclude_client=name)).succeeded == 1
        assert await other.hears() == ["2"]
        assert peer.messages == ["1"]


async def test_connect_names_a_connection_and_emits_an_event() -> None:
    """It takes metadata too, and emits the event once for each new name."""
    named: list[ConnectionIdentified] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.state.manager.connect("ann", websocket, {"age": 3})
        await websocket.state.manager.connect("ann", websocket)
        await websocket.receive()

    async with on_stage(handler) as stage:
        stage.manager.on(ConnectionIdentified, named.append)
        peer = await stage.open()
        connection = peer.connection
        assert (connection.client_id, connection.metadata) == ("ann", {"age": 3})
        assert stage.manager.get_connection("ann") is connection
        assert stage.manager.get_connection(connection.id) is None
        assert named == [ConnectionIdentified(connection.id, "ann", connection.id)]


@pytest.mark.parametrize("name", ["", None, 5])
async def test_connect_refuses_a_client_id_that_is_empty_or_not_a_string(name: Any) -> None:
    """No connection can have such a client id, so none is found."""
    manager = WebSocketConnectionManager()
    with pytest.raises(ConnectionNotFoundError):
        await manager.connect(name, AsyncMock())
    assert manager.get_connection_count() == 0


async def test_naming_a_connection_that_has_ended_does_nothing() -> None:
    """The peer has left before its handler names it."""
    async with on_stage() as stage:
        peer = await stage.open()
        peer.leaves()
        await peer.over()
        await stage.manager.connect("ann", WebSocket(peer.scope, peer.receive, peer.send))
        assert stage.manager.get_active_connections() == []


async def test_methods_fail_or_do_nothing_for_an_unknown_client_id() -> None:
    """Which of the two is the choice of the published package."""
    manager = WebSocketConnectionManager()
    for call in (manager.disconnect("x"), manager.set_user_data("x", "k", 1), manager.join("x", "r")):
        with pytest.raises(ConnectionNotFoundError):
            await call
    with pytest.raises(ConnectionNotFoundError):
        await manager.leave("x", "r")
    await manager.handle_pong("x")
    assert await manager.get_user_data("x", "k") is None
    assert await manager.send_to_client("x", "m") is False
    assert (manager.get_connection("x"), manager.get_rooms("x"), manager.get_room_members("r")) == (None, [], [])


# Several connections with one client id.


@pytest.mark.parametrize("real", [True, False])
async def test_by_default_a_newer_connection_replaces_the_older_one(real: bool) -> None:
    """The older one is closed with 4409, after which a client does not come back."""
    async with on_stage(push_only) as stage:
        if real:
            old, new = await stage.named("ann", "ann")
            await settle()
            assert old.closed == (CloseCode.DUPLICATE_CLIENT, "replaced by a newer connection")
            assert new.closed is None
        else:
            first, second = AsyncMock(), AsyncMock()
            await stage.manager.connect("ann", first)
            await stage.manager.connect("ann", second)
            await settle()
            first.close.assert_awaited_once_with(code=4409, reason="replaced by a newer connection")
            second.close.assert_not_awaited()
        assert stage.manager.get_connection_count() == 1
        await stage.manager.disconnect_all()


async def test_a_client_id_that_is_taken_can_be_refused() -> None:
    """The error carries its close, and a test double that is refused is not connected at all."""
    hits: list[LimitHit] = []
    manager = WebSocketConnectionManager(WebSocketConfig(duplicate_client="reject"))
    manager.on(LimitHit, hits.append)
    await manager.connect("ann", AsyncMock())
    refused = AsyncMock()
    with pytest.raises(ConnectionLimitExceededError) as caught:
        await manager.connect("ann", refused)
    assert caught.value.close.code == 4409
    await settle()
    assert manager.get_connection_count() == 1
    assert [hit.limit for hit in hits] == ["duplicate_client"]
    assert manager.statistics().refused == {"duplicate_client": 1}


async def test_a_refusal_that_the_handler_does_not_catch_closes_its_socket() -> None:
    """The socket gets the code and the reason of the error."""

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.state.manager.connect("ann", websocket)
        await websocket.receive()

    async with on_stage(handler, duplicate_client="reject") as stage:
        first, second = await stage.open(), await stage.open()
        await second.over()
        assert (first.closed, second.closed) == (None, (4409, "client id is taken"))


async def test_a_client_can_have_several_connections_up_to_its_limit() -> None:
    """With ``duplicate_client="allow"``."""
    config = WebSocketConfig(duplicate_client="allow", max_connections_per_client=2)
    manager, sockets = await fleet("ann", "ann", config=config)
    with pytest.raises(ConnectionLimitExceededError) as caught:
        await manager.connect("ann", AsyncMock())
    assert caught.value.close.code == 1008
    await settle()
    assert (manager.get_active_connections(), manager.get_connection_count()) == (["ann"], 2)
    await manager.disconnect("ann")
    for socket in sockets:
        socket.close.assert_awaited_once()
    await manager.connect("ann", AsyncMock())


async def test_a_known_client_can_reconnect_at_the_connection_limit() -> None:
    """It takes the place of its older connection; a new client is refused."""
    manager, _ = await fleet("ann", "bob", config=WebSocketConfig(max_connections=2))
    with pytest.raises(ConnectionLimitExceededError) as caught:
        await manager.connect("cid", AsyncMock())
    assert caught.value.close.code == 1013
    await manager.connect("ann", AsyncMock())
    await settle()
    assert sorted(manager.get_active_connections()) == ["ann", "bob"]
    assert manager.statistics().refused == {"max_connections": 1}
    await manager.disconnect("bob")
    await manager.connect("cid", AsyncMock())


# Disconnects.


async def test_disconnect_closes_a_socket_with_the_given_code_and_reason() -> None:
    """A second call finds no such client."""
    async with on_stage(echo) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.disconnect("ann", 4001, "bye")
        assert peer.closed == (4001, "bye")
        await peer.over()
        with pytest.raises(ConnectionNotFoundError):
            await stage.manager.disconnect("ann")


async def test_a_late_disconnect_of_a_handler_spares_the_successor() -> None:
    """Its own connection has been replaced and has ended; the newer one with the same client id stays open."""
    ended: list[str] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.state.manager.connect("ann", websocket)
        try:
            await websocket.receive()
        finally:
            await websocket.state.manager.disconnect("ann")
            ended.append("ann")

    async with on_stage(handler) as stage:
        old, new = await stage.open(), await stage.open()
        await old.over()
        assert ended == ["ann"]
        assert new.closed is None
        assert stage.manager.get_connection("ann") is new.connection


async def test_disconnect_all_limits_concurrent_closes_and_keeps_the_manager_open() -> None:
    """``max_concurrent_cleanup`` is the limit; new connections are admitted afterwards."""
    manager = WebSocketConnectionManager(WebSocketConfig(max_concurrent_cleanup=5, num_shards=2))
    sends, closes = Gauge(), Gauge()
    for number in range(23):
        await manager.connect(f"n{number}", CountingSocket(sends, closes))
    await manager.disconnect_all(4002, "closing time")
    assert (closes.passed, manager.get_connection_count()) == (23, 0)
    assert closes.most <= 5
    assert manager.statistics().closed == {4002: 23}
    await manager.connect("new", AsyncMock())
    assert manager.is_ready


# Rooms.


async def test_a_room_exists_while_it_has_members() -> None:
    """It appears with its first member and disappears with its last."""
    manager, _ = await fleet("ann", "bob")
    await manager.join("ann", "lobby")
    await manager.join("bob", "lobby")
    await manager.join("ann", "attic")
    assert sorted(manager.get_rooms()) == ["attic", "lobby"]
    assert manager.get_rooms("ann") == ["attic", "lobby"]
    assert sorted(manager.get_room_members("lobby")) == ["ann", "bob"]
    assert manager.statistics().rooms == 2
    await manager.leave("ann", "attic")
    await manager.leave("ann", "attic")
    await manager.disconnect("bob")
    assert manager.get_rooms() == ["lobby"]
    assert manager.get_room_members("lobby") == ["ann"]


async def test_all_sockets_of_a_client_join_a_room_that_lists_the_client_once() -> None:
    """With ``duplicate_client="allow"``."""
    manager, sockets = await fleet("ann", "ann", config=WebSocketConfig(duplicate_client="allow"))
    await manager.join("ann", "lobby")
    assert manager.get_room_members("lobby") == ["ann"]
    assert (await manager.broadcast("x", room="lobby")).total == 2
    for socket in sockets:
        socket.send_text.assert_awaited_once_with("x")


async def test_a_member_gets_only_the_messages_between_its_join_and_its_leave() -> None:
    """The order of the calls decides, even without a pause between them."""
    async with on_stage(push_only) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.broadcast("before", room="lobby")
        await stage.manager.join("ann", "lobby")
        await stage.manager.broadcast("inside", room="lobby")
        await stage.manager.leave("ann", "lobby")
        await stage.manager.broadcast("after", room="lobby")
        await settle()
        assert peer.messages == ["inside"]


# Memory and user data.


async def test_metadata_counts_as_memory_and_can_be_replaced() -> None:
    """Smaller metadata frees memory."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    await manager.connect("ann", socket, {"data": "x" * 1000})
    large = manager.get_memory_usage()
    assert large["total_memory"] > 1000
    assert large["per_connection_average"] == large["total_memory"]
    await manager.connect("ann", socket, {"data": "x"})
    assert manager.get_memory_usage()["total_memory"] < 1000
    (connection,) = manager.connections()
    assert connection.metadata == {"data": "x"}
    assert connection.statistics().memory == manager.statistics().memory


async def test_metadata_over_the_limit_is_refused_and_the_earlier_one_stays() -> None:
    """A socket that was not connected yet is not connected; one that was keeps its metadata."""
    manager, socket = WebSocketConnectionManager(WebSocketConfig(max_memory_per_connection=4096)), AsyncMock()
    with pytest.raises(MemoryLimitExceededError):
        await manager.connect("ann", socket, {"data": "x" * 5000})
    await settle()
    assert manager.get_connection_count() == 0
    await manager.connect("ann", socket, {"data": "small"})
    with pytest.raises(MemoryLimitExceededError):
        await manager.connect("ann", socket, {"data": "x" * 5000})
    (connection,) = manager.connections()
    assert connection.metadata == {"data": "small"}


# Events, statistics and logs.


async def test_events_reach_callbacks_decorated_functions_and_hooks() -> None:
    """``on()`` returns the function that it was given."""
    heard: list[str] = []
    config = WebSocketConfig(hooks=Hooks(on_connect=lambda event: heard.append("hook")))
    manager = WebSocketConnectionManager(config)

    @manager.on(ConnectionOpened)
    async def opened(event: ConnectionOpened) -> None:
        heard.append("decorator")

    def everything(event: Event) -> None:
        heard.append(type(event).__name__)

    assert manager.on(Event, everything) is everything
    assert opened.__name__ == "opened"
    await manager.connect("ann", AsyncMock())
    await settle()
    assert sorted(heard) == ["ConnectionIdentified", "ConnectionOpened", "decorator", "hook"]


async def test_a_failing_callback_is_logged_and_closes_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The log has its traceback."""
    async with on_stage() as stage:
        stage.manager.on(ConnectionOpened, lambda event: 1 / 0)
        peer = await stage.open()
        peer.says("x")
        assert await peer.hears() == ["x"]
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


async def test_subscribing_to_a_class_that_is_no_event_is_a_type_error() -> None:
    """Such a callback would never be called."""
    manager = WebSocketConnectionManager()
    with pytest.raises(TypeError):
        manager.on(str, print)  # type: ignore[arg-type]


async def test_statistics_outlive_their_connections() -> None:
    """They are totals over the whole life of the manager."""
    closed: list[ConnectionClosed] = []
    async with on_stage() as stage:
        stage.manager.on(ConnectionClosed, closed.append)
        for code in (4000, 4000, 4001):
            peer = await stage.open()
            peer.says("abc")
            await peer.hears()
            peer.leaves(code)
            await peer.over()
        statistics = stage.manager.statistics()
        assert (statistics.connections, statistics.opened, statistics.closed) == (0, 3, {4000: 2, 4001: 1})
        assert (statistics.messages_received, statistics.messages_sent, statistics.bytes_sent) == (3, 3, 9)
        assert len(closed) == 3


async def test_latencies_are_measured_only_with_enable_metrics() -> None:
    """It measures those of pings and of broadcasts."""
    for metrics in (False, True):
        async with on_stage(push_only, enable_metrics=metrics) as stage:
            await stage.named("ann", "bob")
            await stage.manager.broadcast("x")
            await settle()
            latencies = stage.manager.statistics().latencies
            assert sorted(latencies) == (["broadcast", "ping"] if metrics else [])
            assert not metrics or latencies["broadcast"].count == 1
            assert not metrics or latencies["ping"].count == 0


async def test_each_warning_is_logged_once_and_their_number_is_limited(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred of those that the operator causes; peers have smaller budgets, see `Notices`."""
    manager = WebSocketConnectionManager()
    for by_peers in (True, False):
        for number in range(110):
            for _ in range(2):
                hub_of(manager).warn_once(f"key {number}", "warning %s", number, by_peers=by_peers)
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == FEW + 100


async def test_a_manager_issues_and_validates_its_tokens_and_emits_events() -> None:
    """The token names the client that it was issued for."""
    heard: list[str] = []
    manager = WebSocketConnectionManager(WebSocketConfig(secret_key="a secret of some length"))
    manager.on(Event, lambda event: heard.append(type(event).__name__))
    token = manager.generate_reconnect_token("ann")
    assert await manager.validate_reconnect_token(token) == "ann"
    assert heard == ["TokenIssued", "TokenUsed"]


async def test_the_services_of_a_loop_end_with_its_last_connection() -> None:
    """They stay if the manager was started there. A test client makes a new loop for each socket."""
    manager = WebSocketConnectionManager()
    await manager.connect("ann", AsyncMock())
    assert len(hub_of(manager).loops.services) == 1
    await manager.disconnect("ann")
    assert hub_of(manager).loops.services == {}
    with anyio.fail_after(5):
        await manager.start()
        await manager.connect("ann", AsyncMock())
        await manager.disconnect("ann")
        assert len(hub_of(manager).loops.services) == 1
        await manager.graceful_shutdown()
    assert hub_of(manager).loops.services == {}
