"""`wsstab.hub.rooms`: peers enter and leave rooms, in order with the broadcasts to them."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Peer, echo, on_stage, settle, until
from wsstab import Override, WebSocketConnectionManager
from wsstab.manager import hub_of

pytestmark = pytest.mark.anyio


async def test_a_member_of_a_room_gets_its_broadcasts_from_entering_to_leaving() -> None:
    """Entering twice and leaving twice are no errors."""
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


async def test_rooms_joined_before_accept_are_entered_at_accept() -> None:
    """Rooms that are left again before accept are not entered."""
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
async def test_a_connection_with_a_subprotocol_gets_broadcasts_once_in_a_room(broadcast: bool) -> None:
    """By entering it has asked for messages. Its route may still switch broadcasts off."""

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


async def test_a_double_can_enter_rooms() -> None:
    """Broadcasts to a double are awaited, so entering needs no ordering with them."""
    manager, socket = WebSocketConnectionManager(), AsyncMock()
    await manager.connect("ann", socket)
    (peer,) = hub_of(manager).peers()
    hub_of(manager).rooms.enter(peer, "lobby")
    assert (await manager.broadcast("hello", room="lobby")).succeeded == 1
    socket.send_text.assert_awaited_once_with("hello")
    hub_of(manager).rooms.exit(peer, "lobby")
    assert manager.get_rooms() == []
    await manager.disconnect("ann")
