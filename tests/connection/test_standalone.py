"""Without the middleware: ``connect()`` registers any object with Starlette's coroutines, a double, as a connection."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from tests.support.stage import peer_of, settle, until
from wsstab import (
    CloseCode,
    ConnectionClosed,
    ConnectionIdentified,
    ConnectionOpened,
    Outbound,
    ShutdownError,
    WebSocketConfig,
    WebSocketConnectionManager,
    WebSocketStabilizer,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


async def test_a_double_is_opened_named_and_closed_as_a_connection_is() -> None:
    """Meanwhile it is in all lists and counts."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    events: list[Any] = []
    for kind in (ConnectionOpened, ConnectionIdentified, ConnectionClosed):
        manager.on(kind, events.append)
    await manager.connect("ann", socket)
    assert (manager.get_active_connections(), manager.get_connection_count()) == (["ann"], 1)
    await manager.disconnect("ann", 4000, "bye")
    assert (manager.get_active_connections(), manager.get_connection_count()) == ([], 0)
    socket.close.assert_awaited_once_with(code=4000, reason="bye")
    assert [type(event).__name__ for event in events] == [
        "ConnectionOpened",
        "ConnectionIdentified",
        "ConnectionClosed",
    ]
    assert manager.statistics().closed == {4000: 1}


async def test_connecting_the_same_object_again_only_renames_it() -> None:
    """It remains one connection under a new name."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    await manager.connect("ann", socket)
    await manager.connect("bob", socket, {"age": 3})
    assert (manager.get_active_connections(), manager.get_connection_count()) == (["bob"], 1)
    (connection,) = manager.connections()
    assert connection.metadata == {"age": 3}
    socket.close.assert_not_awaited()


async def test_a_double_whose_send_fails_counts_as_departed() -> None:
    """It is unlisted at once, and closed as 1006."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    await manager.connect("ann", socket)
    (connection,) = manager.connections()
    socket.send_text.side_effect = RuntimeError
    assert await manager.send_to_client("ann", "x") is False
    assert manager.get_active_connections() == []
    assert (await connection.closed).code == 1006
    assert await connection.send("again") is False


async def test_a_double_whose_send_hangs_is_given_up() -> None:
    """It is unlisted after ``send_timeout``."""
    manager, socket = WebSocketConnectionManager(WebSocketConfig(outbound=Outbound(send_timeout=0.05))), AsyncMock()
    await manager.connect("ann", socket)

    async def hang(text: str) -> None:
        await anyio.sleep_forever()

    socket.send_text.side_effect = hang
    with anyio.fail_after(5):
        assert await manager.send_to_client("ann", "x") is False
    assert manager.get_active_connections() == []


async def test_a_message_of_an_unsupported_type_leaves_the_double_connected() -> None:
    """The mistake is the caller's, who gets a ``TypeError``."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    await manager.connect("ann", socket)
    with pytest.raises(TypeError):
        await manager.send_to_client("ann", object())  # type: ignore[arg-type]
    assert manager.get_active_connections() == ["ann"]


async def test_sends_to_one_double_never_overlap_and_keep_the_order_of_the_calls() -> None:
    """A real socket does not allow two sends at once."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    inside, calls, log = 0, list[str](), list[str]()

    async def send_text(text: str) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await settle(3)
        log.append(text)
        inside -= 1

    async def call(text: str) -> None:
        # Trio starts the tasks in any order.
        calls.append(text)
        assert await manager.send_to_client("ann", text)

    socket.send_text.side_effect = send_text
    await manager.connect("ann", socket)
    async with anyio.create_task_group() as group:
        for text in "abcde":
            group.start_soon(call, text)
    assert log == calls
    assert sorted(log) == list("abcde")
    assert manager.statistics().messages_sent == 5


async def test_a_double_whose_close_fails_is_unlisted_anyway() -> None:
    """Closing fails if the peer was faster."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    socket.close.side_effect = RuntimeError("already closed")
    await manager.connect("ann", socket)
    await manager.disconnect("ann")
    assert manager.get_connection_count() == 0


async def test_no_double_is_accepted_while_the_manager_drains() -> None:
    """Starting the manager again lets doubles in again."""
    manager = WebSocketConnectionManager()
    await manager.drain()
    with pytest.raises(ShutdownError):
        await manager.connect("ann", AsyncMock())
    await manager.start()
    await manager.connect("ann", AsyncMock())
    assert manager.get_active_connections() == ["ann"]
    await manager.graceful_shutdown()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
@pytest.mark.parametrize("own", ["asyncio", "trio"])
def test_a_message_for_a_double_is_sent_on_its_own_event_loop(own: str, other: str) -> None:
    """Its close runs there as well."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()

    async def speak() -> None:
        assert await manager.send_to_client("ann", "direct") is True
        result = await manager.broadcast("all")
        assert (result.total, result.succeeded, result.queued) == (1, 1, 1)
        await until(lambda: socket.send_text.await_count == 2)
        await manager.disconnect("ann")

    with anyio.from_thread.start_blocking_portal(other) as portal:
        portal.call(manager.connect, "ann", socket)
        anyio.run(speak, backend=own)
    assert [call.args[0] for call in socket.send_text.await_args_list] == ["direct", "all"]
    socket.close.assert_awaited_once()
    assert manager.get_connection_count() == 0


