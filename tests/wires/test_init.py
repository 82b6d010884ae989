"""Which wire a connection gets, and who is looked through for it."""

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
    """What an application gets behind the log of messages that uvicorn has."""
    got: list[Any] = []

    async def app(scope: Any, inner_receive: Any, inner_send: Any) -> None:
        got.extend((inner_receive, inner_send))

    scope: Any = {"type": "websocket", "client": ("192.0.2.1", 5)}
    await MessageLoggerMiddleware(app)(scope, receive, send)  # type: ignore[arg-type]
    return got[0], got[1]


def sent(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The kinds of messages that this log saw on their way out."""
    told = [record.getMessage() for record in caplog.records if " Send " in record.getMessage()]
    return [message.split("'type': '")[1].split("'")[0] for message in told]


async def test_a_send_of_nobody_s_is_plain_asgi() -> None:
    """With the receive and the send that were given."""
    receive, send = AsyncMock(return_value={"type": "websocket.connect"}), AsyncMock()
    wire = wire_for({}, receive, send)
    assert type(wire) is AsgiWire
    assert await wire.receive() == {"type": "websocket.connect"}
    await wire.accept({"type": "websocket.accept"})
    send.assert_awaited_once_with({"type": "websocket.accept"})


async def test_a_send_of_a_known_server_has_its_wire() -> None:
    """Without a word to anybody else."""
    made = Hypercorn("asyncio")
    assert type(wire_for({}, made.receive, made.stream.app_send)) is HypercornWire


async def test_what_only_observes_is_looked_through_and_still_told(caplog: pytest.LogCaptureFixture) -> None:
    """The server's wire is there behind it, and the observer sees the handshake and the close."""
    made = Hypercorn("asyncio")
    with caplog.at_level(TRACE, "uvicorn.asgi"):
        receive, send = await observed(made.receive, made.stream.app_send)
        wire = wire_for({}, receive, send)
        assert type(wire) is HypercornWire
        await wire.accept({"type": "websocket.accept"})
        await wire.close(1000, "")
    assert sent(caplog) == ["websocket.accept", "websocket.close"]


async def test_what_observes_an_unknown_server_is_not_passed_by(caplog: pytest.LogCaptureFixture) -> None:
    """All that is sent goes through it, as without us."""
    inner = AsyncMock()
    with caplog.at_level(TRACE, "uvicorn.asgi"):
        wire = wire_for({}, *await observed(AsyncMock(), inner))
        assert type(wire) is AsgiWire
        await wire.accept({"type": "websocket.accept"})
    assert sent(caplog) == ["websocket.accept"]
    inner.assert_awaited_once()


def test_the_server_that_runs_this_is_shielded() -> None:
    """hypercorn's classes, where they are loaded."""
    shield_server()
    assert sys.modules["hypercorn.protocol.ws_stream"].WSStream._wsstab_shielded
