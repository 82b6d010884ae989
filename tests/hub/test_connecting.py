"""`wsstab.hub.connecting`: which peer a WebSocket object stands for, and how ``connect()`` names or registers it."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Peer, echo, on_stage, push_only, until
from wsstab import (
    ConnectionLimitExceededError,
    ConnectionNotFoundError,
    LimitHit,
    MemoryLimitExceededError,
    ShutdownError,
    WebSocketConfig,
    WebSocketConnectionManager,
)
from wsstab.connection import DoublePeer, current_peer
from wsstab.hub.connecting import connect, find
from wsstab.manager import hub_of
from wsstab.types import PEER_KEY

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


@pytest.mark.parametrize("name", ["", None, 7])
async def test_connect_refuses_a_client_id_that_is_empty_or_no_string(name: Any) -> None:
    """It refuses it before anything is registered."""
    hub = hub_of(WebSocketConnectionManager())
    with pytest.raises(ConnectionNotFoundError):
        await connect(hub, name, AsyncMock(), None)
    assert hub.admission.count == 0


async def test_behind_the_middleware_connect_finds_the_existing_peer() -> None:
    """The scope leads to it; if middleware has rebuilt the scope, the handler that calls does."""
    async with on_stage(echo) as stage:
        peer = await stage.open()
        websocket = WebSocket(peer.scope, peer.receive, peer.send)
        assert find(stage.hub, websocket) is peer.inner
        peer.inner.carrier.headers = headers = [(b"sec-websocket-key", b"x")]
        rebuilt = WebSocket({"type": "websocket", "headers": list(headers)}, peer.receive, peer.send)
        assert find(stage.hub, rebuilt) is None
        token = current_peer.set(peer.inner)
        assert find(stage.hub, rebuilt) is peer.inner
        other = hub_of(WebSocketConnectionManager())
        assert (find(other, websocket), find(other, rebuilt)) == (None, None)
        current_peer.reset(token)


async def test_without_the_middleware_connect_registers_a_double() -> None:
    """The double is found by the identity of its object until it closes."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    hub = hub_of(manager)
    await connect(hub, "ann", socket, {"role": "guest"})
    peer = find(hub, socket)
    assert isinstance(peer, DoublePeer)
    assert (peer.client_id, peer.metadata, hub.admission.count) == ("ann", {"role": "guest"}, 1)
    await connect(hub, "bob", socket, None)
    assert (peer.client_id, manager.get_connection_count()) == ("bob", 1)
    await manager.disconnect("bob")
    assert (find(hub, socket), hub.admission.count) == (None, 0)


async def test_registering_a_websocket_makes_its_peer_the_current_one() -> None:
    """A late ``disconnect()`` of that handler then means its own connection."""
    manager, peer = WebSocketConnectionManager(), Peer()
    token = current_peer.set(None)
    await manager.connect("ann", WebSocket(peer.scope, peer.receive, peer.send))
    assert current_peer.get() is hub_of(manager).registry.find("ann")
    assert PEER_KEY not in peer.scope
    await manager.disconnect("ann")
    current_peer.reset(token)


async def test_while_the_manager_drains_no_new_double_is_registered() -> None:
    """A double that is registered already may still be named."""
    manager, early = WebSocketConnectionManager(), AsyncMock()
    hub = hub_of(manager)
    await connect(hub, "ann", early, None)
    hub.loops.drain(True)
    with pytest.raises(ShutdownError):
        await connect(hub, "bob", AsyncMock(), None)
    await connect(hub, "eve", early, None)
    assert manager.get_active_connections() == ["eve"]
    hub.loops.drain(False)
    await manager.disconnect("eve")


