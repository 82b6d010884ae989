"""The wire of servers that have an asyncio transport: ready frames go straight to it.

They are written next to the server's own protocol state: server frames carry no mask and no
sequence, so only the closing handshake has to be known to the server. Whether the transport takes
more, and when it is lost, it tells its protocol object; that one object is of a class of ours until
the connection is lost.
"""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any, ClassVar

from ..core.frames import Block, Deflate, Outgoing, frame_for, frame_header
from .base import Wire
from .tcp import peer_has_left

__all__ = ["DEPARTED", "LINGER", "Observed", "TransportWire", "observed"]

PING = 0x9
HIGH_WATER = 65_536
"""Bytes that a transport may hold before it is not writable; the default without TLS."""
LINGER = 2.0
"""Seconds in which a peer that sent too much may still read why it is cut off."""


class Observed:
    """The methods of a protocol object that tells its wire what the transport tells it; see `observed`.

    Attributes:
        wsstab_wire: the wire.
        wsstab_bare: the class that the object has before and after.
    """

    wsstab_wire: Any
    wsstab_bare: ClassVar[Any]

    def pause_writing(self) -> None:
        self.wsstab_bare.pause_writing(self)
        self.wsstab_wire.paused()

    def resume_writing(self) -> None:
        self.wsstab_bare.resume_writing(self)
        self.wsstab_wire.resumed()

    def connection_lost(self, error: Exception | None) -> None:
        wire, bare = self.wsstab_wire, self.wsstab_bare
        wire.lost = True
        del self.wsstab_wire
        self.__class__ = bare
        bare.connection_lost(self, error)
        wire.parted()


@cache
def observed(protocol_class: Any, observer: Any = Observed) -> Any:
    """The class that a protocol object gets, with the methods of an observer in front of its own.

    Args:
        protocol_class: that of the server. An object can only become what is derived from its class alone, so the
            observer is no base: its methods are copied.
        observer: `Observed`, or what is derived from it.
    """
    methods = {
        name: method
        for kind in reversed(observer.__mro__[:-1])
        for name, method in vars(kind).items()
        if not name.startswith("__")
    }
    names = {"wsstab_bare": protocol_class, "__qualname__": protocol_class.__qualname__}
    return type(protocol_class.__name__, (protocol_class,), methods | names)


class TransportWire(Wire):
    """Ready frames, backpressure and abort by an asyncio transport.

    Args:
        transport: of this connection.
        flow: the protocol object that the transport calls.

    Attributes:
        transport: of this connection.
        deflates: how messages are compressed for this peer, ``None`` for not at all.
        observer: what the protocol object does beside.
    """

    __slots__ = ("_attached", "_detached", "_flow", "deflates", "transport")

    observer: ClassVar[Any] = Observed

    def __init__(self, transport: asyncio.Transport, flow: Any) -> None:
        super().__init__()
        self.transport = transport
        self.deflates: Deflate | None = None
        self._flow = flow
        self._attached = self._detached = False

    def peer_address(self) -> str | None:
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) and peer else None

    def attach(self) -> None:
        """The handshake is complete: from now on we write."""
        if self.transport.get_extra_info("sslcontext") is not None:
            # Over TLS both loops let eight times as much pile up before they say so.
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._flow is None:
            # uvloop has forgotten the protocol: the connection was lost before the application was called.
            self.lost = True
            return
        # A method hidden on the object itself would take a bound method and a place in its dict for each.
        self._attached = True
        self._flow.wsstab_wire = self
        bare: Any = type(self._flow)
        self._flow.__class__ = observed(bare, self.observer)

    def write(self, block: Block) -> None:
        if self.is_open():
            self.transport.write(block.frames(self.deflates))

    def send_at_once(self, message: Outgoing) -> bool:
        if not self.is_open():
            raise ConnectionResetError("the peer has left")
        self.transport.write(frame_for(message, self.deflates))
        return True

    def is_open(self) -> bool:
        # A server closes its transport in the same turn in which it learns or causes an end.
        return not self.transport.is_closing()

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def ends_now(self) -> bool:
        transport = self.transport
        if self.lost or not transport.is_closing():
            return self.lost
        # What is written goes out before, and over TLS the peer has its part in the end.
        return transport.get_write_buffer_size() == 0 and transport.get_extra_info("sslcontext") is None

    def peer_left(self) -> bool:
        return peer_has_left(self.transport.get_extra_info("socket"))

    def ping(self, payload: bytes) -> bool:
        if self.is_open():
            self.transport.write(frame_header(PING, len(payload)) + payload)
        return True

    def abort(self) -> None:
        self.transport.abort()

    def detach(self) -> None:
        super().detach()
        self._detached = True
        # Of one that never was accepted we do not hear when its connection is lost.
        if self.lost or not self._attached:
            self.let_go()

    def let_go(self) -> None:
        """All is over: what is held of the server, which holds this in turn, is left to it.

        Otherwise everything that both have of a connection is a cycle, which only the garbage collector frees.
        """
        self.transport = self._flow = DEPARTED

    # Callbacks of the transport.

    def paused(self) -> None:
        """The transport takes no more."""
        self.writable = False
        self.on_blocked()

    def resumed(self) -> None:
        """The transport takes data again."""
        self.writable = True
        self.on_writable()

    def parted(self) -> None:
        """The connection is lost, and the protocol object is what it was before."""
        self.on_lost()
        self.writable = True
        self.on_writable()
        if self._detached:
            self.let_go()


class Departed(asyncio.Transport):
    """The transport of those whose own is gone."""

    def is_closing(self) -> bool:
        """It is."""
        return True

    def write(self, data: object) -> None:
        """Nobody gets them."""

    def abort(self) -> None:
        """There is nothing left to abort."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


DEPARTED = Departed()