async def test_a_double_whose_loop_has_ended_is_gone(anyio_backend: str) -> None:
    """No event loop is left to hand a message to."""
    manager = WebSocketConnectionManager()
    connect = partial(anyio.run, manager.connect, "ann", AsyncMock(), backend=anyio_backend)
    await anyio.to_thread.run_sync(connect)
    assert await manager.send_to_client("ann", "x") is False


def standalone(manager: WebSocketConnectionManager) -> Starlette:
    """An application with a manager and without the middleware."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        name = websocket.path_params["name"]
        await manager.connect(name, websocket)
        try:
            async for text in websocket.iter_text():
                await manager.send_to_client(name, {"echo": text})
        finally:
            await manager.disconnect(name)

    return Starlette(routes=[WebSocketRoute("/{name}", endpoint)])


def test_starlette_s_websocket_works_without_the_middleware() -> None:
    """JSON is encoded for it, and one manager serves one connection after another."""
    manager = WebSocketConnectionManager()
    client = TestClient(standalone(manager))
    for _ in range(3):
        with client.websocket_connect("/ann") as socket:
            socket.send_text("hello")
            assert socket.receive_json() == {"echo": "hello"}
            assert manager.get_active_connections() == ["ann"]
        assert manager.get_active_connections() == []


def test_a_replaced_handler_s_disconnect_spares_its_successor() -> None:
    """Its ``disconnect`` is about its own connection, although the name now belongs to the new one."""
    manager = WebSocketConnectionManager()
    client = TestClient(standalone(manager))
    with client.websocket_connect("/ann") as old:
        old.send_text("ready")
        assert old.receive_json() == {"echo": "ready"}
        with client.websocket_connect("/ann") as new:
            new.send_text("here")
            assert new.receive_json() == {"echo": "here"}
            assert old.receive() == {
                "type": "websocket.close",
                "code": CloseCode.DUPLICATE_CLIENT,
                "reason": "replaced by a newer connection",
            }
            old.close()
            new.send_text("still here")
            assert new.receive_json() == {"echo": "still here"}
            assert manager.get_active_connections() == ["ann"]


async def test_messages_to_a_double_are_counted_in_bytes_and_latency() -> None:
    """A double gets messages unencoded; the bytes counted are those that would travel."""
    manager = WebSocketConnectionManager(WebSocketConfig(enable_metrics=True))
    await manager.connect("ann", AsyncMock())
    await manager.send_to_client("ann", "é")
    await manager.broadcast({"a": 1})
    statistics = manager.statistics()
    assert (statistics.messages_sent, statistics.bytes_sent) == (2, 2 + len('{"a":1}'))
    assert statistics.latencies["broadcast"].count == 1


async def test_handle_pong_measures_the_latency_of_a_double() -> None:
    """It is the time since the heartbeat message that it answers."""
    manager = WebSocketConnectionManager(WebSocketConfig(enable_metrics=True, heartbeat_interval=0.05))
    socket = AsyncMock()
    await manager.start()
    await manager.connect("ann", socket)
    await until(lambda: socket.send_json.await_count > 0)
    await manager.handle_pong("ann")
    assert manager.statistics().latencies["ping"].count == 1
    await manager.graceful_shutdown()


async def test_a_replaced_double_is_closed_when_connect_returns() -> None:
    """The published tests rely on it."""
    manager, old, new = WebSocketConnectionManager(), AsyncMock(), AsyncMock()
    await manager.connect("ann", old)
    await manager.connect("ann", new)
    old.close.assert_awaited_once_with(code=CloseCode.DUPLICATE_CLIENT, reason="replaced by a newer connection")


async def test_a_replaced_double_whose_close_hangs_is_waited_for_briefly() -> None:
    """After a second the new one has the name."""
    manager, old, new = WebSocketConnectionManager(), AsyncMock(), AsyncMock()
    old.close.side_effect = partial(anyio.sleep, 60)
    await manager.connect("ann", old)
    with anyio.fail_after(5):
        await manager.connect("ann", new)
    assert await manager.send_to_client("ann", "hello")
    new.send_text.assert_awaited_once_with("hello")


async def test_options_without_effect_for_lack_of_the_middleware_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning names the line to add. There is none if no such option is set, or the middleware is there."""
    manager = WebSocketConnectionManager(WebSocketConfig(max_message_size=5, allowed_origins="*"))
    for name in ("ann", "bob"):
        await manager.connect(name, AsyncMock())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "allowed_origins, max_message_size;" in warning
    assert "app.add_middleware(WebSocketStabilizer, manager=manager)" in warning
    caplog.clear()
    for quiet in (WebSocketConnectionManager(), WebSocketStabilizer(AsyncMock(), max_message_size=5).manager):
        await quiet.connect("ann", AsyncMock())
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


async def test_at_debug_messages_and_heartbeats_of_a_double_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The lines give sizes, not contents."""
    caplog.set_level(logging.DEBUG, "wsstab")
    manager, socket = WebSocketConnectionManager(WebSocketConfig(custom_heartbeat="secret")), AsyncMock()
    await manager.start()
    await manager.connect("ann", socket)
    assert await manager.send_to_client("ann", "secret")
    connection = manager.get_connection("ann")
    assert connection is not None
    peer_of(connection).heartbeat.beat()
    await until(lambda: socket.send_text.await_count == 2)
    await manager.graceful_shutdown()
    assert "> text of 6 bytes" in caplog.text
    assert "% heartbeat message" in caplog.text
    assert "secret" not in caplog.text
