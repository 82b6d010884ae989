"""The common base of the wires to the three WebSocket implementations of uvicorn."""

from __future__ import annotations

import logging
from typing import Any

from ...core.frames import Deflate
from ...types import Event, Receive, Send, Transport
from ..base import nothing_comes, nothing_goes, tell_of_failure
from ..traits import TRAITS
from ..transport import DEPARTED, Observed, TransportWire

__all__ = ["EXTENSION", "ObservedUvicorn", "UvicornWire", "lower", "window_bits"]

logger = logging.getLogger("wsstab")

EXTENSION = "wsstab.protocol"
"""Key in ``scope["extensions"]`` under which `wsstab.wires.uvicorn.Protocol` shows itself through other middleware."""


class ObservedUvicorn(Observed):
    """Methods of a uvicorn protocol object that pass on pongs as well.

    Attributes:
        wsstab_payload: name of the payload of its pongs.
    """

    wsstab_payload = "data"

    def handle_pong(self, event: Any) -> None:
        if self.wsstab_wire.takes_over:
            self.wsstab_wire.on_pong(bytes(getattr(event, self.wsstab_payload)))
        else:
            # uvicorn's own keepalive is at work: without its pong it would close the connection.
            self.wsstab_bare.handle_pong(self, event)


class UvicornWire(TransportWire):
    """The common base of the wires to the three implementations.

    Args:
        protocol: uvicorn's protocol object of this connection.
        receive: its ``receive``.
        send: its ``send``, or the outermost one around it: used for the handshake, a refusal and the close.
    """

    __slots__ = ("_closed", "_send", "protocol", "receive", "takes_over")

    receive: Receive

    needs: tuple[str, ...] = ("transport", "pause_writing", "resume_writing", "connection_lost", "ping_interval")
    traits = TRAITS["uvicorn websockets-sansio"]

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol.transport, protocol)
        self.protocol = protocol
        self.takes_over = self._closed = False
        # The server's own callable, not wrapped: a coroutine of ours would stay for as long as a connection is idle.
        self.receive = receive
        self._send = send

    @staticmethod
    def callables(protocol: Any) -> tuple[Receive, Send]:
        """The server's own ``receive`` and ``send``."""
        return protocol.receive, protocol.send

    # Before and at the handshake.

    def announce_to(self, send: Send) -> None:
        self._send = send

    def take_over_keepalive(self) -> None:
        # While one message is unread uvicorn reads no pong, and kills a healthy peer. It looks at the interval when it
        # has accepted, so None keeps the keepalive from starting.
        self.server_ping_interval = self.protocol.ping_interval
        self.protocol.ping_interval = None
        self.takes_over = True

    async def accept(self, event: Event) -> None:
        await self._send(event)
        if not (getattr(self.protocol, "handshake_complete", True) or self.transport.is_closing()):
            # --ws wsstab.wires.uvicorn:Protocol finds the protocol object past middleware that keeps the event. A frame
            # written now would precede the answer to the handshake.
            raise RuntimeError("websocket.accept has not reached uvicorn: middleware outside of the stabilizer kept it")
        self._attach()

    def _attach(self) -> None:
        self.attach()
        self.deflates = self.deflate(self._negotiated_bits())

    async def deny(self, event: Event) -> None:
        await self._send(event)

    # After it.

    def shortcut(self) -> tuple[Transport, Deflate | None] | None:
        return self.transport, self.deflates

    def is_open(self) -> bool:
        # Not the protocol's `close_sent`: when uvicorn itself sets that, it closes the transport too.
        return not self._closed and not self.transport.is_closing()

    def reading_paused(self) -> bool:
        return bool(getattr(self.protocol, "read_paused", False))

    async def close(self, code: int, reason: str) -> None:
        if self.transport.is_closing():
            # An observer would report uvicorn's error here as a real failure.
            raise ConnectionResetError("the peer has left")
        # Its own send() would wait behind a stalled peer. The frame goes behind what is buffered.
        self.protocol.writable.set()
        self._closed = True
        event, own = {"type": "websocket.close", "code": code, "reason": reason}, self.callables(self.protocol)[1]
        try:
            await self._send(event)
        except Exception:
            # Compared with ``==``, because each access to a method makes a new object.
            if self._send == own or self.transport.is_closing():
                raise
            tell_of_failure()
            await own(event)

    def let_go(self) -> None:
        super().let_go()
        self._closed = True
        self.protocol = DEPARTED
        self.receive, self._send = nothing_comes, nothing_goes

    def _negotiated_bits(self) -> int:
        raise NotImplementedError


def lower(owner: Any, name: str, limit: int) -> int | None:
    """Lower a limit of the server; return the server's own limit if that is smaller."""
    current: int | None = getattr(owner, name)
    if current is not None and current < limit:
        return current
    setattr(owner, name, limit)
    return None


def window_bits(extensions: list[Any]) -> int:
    """The window bits for compression in a list of extensions of the websockets library; 0 for no compression."""
    for extension in extensions:
        if extension.name == "permessage-deflate":
            return int(extension.local_max_window_bits)
    return 0
