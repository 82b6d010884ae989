"""Streams of hypercorn that are complete but for the socket."""

from __future__ import annotations

import asyncio
from types import MethodType, SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import anyio
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.protocol.events import Data, StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.trio.tcp_server import TCPServer as TrioTCPServer
from wsproto.connection import Connection, ConnectionType

from wsstab.wires import wire_for
from wsstab.wires.base import Wire
from wsstab.wires.hypercorn import HypercornWire, TrioWire

__all__ = ["OFFER", "Flow", "Hypercorn", "client"]

OFFER = b"permessage-deflate"


class Flow(asyncio.Protocol):
    """The protocol object of the transport, which gets the transport's calls."""


class Hypercorn:
    """A stream of hypercorn with everything below it but the socket.

    Args:
        backend: ``asyncio`` or ``trio``: the TCP server below the stream.
        http: the version of HTTP, 1 or 2.
        offer: the extensions that the peer offers.
    """

    def __init__(self, backend: str, http: int = 1, offer: bytes | None = None) -> None:
        self.config, self.context = Config(), MagicMock()
        self.sent: list[Any] = []
        self.takes: anyio.Event | None = None
        self.flow = Flow()
        self.transport = MagicMock()
        self.transport.get_protocol.return_value = self.flow
        self.transport.is_closing.return_value = False
        self.transport.get_extra_info.return_value = None
        self.server = self._server(backend)
        arguments = (MagicMock(), self.config, self.context, MagicMock(), MagicMock(), False, None, None)
        self.protocol: Any = (H11Protocol if http == 1 else H2Protocol)(*arguments, self.server.protocol_send)
        self.stream: Any = WSStream(*arguments[:4], False, None, None, MethodType(self.take, self.protocol), 1)
        self.stream.app_put = AsyncMock()
        self.stream.scope = MagicMock()
        self.stream.start_time = 0.0
        headers = [(b"sec-websocket-key", b"x"), (b"sec-websocket-version", b"13")]
        headers += [(b"sec-websocket-extensions", offer)] if offer else []
        self.stream.handshake = Handshake(headers, "1.1")
        self.config._log = AsyncMock()
        self.receive: Any = AsyncMock()

    async def take(self, protocol: Any, event: Any) -> None:
        """Take an event that the stream sends, in place of the protocol."""
        if self.takes is not None:
            await self.takes.wait()
        self.sent.append(event)

    def _server(self, backend: str) -> Any:
        if backend == "trio":
            server: Any = TrioTCPServer(*[MagicMock() for _ in range(5)])
            server._close = AsyncMock()
            return server
        arguments: list[Any] = [*(MagicMock() for _ in range(6)), SimpleNamespace(transport=self.transport)]
        return TCPServer(*arguments)

    def wire(self) -> Wire:
        """The wire for this stream."""
        return wire_for({}, self.receive, self.stream.app_send)

    async def accepted(self) -> Any:
        """A wire whose handshake is complete."""
        wire = self.wire()
        wire.compress_from = 1024
        await wire.accept({"type": "websocket.accept"})
        return wire

    def hear(self, *frames: bytes) -> list[Any]:
        """The events that hypercorn sees when the peer sends these frames."""
        self.stream.connection.receive_data(b"".join(frames))
        return list(self.stream.connection.events())

    async def end(self, wire: Wire) -> None:
        """Let the application return, and the peer leave."""
        wire.detach()
        if isinstance(wire, HypercornWire):
            self.flow.connection_lost(None)
        elif isinstance(wire, TrioWire):
            await self.server._close()
        else:
            await self.stream.handle(StreamClosed(stream_id=1))

    @property
    def frames(self) -> bytes:
        """All bytes that were written."""
        through_hypercorn = [event.data for event in self.sent if isinstance(event, Data)]
        return b"".join([call.args[0] for call in self.transport.write.call_args_list] + through_hypercorn)


def client(extensions: list[Any] | None = None) -> Connection:
    """The connection of the peer."""
    return Connection(ConnectionType.CLIENT, extensions)
