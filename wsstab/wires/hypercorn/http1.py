"""HTTP/1.1 on asyncio and uvloop: frames go straight to the transport."""

from __future__ import annotations

from typing import Any

from ...types import Event, Receive, Send
from ..base import nothing_comes, nothing_goes, nothing_is_left, tell_of_close
from ..traits import TRAITS
from ..transport import TransportWire
from ..wsproto import window_bits
from .peer import Peer, Watching, comes_from, linger_after_failure

__all__ = ["HypercornWire"]


class HypercornWire(Watching, TransportWire):
    """HTTP/1.1 on asyncio and uvloop.

    Args:
        stream: the WebSocket stream of hypercorn.
        receive: its ``receive``.
        send: its ``send``.
    """

    __slots__ = ("_observed", "_peer", "_send", "_take_back", "receive")

    receive: Receive
    needs: tuple[str, ...] = ("writer.transport.get_protocol", "reader.read", "send_lock")
    what = "hypercorn's TCP server"
    traits = TRAITS["hypercorn asyncio"]

    def __init__(self, stream: Any, receive: Receive, send: Send) -> None:
        protocol = stream.send.__self__
        server = protocol.send.__self__
        transport = server.writer.transport
        super().__init__(transport, transport.get_protocol())
        self._peer = Peer(stream, receive, self)
        self.receive = self._peer.receive
        self._send = send
        self._observed = False

        async def end() -> None:
            server.writer.write_eof()

        self._take_back = linger_after_failure(protocol, self._peer, lambda: server.reader.read(65536), end)

    @staticmethod
    def fits(protocol: object, server: object) -> bool:
        """Whether this wire class fits these objects."""
        return comes_from(protocol, "hypercorn.protocol.h11") and comes_from(server, "hypercorn.asyncio.tcp_server")

    def announce_to(self, send: Send) -> None:
        self._send, self._observed = send, True

    async def accept(self, event: Event) -> None:
        await self._send(event)
        self.attach()
        self.deflates = self.deflate(window_bits(self._peer.connection))

    async def deny(self, event: Event) -> None:
        await self._send(event)

    def is_open(self) -> bool:
        return self._peer.is_open() and not self.transport.is_closing()

    async def close(self, code: int, reason: str) -> None:
        if self._peer.connection is None:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        elif self.is_open():
            # Its own send() would wait behind a stalled peer. The frame goes behind what is buffered.
            self.transport.write(self._peer.closing_frame(code, reason))
            if self._observed:
                # The event reaches hypercorn in the end. It knows of our frame and sends no other.
                await tell_of_close(self._send, code, reason)

    def detach(self) -> None:
        # Must come before the peer is let go.
        self._peer.forget()
        super().detach()

    def let_go(self) -> None:
        super().let_go()
        self._take_back()
        self._take_back = nothing_is_left
        self._peer.let_go()
        self.receive, self._send = nothing_comes, nothing_goes
