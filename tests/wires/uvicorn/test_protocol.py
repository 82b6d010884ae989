"""The protocol class for uvicorn that the package finds behind any middleware."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from tests.support.frames import TEXT
from tests.support.peer import Denied
from tests.support.waiting import eventually
from tests.wires.uvicorn.house import Call, House, house_of
from wsstab.types import ASGIApp, Event, Receive, Scope, Send
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.uvicorn.base import EXTENSION
from wsstab.wires.uvicorn.protocol import Protocol
from wsstab.wires.uvicorn.sansio import SansioWire

SEEN: list[str] = []
"""Types of the events that the middleware saw."""


class Pipe:
    """A middleware object that reveals nothing of the ``send`` behind it."""

    __slots__ = ("_next",)

    def __init__(self, following: list[Send]) -> None:
        self._next = following

    async def send(self, event: Event) -> None:
        """Record an event and pass it on."""
        SEEN.append(event["type"])
        await self._next[0](event)


def around(app: ASGIApp) -> ASGIApp:
    """Middleware that hides the server and makes a deep copy of the scope."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_on() -> Event:
            return await receive()

        await app(copy.deepcopy(scope), receive_on, Pipe([send]).send)

    return middleware


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A server with this protocol class behind such middleware."""
    with house_of("wsstab.wires.uvicorn:Protocol", around) as running:
        yield running


def test_the_server_is_found_behind_any_middleware(house: House) -> None:
    """It is in the scope, and a deep copy keeps the same protocol object."""
    with house.connected() as (peer, call):
        assert type(call.wire) is SansioWire
        assert call.scope["extensions"][EXTENSION] is call.protocol
        assert isinstance(call.protocol, Protocol)
        house.say(call, "straight")
        assert peer.receive() == "straight"
        peer.send("back")
        eventually(lambda: call.texts == ["back"])


def test_the_middleware_sees_the_handshake_and_the_close_but_no_messages(house: House) -> None:
    """Messages go straight to the transport."""
    SEEN.clear()
    with house.connected() as (peer, call):
        house.say(call, "straight")
        house.run(call.wire.close(4000, "done"))
        assert peer.receive_close().code == 4000
        assert peer.count(TEXT) == 1
    assert SEEN == ["websocket.accept", "websocket.close"]


def test_uvicorns_own_protocol_class_is_not_found_behind_such_middleware() -> None:
    """Only plain ASGI is left then."""

    async def look(call: Call) -> None:
        await call.wire.receive()
        await call.wire.deny({"type": "websocket.close"})

    with house_of("websockets-sansio", around) as plain:
        with pytest.raises(Denied):
            plain.dial(look)
        (call,) = plain.calls
        assert type(call.wire) is AsgiWire
        assert EXTENSION not in call.scope["extensions"]


def test_an_invalid_handshake_is_refused_by_the_server(house: House) -> None:
    """The application is not called."""
    before = len(house.calls)
    with pytest.raises(Denied) as denied:
        house.dial(headers=[("Sec-WebSocket-Version", "12")])
    assert denied.value.status == 400
    assert len(house.calls) == before
