"""`wsstab.hub.rooms`: who enters and leaves, in the order of what is said."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Peer, echo, on_stage, settle, until
from wsstab import Override, WebSocketConnectionManager
from wsstab.manager import hub_of

pytestmark = pytest.mark.anyio


async def test_who_enters_hears_what_is_said_from_then_on() -> None:
    """And until it leaves; being there already, and not being there, are fine."""
    async with on_stage(echo, capable=True) as stage:
        ann, bob = await stage.named("ann", "bob")
        rooms = stage.hub.rooms
        rooms.enter(ann.inner, "lobby")
        await stage.manager.broadcast("1", room="lobby")
        rooms.enter(bob.inner, "lobby")
        rooms.enter(bob.inner, "lobby")
        await stage.manager.broadcast("2", room="lobby")
        rooms.exit(ann.inner, "lobby")
        rooms.exit(ann.inner, "lobby")
        await stage.manager.broadcast("3", room="lobby")
        await until(lambda: bob.messages == ["2", "3"])
        assert ann.messages == ["1", "2"]
        assert (rooms.members("lobby"), rooms.of("bob"), rooms.of("ann"), rooms.of("eve")) == (
            ["bob"],
            ["lobby"],
            [],
            [],
        )


async def test_before_accept_rooms_are_noted_for_then() -> None:
    """Those that are left again are not."""
    seen = list[object]()

    async def handler(websocket: WebSocket) -> None:
        connection = websocket.state.connection
        for room in ("lobby", "kitchen", "cellar"):
            await connection.join(room)
        await connection.leave("cellar")
        await connection.leave("attic")
        seen.append(websocket.state.manager.get_rooms())
        await websocket.accept()
        seen.append(sorted(websocket.state.manager.get_rooms()))
        for room in ("lobby", "kitchen"):
            await connection.leave(room)
        seen.append(websocket.state.manager.get_rooms())

    async def none(websocket: WebSocket) -> None:
        await websocket.state.connection.join("lobby")
        await websocket.state.connection.leave("lobby")
        await websocket.accept()
        seen.append(websocket.state.manager.get_rooms())

    for each in (handler, none):
        async with on_stage(each) as stage:
            await stage.call(Peer()).over()
    assert seen == [[], ["kitchen", "lobby"], [], []]


@pytest.mark.parametrize("broadcast", [True, False])
async def test_who_enters_a_room_wants_what_is_said_to_all(broadcast: bool) -> None:
    """Though it speaks a protocol of its own; not where the route says no."""

    async def chat(websocket: WebSocket) -> None:
        await websocket.accept("chat")
        await websocket.receive()

    async with on_stage(chat, routes={"/ws": Override(broadcast=broadcast)}) as stage:
        peer = await stage.open()
        await stage.manager.broadcast("not yet")
        await peer.connection.join("lobby")
        await stage.manager.broadcast("now")
        await settle()
        assert peer.messages == (["now"] if broadcast else [])


async def test_what_merely_looks_like_a_websocket_enters_rooms_too() -> None:
    """What was said before was awaited then."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    await manager.connect("ann", socket)
    (peer,) = hub_of(manager).peers()
    hub_of(manager).rooms.enter(peer, "lobby")
    assert (await manager.broadcast("hello", room="lobby")).succeeded == 1
    socket.send_text.assert_awaited_once_with("hello")
    hub_of(manager).rooms.exit(peer, "lobby")
    assert manager.get_rooms() == []
    await manager.disconnect("ann")
