"""The wire of servers that have an asyncio transport: ready frames go straight to it.

They are written next to the server's own protocol state: server frames carry no mask and no
sequence, so only the closing handshake has to be known to the server. Whether the transport takes
more, and when it is lost, it tells its protocol object; that object's methods are hidden by ours
until the connection is lost.
"""

from __future__ import annotations

import asyncio
from typing import Any

from ..payload import Outgoing, frame_header
from .base import Block, Wire, frame_for
from .deflate import Deflate

__all__ = ["LINGER", "TransportWire"]

PING = 0x9
HIGH_WATER = 65_536
"""Bytes that a transport may hold before it is not writable; the default without TLS."""
LINGER = 2.0
"""Seconds in which a peer that sent too much may still read why it is cut off."""


class TransportWire(Wire):
    """Ready frames, backpressure and abort by an asyncio transport.

    Args:
        transport: of this connection.
        flow: the protocol object that the transport calls.

    Attributes:
        transport: of this connection.
        deflates: how messages are compressed for this peer, ``None`` for not at all.
    """

    __slots__ = ("_flow", "_is_closing", "_shadowed", "_transport_write", "deflates", "transport")

    def __init__(self, transport: asyncio.Transport, flow: Any) -> None:
        super().__init__()
        self.transport = transport
        self.deflates: Deflate | None = None
        self._flow = flow
        self._is_closing = transport.is_closing
        self._transport_write = transport.write
        self._shadowed: list[tuple[Any, str]] = []

    def peer_address(self) -> str | None:
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) and peer else None

    def attach(self) -> None:
        """The handshake is complete: from now on we write."""
        if self.transport.get_extra_info("sslcontext") is not None:
            # Over TLS both loops let eight times as much pile up before they say so.
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.shadow(self._flow, "pause_writing", self._pause_writing)
        self.shadow(self._flow, "resume_writing", self._resume_writing)
        self.shadow(self._flow, "connection_lost", self._connection_lost)

    def write(self, block: Block) -> None:
        if self.is_open():
            self._transport_write(block.frames(self.deflates))

    async def send(self, message: Outgoing) -> None:
        if not self.is_open():
            raise ConnectionResetError("the peer has left")
        self._transport_write(frame_for(message, self.deflates))

    def is_open(self) -> bool:
        # A server closes its transport in the same turn in which it learns or causes an end.
        return not self._is_closing()

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def ping(self, payload: bytes) -> bool:
        if self.is_open():
            self._transport_write(frame_header(PING, len(payload)) + payload)
        return True

    def abort(self) -> None:
        self.transport.abort()

    # Callbacks of the transport.

    def _pause_writing(self) -> None:
        type(self._flow).pause_writing(self._flow)
        self.writable = False
        self.on_blocked()

    def _resume_writing(self) -> None:
        type(self._flow).resume_writing(self._flow)
        self.writable = True
        self.on_writable()

    def _connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._restore()
        self._flow.connection_lost(error)
        self.on_lost()
        self.writable = True
        self.on_writable()

    # A method of the instance hides the method of its class; deleting it brings that back.

    def shadow(self, owner: Any, name: str, method: Any) -> None:
        """Hide a method of one object until the connection is lost."""
        setattr(owner, name, method)
        self._shadowed.append((owner, name))

    def _restore(self) -> None:
        for owner, name in self._shadowed:
            owner.__dict__.pop(name, None)
        self._shadowed.clear()
