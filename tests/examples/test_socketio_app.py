"""The wrapped python-socketio application, on a real server, with python-socketio's own client."""

from __future__ import annotations

import pytest
import socketio

from examples.socketio_app import say
from tests.support.server import VARIANTS, Server

pytestmark = pytest.mark.anyio


async def test_a_socket_io_client_works_through_the_middleware() -> None:
    """The sender gets its acknowledgement, and another client gets the event."""
    with Server("examples.socketio_app:app", VARIANTS[0]) as server:
        url = "http://{}:{}".format(*server.address)
        async with socketio.AsyncSimpleClient() as listener:
            await listener.connect(url, transports=["websocket"])
            assert await say("hello", url) == "told"
            event, data = await listener.receive(timeout=10)
        assert event == "heard"
        assert data["text"] == "HELLO"
    assert server.complaints() == []


async def test_a_client_that_begins_with_polling_upgrades() -> None:
    """HTTP long polling of Engine.IO passes, and so does the upgrade to a WebSocket."""
    with Server("examples.socketio_app:app", VARIANTS[0]) as server:
        url = "http://{}:{}".format(*server.address)
        async with socketio.AsyncSimpleClient() as client:
            await client.connect(url)
            assert await client.call("shout", "polling first", timeout=10) == "told"
            assert client.transport == "websocket"
