"""The wire of an asyncio transport, without a server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.support.stage import until
from wsstab.core.frames import Block, Outgoing
from wsstab.wires.transport import DEPARTED, TransportWire, observed


class Transport(asyncio.Transport):
    """A transport whose answers the test sets."""

    def __init__(self, closing: bool = True, unsent: int = 0, tls: bool = False) -> None:
        super().__init__({"sslcontext": object()} if tls else {})
        self._is_closing, self._unsent = closing, unsent

    def is_closing(self) -> bool:
        """Whether the transport is closing."""
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        """The number of bytes that have not been sent."""
        return self._unsent


@pytest.mark.parametrize(
    ("state", "ends"),
    [
        ({}, True),
        ({"closing": False}, False),
        ({"unsent": 1}, False),
        ({"tls": True}, False),
    ],
    ids=["nothing left to send", "open", "unsent bytes", "TLS closing handshake"],
)
def test_a_connection_ends_now_if_nothing_waits_for_the_peer(state: dict[str, Any], ends: bool) -> None:
    """Its end then needs no watching."""
    wire = TransportWire(Transport(**state), None)
    assert wire.ends_now() is ends


def test_a_lost_connection_has_ended() -> None:
    """Even if its transport still holds bytes."""
    wire = TransportWire(Transport(unsent=1), None)
    wire.lost = True
    assert wire.ends_now()


# On a real transport.


class Server(asyncio.Protocol):
    """The protocol object that a server makes for each connection.

    Attributes:
        transport: the transport of the connection.
        called: the calls of the transport, in order.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.called: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is established."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def pause_writing(self) -> None:
        """The transport is full."""
        self.called.append("pause")

    def resume_writing(self) -> None:
        """The transport takes data again."""
        self.called.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        self.called.append("lost")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[TransportWire, Server, socket.socket]]:
    """An attached wire, its protocol object, and the socket of the peer."""
    server = Server()
    listening = await asyncio.get_running_loop().create_server(lambda: server, "127.0.0.1", 0)
    async with listening:
        with socket.create_connection(listening.sockets[0].getsockname()) as peer:
            peer.setblocking(False)
            await until(lambda: hasattr(server, "transport"))
            wire = TransportWire(server.transport, server)
            wire.attach()
            yield wire, server, peer
            server.transport.abort()
            await until(lambda: "lost" in server.called)


async def read(peer: socket.socket, size: int) -> bytes:
    """Read this many bytes, as the peer."""
    data = bytearray()
    with anyio.fail_after(10):
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(peer, size - len(data))
            assert piece, data
            data += piece
    return bytes(data)


@pytest.mark.anyio
async def test_frames_reach_the_peer_in_the_order_they_were_written() -> None:
    """A block, a message of the handler and a ping."""
    async with connected() as (wire, _, peer):
        wire.write(Block([Outgoing("a"), Outgoing(b"bc")]))
        assert wire.send_at_once(Outgoing("d"))
        assert wire.ping(b"e")
        expected = b"\x81\x01a\x82\x02bc\x81\x01d\x89\x01e"
        assert await read(peer, len(expected)) == expected
        assert wire.is_open()
        assert wire.peer_address() == "127.0.0.1"


@pytest.mark.anyio
async def test_nothing_is_written_to_a_closing_transport() -> None:
    """A send raises; a write and a ping are ignored."""
    async with connected() as (wire, server, peer):
        server.transport.close()
        wire.write(Block([Outgoing("late")]))
        assert wire.ping(b"late")
        with pytest.raises(ConnectionResetError, match="left"):
            wire.send_at_once(Outgoing("late"))
        assert wire.ends_now()
        await until(lambda: wire.lost)
        assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""


@pytest.mark.anyio
async def test_a_full_transport_blocks_the_wire_until_it_is_drained() -> None:
    """The server's own methods are called as well, as before."""
    async with connected() as (wire, server, peer):
        heard = list[str]()
        wire.on_blocked, wire.on_writable = lambda: heard.append("blocked"), lambda: heard.append("writable")
        size = 20_000_000
        wire.write(Block([Outgoing(bytes(size))]))
        assert (wire.writable, heard, server.called) == (False, ["blocked"], ["pause"])
        assert 0 < wire.buffered() <= size + 10
        await read(peer, size)
        await until(lambda: wire.writable)
        assert (heard, server.called) == (["blocked", "writable"], ["pause", "resume"])


@pytest.mark.anyio
async def test_an_abort_ends_the_connection_and_restores_the_protocol_object() -> None:
    """The object learns of the loss and gets its own class back; whoever waits to write is woken."""
    async with connected() as (wire, server, _):
        heard = list[str]()
        wire.on_lost, wire.on_writable = lambda: heard.append("lost"), lambda: heard.append("writable")
        assert (type(server) is Server, isinstance(server, Server)) == (False, True)
        wire.abort()
        await until(lambda: wire.lost)
        assert (heard, server.called, type(server)) == (["lost", "writable"], ["lost"], Server)
        assert not hasattr(server, "wsstab_wire")


@pytest.mark.anyio
@pytest.mark.parametrize("first", ["the application", "the peer"])
async def test_a_wire_drops_its_transport_when_application_and_peer_have_left(first: str) -> None:
    """In either order; later calls have no effect."""
    async with connected() as (wire, server, peer):
        if first == "the application":
            wire.detach()
            assert wire.transport is server.transport
            peer.close()
            await until(lambda: wire.lost)
        else:
            peer.close()
            await until(lambda: wire.lost)
            assert wire.transport is server.transport
            wire.detach()
        assert wire.transport is DEPARTED
        wire.write(Block([Outgoing("late")]))
        wire.transport.write(b"late")
        wire.abort()
        assert (wire.buffered(), wire.is_open(), wire.peer_address()) == (0, False, None)


@pytest.mark.anyio
async def test_a_departed_peer_is_noticed_behind_unread_bytes() -> None:
    """The kernel knows of it even while the server does not read."""
    async with connected() as (wire, server, peer):
        server.transport.pause_reading()
        peer.send(b"unread")
        assert not wire.peer_left()
        peer.close()
        await until(wire.peer_left)
        assert not wire.lost


def test_the_write_buffer_limit_is_the_same_with_tls() -> None:
    """By default, both loops would let eight times as much pile up over TLS."""
    transport, limits = Transport(tls=True), list[int | None]()
    transport.set_write_buffer_limits = lambda high=None, low=None: limits.append(high)  # type: ignore[method-assign]
    TransportWire(transport, Server()).attach()
    assert limits == [65_536]


def test_a_transport_without_a_protocol_object_is_lost() -> None:
    """uvloop drops the object if the connection ends before the application is called."""
    wire = TransportWire(Transport(), None)
    wire.attach()
    assert wire.lost
    wire.detach()
    assert wire.transport is DEPARTED


def test_protocol_objects_of_one_class_share_an_observed_class() -> None:
    """It is made once, and has the name of the server's own class."""
    assert observed(Server) is observed(Server)
    assert (observed(Server).__name__, issubclass(observed(Server), Server)) == ("Server", True)
