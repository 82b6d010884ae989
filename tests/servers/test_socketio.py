"""A wrapped python-socketio application, with python-socketio's own client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp
import anyio
import pytest
import socketio
from anyio import to_thread

from tests.conftest import MakeServer
from tests.support.server import Server, Variant
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def wrapped(serve: MakeServer, variant: Variant) -> Server:
    """The application on a server, with heartbeats that are frequent enough to disturb it."""
    return serve("tests.support.apps.socketio:app", variant, {"heartbeat_interval": 0.2})


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """The HTTP session of the clients; one of a client's own would stay open when its connect fails."""
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def client(session: aiohttp.ClientSession) -> AsyncIterator[socketio.AsyncSimpleClient]:
    """A client that leaves in good order."""
    async with socketio.AsyncSimpleClient(http_session=session) as made:
        yield made


def url_of(server: Server) -> str:
    """The URL of the server."""
    return "http://{}:{}".format(*server.address)


async def test_a_socket_io_client_is_served(wrapped: Server, client: socketio.AsyncSimpleClient) -> None:
    """Text, JSON and binary are acknowledged and emitted to all, among our heartbeats and broadcasts."""
    await client.connect(url_of(wrapped), transports=["websocket"])
    blob = os.urandom(100_000)
    for message in ("", "é" * 1000, {"n": [1, None, "x"]}, blob):
        assert await client.call("shout", message, timeout=10) == message
        assert await client.receive(timeout=10) == ["heard", message]
        await to_thread.run_sync(wrapped.get, "/-/shout")
    assert wrapped.get("/-/count")["connections"] == 1
    assert wrapped.complaints() == [], wrapped.log


async def test_a_client_that_begins_with_polling_upgrades(wrapped: Server, client: socketio.AsyncSimpleClient) -> None:
    """Engine.IO's HTTP long polling passes, and so does the move to a WebSocket."""
    await client.connect(url_of(wrapped))
    assert await client.call("shout", "polling first", timeout=10) == "polling first"
    assert client.transport == "websocket"


@pytest.mark.parametrize("side", ["server", "client"])
async def test_either_side_may_end_the_connection(wrapped: Server, session: aiohttp.ClientSession, side: str) -> None:
    """The manager keeps no connection afterwards."""
    client = socketio.AsyncClient(reconnection=False, http_session=session)
    await client.connect(url_of(wrapped), transports=["websocket"])
    await (client.emit("dismiss") if side == "server" else client.disconnect())
    with anyio.fail_after(10):
        await client.wait()
    await to_thread.run_sync(eventually, lambda: wrapped.get("/-/count")["connections"] == 0)
