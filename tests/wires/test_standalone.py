"""The wire to an object that merely looks like a WebSocket."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock

import anyio
import anyio.lowlevel
import pytest
from pydantic import BaseModel
from starlette.websockets import WebSocket

from wsstab.wires.standalone import DoubleWire, is_websocket

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on asyncio and on trio."""
    return str(request.param)


class Point(BaseModel):
    """A pydantic model of an application."""

    x: int


class SlowSocket:
    """A double whose sends take a few turns of the loop, and which counts how many overlap."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.under_way = self.most = 0

    async def send_text(self, data: str) -> None:
        """Take a few turns."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        self.under_way -= 1
        self.sent.append(data)


def starlette_socket() -> tuple[WebSocket, list[Any]]:
    """A real WebSocket of Starlette, and the events that it sends."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    return WebSocket({"type": "websocket"}, receive, send), sent


async def test_a_real_websocket_is_recognised_by_its_scope() -> None:
    """A mock has every attribute, but its scope is not a dict."""
    assert is_websocket(starlette_socket()[0])
    assert not is_websocket(AsyncMock())
    assert not is_websocket(object())
    assert not is_websocket(None)


async def test_the_wire_of_a_standalone_object_is_not_readable() -> None:
    """The application reads from the object itself."""
    wire = DoubleWire(AsyncMock())
    assert (wire.readable, wire.traits.native_ping, wire.traits.can_abort) == (False, False, False)


@pytest.mark.parametrize(
    ("message", "method", "given"),
    [
        ("text", "send_text", "text"),
        (b"bytes", "send_bytes", b"bytes"),
        (bytearray(b"bytes"), "send_bytes", b"bytes"),
        ({"a": 1}, "send_json", {"a": 1}),
        ([1, 2], "send_json", [1, 2]),
        (Point(x=1), "send_text", '{"x":1}'),
    ],
    ids=["text", "bytes", "bytearray", "dict", "list", "model"],
)
async def test_a_double_gets_each_message_by_the_method_for_its_type(message: Any, method: str, given: Any) -> None:
    """JSON data is passed unencoded, as tests of applications expect."""
    socket = AsyncMock()
    await DoubleWire(socket).deliver(message)
    getattr(socket, method).assert_awaited_once_with(given)
    assert len(socket.mock_calls) == 1


async def test_a_real_websocket_gets_json_as_text() -> None:
    """This package encodes it, as for every other wire."""
    socket, sent = starlette_socket()
    await socket.accept()
    await DoubleWire(socket).deliver({"a": "é"})
    assert sent[-1] == {"type": "websocket.send", "text": '{"a":"é"}'}


async def test_sends_to_one_object_are_awaited_one_at_a_time() -> None:
    """Most objects do not support overlapping sends."""
    socket = SlowSocket()
    wire = DoubleWire(socket)
    async with anyio.create_task_group() as group:
        for text in ("1", "2", "3"):
            group.start_soon(wire.deliver, text)
    assert (sorted(socket.sent), socket.most) == (["1", "2", "3"], 1)


async def test_an_error_of_the_object_is_raised_and_the_next_send_goes_on() -> None:
    """Such an error is all that is ever known of the peer."""
    socket = AsyncMock()
    socket.send_text.side_effect = [ConnectionResetError("gone"), None]
    wire = DoubleWire(socket)
    with pytest.raises(ConnectionResetError):
        await wire.deliver("1")
    with anyio.fail_after(1):
        await wire.deliver("2")


async def test_an_invalid_message_is_refused() -> None:
    """The object never sees it."""
    socket = AsyncMock()
    message: Any = object()
    with pytest.raises(TypeError, match="a message must be"):
        await DoubleWire(socket).deliver(message)
    assert socket.mock_calls == []


async def test_a_close_is_passed_to_the_object_by_keyword() -> None:
    """Starlette's ``close()`` has these keywords."""
    socket = AsyncMock()
    await DoubleWire(socket).close(1012, "service restart")
    socket.close.assert_awaited_once_with(code=1012, reason="service restart")