async def test_at_the_connection_limit_only_a_replacement_is_registered() -> None:
    """Subscribers get a `LimitHit` for the refusal."""
    manager, refusals = WebSocketConnectionManager(WebSocketConfig(max_connections=1)), list[LimitHit]()
    manager.on(LimitHit, refusals.append)
    hub, first = hub_of(manager), AsyncMock()
    await connect(hub, "ann", first, None)
    with pytest.raises(ConnectionLimitExceededError):
        await connect(hub, "bob", AsyncMock(), None)
    assert [each.limit for each in refusals] == ["max_connections"]
    await connect(hub, "ann", AsyncMock(), None)
    first.close.assert_awaited_once()
    assert (manager.get_active_connections(), hub.admission.count) == (["ann"], 1)
    await manager.disconnect("ann")


async def test_successors_of_a_peer_that_does_not_leave_share_one_place_above_the_limit() -> None:
    """Otherwise a client that reconnects again and again would fill the process with handlers that never end."""
    async with on_stage(push_only, max_connections=1) as stage:
        await stage.named("ann")
        second = AsyncMock()
        await connect(stage.hub, "ann", second, None)
        assert stage.hub.admission.count == 2
        with pytest.raises(ConnectionLimitExceededError):
            await connect(stage.hub, "ann", AsyncMock(), None)
        second.close.assert_not_awaited()
        await stage.manager.disconnect("ann")


async def test_a_new_double_that_is_refused_its_name_is_dropped() -> None:
    """It was registered for that name only. A double that already has a name stays under it."""
    manager = WebSocketConnectionManager(WebSocketConfig(max_memory_per_connection=1000))
    hub, named = hub_of(manager), AsyncMock()
    large = {"value": "x" * 2000}
    with pytest.raises(MemoryLimitExceededError):
        await connect(hub, "ann", AsyncMock(), large)
    assert manager.get_connection_count() == 0
    await until(lambda: hub.admission.count == 0)
    await connect(hub, "bob", named, None)
    with pytest.raises(MemoryLimitExceededError):
        await connect(hub, "eve", named, large)
    assert manager.get_active_connections() == ["bob"]
    await manager.disconnect("bob")


async def test_a_closing_connection_does_not_take_a_name() -> None:
    """The holder of the name is not replaced."""
    async with on_stage(echo) as stage:
        (holder,) = await stage.named("ann")
        peer = await stage.open()
        websocket = WebSocket(peer.scope, peer.receive, peer.send)
        peer.leaves()
        await peer.over()
        await connect(stage.hub, "ann", websocket, None)
        assert holder.closed is None


async def test_a_handler_that_replaces_itself_does_not_wait_for_its_own_end() -> None:
    """It would wait for itself, since its connection ends only when it returns."""
    names = list[list[str]]()

    async def twice(websocket: WebSocket) -> None:
        await websocket.accept()
        manager = websocket.state.manager
        await manager.connect("ann", websocket)
        token = current_peer.get()
        await manager.connect("ann", AsyncMock())
        assert current_peer.get() is token
        names.append(manager.get_active_connections())

    async with on_stage(twice) as stage:
        await (await stage.open()).over()
        await stage.manager.disconnect("ann")
    assert names == [["ann"]]


async def test_options_that_need_the_middleware_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """The warning comes with the first double that is registered without the middleware."""
    caplog.set_level(logging.WARNING, "wsstab")
    manager = WebSocketConnectionManager(WebSocketConfig(max_message_size=10))
    for name in ("ann", "bob"):
        await manager.connect(name, AsyncMock())
    assert caplog.text.count("these options cannot act: max_message_size") == 1
    await manager.disconnect_all()


async def test_a_double_whose_close_is_slow_frees_its_place_at_once() -> None:
    """Its send has failed, so it counts as departed although ``close()`` still runs."""
    manager, slow = WebSocketConnectionManager(WebSocketConfig(max_connections=1)), AsyncMock()
    closing = anyio.Event()

    async def close(**how: Any) -> None:
        await closing.wait()

    slow.close.side_effect = close
    slow.send_text.side_effect = OSError("gone")
    await manager.connect("ann", slow)
    assert not await manager.send_to_client("ann", "hello")
    await manager.connect("bob", AsyncMock())
    assert manager.get_active_connections() == ["bob"]
    closing.set()
    await manager.disconnect("bob")
