"""The wire of servers that have an asyncio transport: ready frames go straight to the transport.

Frames are written without involving the server's own protocol state: server frames carry no mask and
no sequence, so the server has to know only of the closing handshake. The transport tells its protocol
object when it takes more data and when the connection is lost; to receive these calls, we change the
class of that object until the connection is lost.
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
"""Bytes that a transport may hold before it stops being writable; the default without TLS."""
LINGER = 2.0
"""Seconds that a peer that sent too much gets to read why it is cut off."""


class Observed:
    """Methods of a protocol object that pass on the transport's calls to the wire; see `observed`.

    Attributes:
        wsstab_wire: the wire.
        wsstab_bare: the original class of the object.
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
    """The class that a protocol object gets: its own class, extended by the methods of an observer.

    Args:
        protocol_class: the protocol class of the server. Python lets an object change only to a class derived from its
            class alone, so the observer's methods are copied instead of inherited.
        observer: `Observed` (the default) or a class derived from it.
    """
    methods = {
        name: method
        # Base class first, so that a derived class wins; without ``object``.
        for kind in reversed(observer.__mro__[:-1])
        for name, method in vars(kind).items()
        if not name.startswith("__")
    }
    names = {"wsstab_bare": protocol_class, "__qualname__": protocol_class.__qualname__}
    return type(protocol_class.__name__, (protocol_class,), methods | names)


class TransportWire(Wire):
    """Ready frames, backpressure and abort by an asyncio transport.

    Args:
        transport: the transport of this connection.
        flow: the protocol object that the transport calls.

    Attributes:
        transport: the transport of this connection.
        deflates: how messages are compressed for this peer; ``None`` for no compression.
        observer: the class whose methods the protocol object gets in addition.
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
        """Start to write to the transport, once the handshake is complete."""
        if self.transport.get_extra_info("sslcontext") is not None:
            # Over TLS both loops buffer eight times as much before they call pause_writing().
            self.transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._flow is None:
            # uvloop has forgotten the protocol: the connection was lost before the application was called.
            self.lost = True
            return
        # The class is changed because a method set on the object itself costs a bound method and a dict entry each.
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
        # Buffered data goes out first, and over TLS the peer takes part in the shutdown.
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
        # A connection that was never accepted does not report its loss to us.
        if self.lost or not self._attached:
            self.let_go()

    def let_go(self) -> None:
        """Drop all references to objects of the server, once the connection is over.

        The server refers to this wire in turn, and only the garbage collector would free such a cycle.
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
        """The connection is lost, and the protocol object has its original class again."""
        self.on_lost()
        # asyncio never calls resume_writing() on a transport that is lost while paused, so senders are woken here.
        self.writable = True
        self.on_writable()
        if self._detached:
            self.let_go()


class Departed(asyncio.Transport):
    """Stands in for the transport of a connection that is over: no method of a wire has to check for ``None``."""

    def is_closing(self) -> bool:
        """Always true."""
        return True

    def write(self, data: object) -> None:
        """Discard the data."""

    def abort(self) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Always 0."""
        return 0


DEPARTED = Departed()
