"""trio, and HTTP/2 on any loop: frames go through hypercorn's own lock, one write at a time."""

from __future__ import annotations

import contextlib
from typing import Any

from ...core.frames import Block, Deflate, Outgoing, frame_header
from ...loop.tasks import current_loop
from ...types import Event, Receive, Send
from ..asgi import AsgiWire
from ..base import Wire, nothing_comes, nothing_goes, nothing_is_left, tell_of_close
from ..tcp import peer_has_left
from ..traits import TRAITS
from ..transport import PING
from ..wsproto import window_bits
from .peer import Peer, Watching, comes_from, linger_after_failure

__all__ = ["Http2Wire", "StreamWire", "TrioWire"]


class CloseBlock(Block):
    """The close frame, queued behind all messages."""

    __slots__ = ("_frame",)

    def __init__(self, frame: bytes) -> None:
        super().__init__(())
        self._frame = frame

    def frames(self, deflate: Deflate | None = None) -> bytes:
        return self._frame


class StreamWire(Watching, AsgiWire):
    """Frames go through hypercorn: one write at a time, behind its own.

    A write may take as long as the peer likes, and on trio nothing but the end of the connection
    ends it. Therefore only the writer task awaits writes.

    Args:
        stream: the WebSocket stream of hypercorn.
        receive: its ``receive``.
        send: its ``send``.
    """

    __slots__ = ("_closed", "_deflates", "_detached", "_peer", "_pinging", "_protocol", "_send_event")

    needs: tuple[str, ...] = ()
    what = "hypercorn"

    def __init__(self, stream: Any, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self._peer = Peer(stream, receive, self)
        self.receive = self._peer.receive
        self._protocol = stream.send.__self__
        self._send_event = stream.send
        self._deflates: Deflate | None = None
        self._pinging = False
        self._closed = self._detached = False
        stream.send = self._end_behind

    async def accept(self, event: Event) -> None:
        await super().accept(event)
        self._deflates = self.deflate(window_bits(self._peer.connection))

    def is_open(self) -> bool:
        return not self._closing and self._peer.is_open()

    def send_at_once(self, message: Outgoing) -> bool:
        if not self.is_open():
            raise ConnectionResetError("the peer has left")
        self.write(Block((message,)))
        return True

    def ping(self, payload: bytes) -> bool:
        # One ping at a time: a peer that takes nothing would collect a task for each.
        if self.is_open() and not self._pinging:
            self._pinging = True
            current_loop().spawn(self._ping, payload, context=self.context)
        return True

    async def close(self, code: int, reason: str) -> None:
        if self._peer.connection is None:
            await self._outer({"type": "websocket.close", "code": code, "reason": reason})
        elif self.is_open():
            self.write(CloseBlock(self._peer.closing_frame(code, reason)))
            self._closing = self._closed = True
            if self._outer is not self._send:
                await tell_of_close(self._outer, code, reason)

    def detach(self) -> None:
        Wire.detach(self)
        self._peer.forget()
        if not self._closed:
            self._stop_writer()
        self._detached = True
        self._over()

    def let_go(self) -> None:
        """Remove all references between hypercorn and this wire, once the connection is over."""
        self._peer.stream.send = self._send_event
        self._peer.let_go()
        self.receive = nothing_comes
        self._send = self._outer = self._send_event = nothing_goes

    async def _ping(self, payload: bytes) -> None:
        try:
            await self._put(frame_header(PING, len(payload)) + payload)
        finally:
            self._pinging = False

    async def _transmit_block(self, block: Block) -> None:
        # Local references: the connection may end, and let_go() drop the attributes, before the peer has taken the
        # block.
        stream, send_event = self._peer.stream, self._send_event
        await self._put(block.frames(self._deflates))
        self._in_flight -= block.size
        if isinstance(block, CloseBlock):
            # Imported in functions throughout, because hypercorn is an extra.
            from hypercorn.protocol.events import EndData

            await send_event(EndData(stream_id=stream.stream_id))

    async def _put(self, data: bytes) -> None:
        from hypercorn.protocol.events import Data

        # Nothing may follow the peer's close. Data written before our own close still goes out.
        if self._peer.is_open() or (self._closed and not self._peer.stream.closed):
            await self._send_event(Data(stream_id=self._peer.stream.stream_id, data=data))

    async def _end_behind(self, event: Any) -> None:
        """Replaces hypercorn's ``send``, so that it ends the connection only after our close frame is out."""
        send_event, kind = self._send_event, type(event).__name__
        if self._closed and kind == "EndData":
            # hypercorn sends this for the event by which observers saw our close. The close frame has its own EndData.
            return
        if self._closed and kind == "StreamClosed":
            await self._until_idle()
        await send_event(event)

    def _left(self) -> None:
        self.lost = True
        self._stop_writer()
        self.on_lost()
        self._over()

    def _over(self) -> None:
        # hypercorn may end a connection twice: when it is idle, and when the peer leaves.
        if self.lost and self._detached and self._send_event is not nothing_goes:
            self.let_go()


class TrioWire(StreamWire):
    """HTTP/1.1 on trio."""

    __slots__ = ("_server", "_take_back")

    needs = ("stream", "_close")
    what = "hypercorn's TCP server"
    traits = TRAITS["hypercorn trio"]

    def __init__(self, stream: Any, receive: Receive, send: Send) -> None:
        super().__init__(stream, receive, send)
        self._server = server = self._protocol.send.__self__
        close = server._close

        async def close_and_tell() -> None:
            try:
                await close()
            finally:
                server.__dict__.pop("_close", None)
                self._left()

        server._close = close_and_tell
        self._take_back = linger_after_failure(
            self._protocol, self._peer, lambda: server.stream.receive_some(65536), lambda: server.stream.send_eof()
        )

    @staticmethod
    def fits(protocol: object, server: object) -> bool:
        """Whether this is the wire for them."""
        return comes_from(protocol, "hypercorn.protocol.h11") and comes_from(server, "hypercorn.trio.tcp_server")

    def peer_address(self) -> str | None:
        try:
            name = self._socket().getpeername()
        except OSError:
            # The peer has left already.
            return None
        return str(name[0]) if isinstance(name, tuple) and name else None

    def peer_left(self) -> bool:
        return peer_has_left(self._socket())

    def let_go(self) -> None:
        super().let_go()
        self._take_back()
        self._take_back = nothing_is_left

    def abort(self) -> None:
        super().abort()
        # A task that is sending or receiving gets an error that the socket is closed.
        self._socket().close()

    def _socket(self) -> Any:
        stream = self._server.stream
        # Over TLS the stream wraps another one, which has the socket.
        return getattr(stream, "transport_stream", stream).socket


class Streams(dict[int, Any]):
    """hypercorn's streams of a connection; for a forgotten stream it returns one that discards everything.

    hypercorn forgets a stream as soon as its application has returned. Data that the peer sends then, as
    it must after we closed first, would end the task that reads; on trio, the whole server.
    """

    def __missing__(self, number: int) -> Any:
        # Not stored: hypercorn looks through its streams to see whether the connection is idle.
        return GONE


class Gone:
    """A stream that hypercorn has forgotten."""

    idle = True

    async def handle(self, event: Any) -> None:
        """Discard the event."""


GONE = Gone()


class Http2Wire(StreamWire):
    """One stream of an HTTP/2 connection (RFC 8441), on any loop."""

    __slots__ = ()

    needs = ("connection.reset_stream", "streams", "stream_buffers", "_close_stream", "_flush")
    what = "hypercorn's HTTP/2"
    traits = TRAITS["hypercorn http/2"]

    def __init__(self, stream: Any, receive: Receive, send: Send) -> None:
        super().__init__(stream, receive, send)
        handle = stream.handle

        async def handle_and_tell(event: Any) -> None:
            if type(event).__name__ == "Body" and self._peer.both_closed():
                # wsproto refuses data behind the peer's close; its error would end the task that reads for all streams.
                return
            await handle(event)
            if stream.closed and not self.lost:
                self._left()

        stream.handle = handle_and_tell
        # Another WebSocket of the same connection may have replaced it already.
        if type(self._protocol.streams) is dict:
            self._protocol.streams = Streams(self._protocol.streams)

    @staticmethod
    def fits(protocol: object, server: object) -> bool:
        """Whether this is the wire for them."""
        return comes_from(protocol, "hypercorn.protocol.h2")

    def let_go(self) -> None:
        self._peer.stream.__dict__.pop("handle", None)
        super().let_go()

    def abort(self) -> None:
        super().abort()
        if not self.lost:
            # Only the stream: the connection below it is shared with others.
            current_loop().spawn(self._reset, self._peer.stream.stream_id)

    async def _put(self, data: bytes) -> None:
        stream = self._peer.stream
        await super()._put(data)
        # By itself hypercorn buffers without limit for a peer that takes no data.
        buffer = None if stream.closed else self._protocol.stream_buffers.get(stream.stream_id)
        if buffer is not None:
            await buffer.drain()

    async def _end_behind(self, event: Any) -> None:
        send_event, kind = self._send_event, type(event).__name__
        if self._closed and kind == "EndData":
            return
        if self._closed and self._writer is not None and kind == "StreamClosed":
            # This may be the task that reads for all streams; if it waits, no peer can report that it takes more.
            current_loop().spawn(self._end_when_idle, send_event, event)
        else:
            await send_event(event)

    async def _end_when_idle(self, send_event: Any, event: Any) -> None:
        await self._until_idle()
        # If the connection is lost, hypercorn knows already, and the objects it would use may be gone.
        if not self.lost:
            await send_event(event)

    async def _reset(self, number: int) -> None:
        from h2.errors import ErrorCodes
        from h2.exceptions import ProtocolError

        protocol = self._protocol
        with contextlib.suppress(ProtocolError):  # It may have ended.
            protocol.connection.reset_stream(number, ErrorCodes.CANCEL)
        buffer = protocol.stream_buffers.get(number)
        if buffer is not None:
            await buffer.close()
        await protocol._close_stream(number)
        await protocol._flush()
