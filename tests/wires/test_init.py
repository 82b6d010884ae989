"""Which wire a connection gets, and which observers are looked through to find it."""

from __future__ import annotations

import sys
from typing import Any
from unittest.mock import AsyncMock

import pytest
from uvicorn.middleware.message_logger import MessageLoggerMiddleware

from tests.wires.hypercorn.doubles import Hypercorn
from wsstab.types import Receive, Send
from wsstab.wires import shield_server, wire_for
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.hypercorn import HypercornWire

pytestmark = pytest.mark.anyio

TRACE = 5


async def observed(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """The callables that an application gets behind uvicorn's log of messages."""
    got: list[Any] = []

    async def app(scope: Any, inner_receive: Any, inner_send: Any) -> None:
        got.extend((inner_receive, inner_send))

    scope: Any = {"type": "websocket", "client": ("192.0.2.1", 5)}
    await MessageLoggerMiddleware(app)(scope, receive, send)  # type: ignore[arg-type]
    return got[0], got[1]


def sent(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The types of the messages that this log saw on their way out."""
    told = [record.getMessage() for record in caplog.records if " Send " in record.getMessage()]
    return [message.split("'type': '")[1].split("'")[0] for message in told]


async def test_an_unknown_server_gets_the_plain_asgi_wire() -> None:
    """The wire uses the given ``receive`` and ``send``."""
    receive, send = AsyncMock(return_value={"type": "websocket.connect"}), AsyncMock()
    wire = wire_for({}, receive, send)
    assert type(wire) is AsgiWire
    assert await wire.receive() == {"type": "websocket.connect"}
    await wire.accept({"type": "websocket.accept"})
    send.assert_awaited_once_with({"type": "websocket.accept"})


async def test_a_known_server_gets_its_own_wire() -> None:
    """The wire is found by the ``send`` of the server."""
    made = Hypercorn("asyncio")
    assert type(wire_for({}, made.receive, made.stream.app_send)) is HypercornWire


async def test_an_observer_around_a_known_server_is_looked_through(caplog: pytest.LogCaptureFixture) -> None:
    """The server gets its own wire, and the observer still sees the handshake and the close."""
    made = Hypercorn("asyncio")
    with caplog.at_level(TRACE, "uvicorn.asgi"):
        receive, send = await observed(made.receive, made.stream.app_send)
        wire = wire_for({}, receive, send)
        assert type(wire) is HypercornWire
        await wire.accept({"type": "websocket.accept"})
        await wire.close(1000, "")
    assert sent(caplog) == ["websocket.accept", "websocket.close"]


async def test_an_observer_around_an_unknown_server_sees_all_messages(caplog: pytest.LogCaptureFixture) -> None:
    """Everything is sent through it, as without the middleware."""
    inner = AsyncMock()
    with caplog.at_level(TRACE, "uvicorn.asgi"):
        wire = wire_for({}, *await observed(AsyncMock(), inner))
        assert type(wire) is AsgiWire
        await wire.accept({"type": "websocket.accept"})
    assert sent(caplog) == ["websocket.accept"]
    inner.assert_awaited_once()


def test_shield_server_patches_the_loaded_hypercorn() -> None:
    """The patched class carries a mark."""
    shield_server()
    assert sys.modules["hypercorn.protocol.ws_stream"].WSStream._wsstab_shielded
