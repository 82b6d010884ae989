"""The wire to a WebSocket stream of hypercorn: on asyncio, uvloop and trio, over HTTP/1.1 and HTTP/2.

Recognised by the ``send`` that hypercorn passes to the application. Over HTTP/1.1 on asyncio and
uvloop, frames go straight to the transport; on trio and over HTTP/2 they go through hypercorn's own
lock, one write at a time. In both cases what the peer sends is seen on its way from wsproto to
hypercorn, which by itself tells an application neither of a pong nor how its peer closed, and
counts characters where bytes are meant.

What is private in hypercorn and used here, each looked for at recognition (one missing: the plain
ASGI wire, and one line in the log). Tried with hypercorn 0.17 and 0.18.

===================  ======================================================================
stream               ``send``, ``app_put``, ``handshake``, ``buffer.max_length``, ``config``, ``state``,
                     ``closed``, ``stream_id``, ``connection`` (of wsproto), ``_send_pings``
HTTP/1.1             ``stream.send.__self__.send`` of the protocol
asyncio, uvloop      ``writer``, ``reader`` of the TCP server; methods of its transport's protocol
trio                 ``stream``, ``_close`` of the TCP server
HTTP/2               ``connection``, ``stream_buffers``, ``_close_stream``, ``_flush`` of the protocol
wsproto              ``connection._state``, see also the module ``wsproto`` beside this one
===================  ======================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio

from ..close import MESSAGE_TOO_BIG
from ..payload import Outgoing, frame_header
from ..tasks import current_loop
from ..types import Event, Receive, Scope, Send
from .asgi import AsgiWire
from .base import Block, Wire, lacks
from .deflate import Deflate, without_takeover
from .traits import TRAITS
from .transport import LINGER, PING, TransportWire
from .wsproto import bound_inflating, drop_contexts, undecoded, window_bits

__all__ = ["Http2Wire", "HypercornWire", "StreamWire", "TrioWire", "recognise"]

STREAM = ("send", "app_put", "handshake", "buffer.max_length", "config", "state", "closed", "stream_id", "_send_pings")


def recognise(scope: Scope, receive: Receive, send: Send) -> Wire | None:
    """The wire for this connection, ``None`` when ``send`` is not hypercorn's own."""
    stream: Any = getattr(send, "__self__", None)
    if not comes_from(stream, "hypercorn.protocol.ws_stream") or lacks(stream, STREAM, "hypercorn's stream"):
        return None
    protocol = getattr(stream.send, "__self__", None)
    server = getattr(getattr(protocol, "send", None), "__self__", None)
    for wire_class in (HypercornWire, TrioWire, Http2Wire):
        if wire_class.fits(protocol, server):
            owner = protocol if wire_class is Http2Wire else server
            if lacks(owner, wire_class.needs, wire_class.what):
                return None
            if wire_class is Http2Wire and "state" in scope:
                # hypercorn 0.17 shares it among all streams of one connection.
                scope["state"] = scope["state"].copy()
            return wire_class(stream, receive, send)
    # HTTP/3, over which there is nothing more to be had.
    return None


EXTENSIONS = b"sec-websocket-extensions"


def comes_from(thing: object, module: str) -> bool:
    """Whether this is an object of a class of that module, or of one derived from it."""
    return any(base.__module__ == module for base in type(thing).__mro__)


def refused(answer: bytes) -> bytes:
    """The header of an answer, with context takeover refused."""
    return without_takeover(answer.decode()).encode()


class Peer:
    """What one stream of hypercorn receives, seen on its way from wsproto to hypercorn.

    Args:
        stream: hypercorn's.
        receive: the ``receive`` that hypercorn made for the application.
        wire: is told of pongs.

    Attributes:
        stream: hypercorn's.
        connection: wsproto's, as soon as the handshake is complete.
        limit: bytes that a message may have.
        failed: whether the peer did what ends a connection: broke the protocol, or sent too much.
    """

    __slots__ = (
        "_code",
        "_events",
        "_open",
        "_reason",
        "_receive",
        "_size",
        "_takes_over",
        "_wire",
        "connection",
        "failed",
        "limit",
        "stream",
    )

    def __init__(self, stream: Any, receive: Receive, wire: Wire) -> None:
        self.stream = stream
        self.connection: Any = None
        self.limit: int = stream.buffer.max_length
        self.failed = False
        self._takes_over = True
        self._receive = receive
        self._wire = wire
        self._size = 0
        self._code: int | None = None
        self._reason = ""
        self._open: Any = None
        self._events: Callable[[], Iterator[Any]]
        self._watch_handshake()

    def take_over_keepalive(self) -> float | None:
        """Keep hypercorn from pinging; the seconds between its pings, if it was to."""
        interval: float | None = self.stream.config.websocket_ping_interval
        if interval is not None:
            # The configuration is shared by all connections. This starts as a task, and ends at once.
            self.stream._send_pings = _no_pings
        return interval

    def limit_message_size(self, limit: int) -> int | None:
        """Let no larger message pass; hypercorn's own limit where it is smaller."""
        if self.limit < limit:
            return self.limit
        self.limit = limit
        return None

    def refuse_compression(self) -> None:
        """Hide what the peer offered."""
        self.stream.handshake.extensions = None

    def refuse_context_takeover(self) -> None:
        """Keep neither compressor nor inflater between messages."""
        self._takes_over = False

    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self.connection is not None and self.connection.state is self._open and not self.stream.closed

    def partial(self) -> int:
        """Bytes of a message that is not complete."""
        return self._size + undecoded(self.connection)

    def closing_frame(self, code: int, reason: str) -> bytes:
        """The close frame, of which hypercorn and wsproto then know."""
        from wsproto.events import CloseConnection

        self.stream.state = type(self.stream.state).CLOSED
        # Nobody wants these any more, and behind them the peer's answer would not be read.
        self._empty_queue()
        data: bytes = self.connection.send(CloseConnection(code=code, reason=reason))
        return data

    def told(self, event: Event) -> Event:
        """What the application is told: with code and reason of the close, where hypercorn has only 1006."""
        if event["type"] == "websocket.disconnect" and self._code is not None:
            return {**event, "code": self._code, "reason": self._reason}
        return event

    def forget(self) -> None:
        """The application has returned: nobody takes anything out of its queue any more.

        hypercorn would wait for room in it, and so never learn that the peer has left.
        """
        self.stream.app_put = _discard
        self._empty_queue()

    def _empty_queue(self) -> None:
        queue = getattr(self._receive, "__self__", None)
        take = getattr(queue, "get_nowait", None) or getattr(queue, "receive_nowait", None)
        # asyncio and trio each have their own word for an empty queue.
        with contextlib.suppress(Exception):
            while take is not None:
                take()

    def _watch_handshake(self) -> None:
        handshake = self.stream.handshake
        accept = handshake.accept

        def accept_and_watch(*args: Any, **kwargs: Any) -> Any:
            status, headers, connection = accept(*args, **kwargs)
            if not self._takes_over and drop_contexts(connection):
                headers = [
                    (name, refused(value) if name == b"sec-websocket-extensions" else value) for name, value in headers
                ]
            self._watch(connection)
            return status, headers, connection

        handshake.accept = accept_and_watch

    def _watch(self, connection: Any) -> None:
        self.connection = connection
        self._open = connection.state
        self._events = connection.events
        connection.events = self._watched
        bound_inflating(connection, lambda: self.limit)

    def _watched(self) -> Iterator[Any]:
        from wsproto.events import CloseConnection, Message, Pong

        for event in self._events():
            if isinstance(event, Message):
                if self.connection.state is not self._open:
                    continue  # After our close nobody wants it.
                event = self._measured(event)
            elif isinstance(event, Pong):
                self._wire.on_pong(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                event = self._noted(event)
            yield event
            if self.failed:
                return

    def _measured(self, message: Any) -> Any:
        data = message.data
        plain = isinstance(data, bytes) or data.isascii()
        self._size += len(data) if plain else len(data.encode("utf-8", "surrogatepass"))
        if self._size > self.limit:
            return self._fail(MESSAGE_TOO_BIG.code, MESSAGE_TOO_BIG.reason)
        if message.message_finished:
            self._size = 0
        return message

    def _noted(self, close: Any) -> Any:
        state = self.connection.state.name
        if state == "OPEN":
            # wsproto found an error, and leaves it to hypercorn to say so, which ends TCP without a word.
            too_big = close.code == MESSAGE_TOO_BIG.code
            return self._fail(close.code, MESSAGE_TOO_BIG.reason if too_big else close.reason or "")
        if state == "REMOTE_CLOSING":
            self._code, self._reason = int(close.code), close.reason or ""
        return close

    def _fail(self, code: int, reason: str) -> Any:
        """End the connection as if the peer had closed it so: hypercorn answers with the same, and ends it."""
        from wsproto.connection import ConnectionState
        from wsproto.events import CloseConnection

        self.failed = True
        self._code, self._reason = int(code), reason
        self.connection._state = ConnectionState.REMOTE_CLOSING
        return CloseConnection(code=int(code), reason=reason)


class HypercornWire(TransportWire):
    """HTTP/1.1 on asyncio and uvloop.

    Args:
        stream: hypercorn's.
        receive: its ``receive``.
        send: its ``send``.
    """

    __slots__ = ("_peer", "_receive", "_send")

    needs: tuple[str, ...] = ("writer.transport.get_protocol", "reader.read", "send_lock")
    what = "hypercorn's TCP server"
    traits = TRAITS["hypercorn asyncio"]

    def __init__(self, stream: Any, receive: Receive, send: Send) -> None:
        protocol = stream.send.__self__
        server = protocol.send.__self__
        transport = server.writer.transport
        super().__init__(transport, transport.get_protocol())
        self._peer = Peer(stream, receive, self)
        self._receive = receive
        self._send = send

        async def end() -> None:
            server.writer.write_eof()

        linger_after_failure(protocol, self._peer, lambda: server.reader.read(65536), end)

    @staticmethod
    def fits(protocol: object, server: object) -> bool:
        """Whether this is the wire for them."""
        return comes_from(protocol, "hypercorn.protocol.h11") and comes_from(server, "hypercorn.asyncio.tcp_server")

    def take_over_keepalive(self) -> None:
        self.server_ping_interval = self._peer.take_over_keepalive()

    def limit_message_size(self, limit: int) -> int | None:
        return self._peer.limit_message_size(limit)

    def refuse_compression(self) -> bool:
        self._peer.refuse_compression()
        return True

    def refuse_context_takeover(self) -> bool:
        self._peer.refuse_context_takeover()
        return True

    async def accept(self, event: Event) -> None:
        await self._send(event)
        self.attach()
        self.deflates = self.deflate(window_bits(self._peer.connection))

    async def deny(self, event: Event) -> None:
        await self._send(event)

    async def receive(self) -> Event:
        return self._peer.told(await self._receive())

    def is_open(self) -> bool:
        return self._peer.is_open() and not self._is_closing()

    def partial(self) -> int:
        return self._peer.partial()

    def server_closed(self) -> bool:
        return self._peer.failed

    async def close(self, code: int, reason: str) -> None:
        if self._peer.connection is None:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        elif self.is_open():
            # Its own send() would wait behind a stalled peer. The frame goes behind what is buffered.
            self._transport_write(self._peer.closing_frame(code, reason))

    def detach(self) -> None:
        super().detach()
        self._peer.forget()


class CloseBlock(Block):
    """The close frame, on its way behind all messages."""

    __slots__ = ("_frame",)

    def __init__(self, frame: bytes) -> None:
        super().__init__(())
        self._frame = frame

    def frames(self, deflate: Deflate | None = None) -> bytes:
        return self._frame


class StreamWire(AsgiWire):
    """Frames go through hypercorn: one write at a time, behind its own.

    A write may take as long as the peer likes, and on trio nothing but the end of the connection
    ends it. So none is awaited but by the writer task.

    Args:
        stream: hypercorn's.
        receive: its ``receive``.
        send: its ``send``.
    """

    __slots__ = ("_closed", "_deflates", "_peer", "_pinging", "_protocol", "_send_event")

    needs: tuple[str, ...] = ()
    what = "hypercorn"

    def __init__(self, stream: Any, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self._peer = Peer(stream, receive, self)
        self._protocol = stream.send.__self__
        self._send_event = stream.send
        self._deflates: Deflate | None = None
        self._pinging = False
        self._closed = False
        stream.send = self._end_behind

    def take_over_keepalive(self) -> None:
        self.server_ping_interval = self._peer.take_over_keepalive()

    def limit_message_size(self, limit: int) -> int | None:
        return self._peer.limit_message_size(limit)

    def refuse_compression(self) -> bool:
        self._peer.refuse_compression()
        return True

    def refuse_context_takeover(self) -> bool:
        self._peer.refuse_context_takeover()
        return True

    async def accept(self, event: Event) -> None:
        await super().accept(event)
        self._deflates = self.deflate(window_bits(self._peer.connection))

    async def receive(self) -> Event:
        return self._peer.told(await super().receive())

    def is_open(self) -> bool:
        return not self._closing and self._peer.is_open()

    def partial(self) -> int:
        return self._peer.partial()

    def server_closed(self) -> bool:
        return self._peer.failed

    async def send(self, message: Outgoing) -> None:
        if not self.is_open():
            raise ConnectionResetError("the peer has left")
        self.write(Block((message,)))

    def ping(self, payload: bytes) -> bool:
        if self.is_open() and not self._pinging:
            self._pinging = True
            current_loop().spawn(self._ping, payload)
        return True

    async def close(self, code: int, reason: str) -> None:
        if self._peer.connection is None:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        elif self.is_open():
            self.write(CloseBlock(self._peer.closing_frame(code, reason)))
            self._closing = self._closed = True

    def detach(self) -> None:
        Wire.detach(self)
        self._peer.forget()
        if not self._closed:
            self._stop_writer()

    async def _ping(self, payload: bytes) -> None:
        try:
            await self._put(frame_header(PING, len(payload)) + payload)
        finally:
            self._pinging = False

    async def _transmit_block(self, block: Block) -> None:
        await self._put(block.frames(self._deflates))
        self._in_flight -= block.size
        if isinstance(block, CloseBlock):
            from hypercorn.protocol.events import EndData

            await self._send_event(EndData(stream_id=self._peer.stream.stream_id))

    async def _put(self, data: bytes) -> None:
        from hypercorn.protocol.events import Data

        # Behind the peer's close nothing may follow; before our own, what was written still goes out.
        if self._peer.is_open() or (self._closed and not self._peer.stream.closed):
            await self._send_event(Data(stream_id=self._peer.stream.stream_id, data=data))

    async def _end_behind(self, event: Any) -> None:
        """hypercorn's sends: it ends the connection only when our close frame is out."""
        if self._closed and type(event).__name__ == "StreamClosed":
            await self._until_idle()
        await self._send_event(event)

    def _left(self) -> None:
        self.lost = True
        self._stop_writer()
        self.on_lost()


class TrioWire(StreamWire):
    """HTTP/1.1 on trio."""

    __slots__ = ("_server",)

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
        linger_after_failure(
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
            return None
        return str(name[0]) if isinstance(name, tuple) and name else None

    def abort(self) -> None:
        super().abort()
        # Whoever is in the middle of sending or receiving is told that it is closed.
        self._socket().close()

    def _socket(self) -> Any:
        stream = self._server.stream
        return getattr(stream, "transport_stream", stream).socket


class Http2Wire(StreamWire):
    """One stream of an HTTP/2 connection (RFC 8441), on any loop."""

    __slots__ = ()

    needs = ("connection.reset_stream", "stream_buffers", "_close_stream", "_flush")
    what = "hypercorn's HTTP/2"
    traits = TRAITS["hypercorn http/2"]

    def __init__(self, stream: Any, receive: Receive, send: Send) -> None:
        super().__init__(stream, receive, send)
        handle = stream.handle

        async def handle_and_tell(event: Any) -> None:
            await handle(event)
            if stream.closed and not self.lost:
                self._left()

        stream.handle = handle_and_tell

    @staticmethod
    def fits(protocol: object, server: object) -> bool:
        """Whether this is the wire for them."""
        return comes_from(protocol, "hypercorn.protocol.h2")

    def abort(self) -> None:
        super().abort()
        # Only the stream: the connection below it is shared with others.
        current_loop().spawn(self._reset)

    async def _put(self, data: bytes) -> None:
        await super()._put(data)
        # By itself hypercorn takes ever more for a peer that lets it send nothing.
        buffer = self._protocol.stream_buffers.get(self._peer.stream.stream_id)
        if buffer is not None:
            await buffer.drain()

    async def _reset(self) -> None:
        from h2.errors import ErrorCodes
        from h2.exceptions import ProtocolError

        protocol, number = self._protocol, self._peer.stream.stream_id
        with contextlib.suppress(ProtocolError):  # It may have ended.
            protocol.connection.reset_stream(number, ErrorCodes.CANCEL)
        buffer = protocol.stream_buffers.get(number)
        if buffer is not None:
            await buffer.close()
        await protocol._close_stream(number)
        await protocol._flush()


def linger_after_failure(
    protocol: Any, peer: Peer, read: Callable[[], Awaitable[bytes]], end: Callable[[], Awaitable[object]]
) -> None:
    """Read and discard for a while, before TCP is ended under a peer that broke the rules.

    hypercorn would end it at once; with data unread the kernel then answers with a reset, which
    destroys the close frame on its way (RFC 6455 section 7.1.1 warns of it).

    Args:
        protocol: hypercorn's.
        peer: whose.
        read: reads some bytes; none when the peer has ended.
        end: tells the peer that nothing more will come.
    """
    send = protocol.send

    async def send_or_linger(event: Any) -> None:
        if peer.failed and type(event).__name__ == "Closed":
            protocol.__dict__["send"] = send
            # We are in the task that reads.
            with anyio.move_on_after(LINGER):
                await _read_out(read, end)
        await send(event)

    protocol.send = send_or_linger


async def _read_out(read: Callable[[], Awaitable[bytes]], end: Callable[[], Awaitable[object]]) -> None:
    # The loops have several ways to say that the peer has gone, and over TLS there is no end to tell of.
    with contextlib.suppress(Exception):
        await end()
    with contextlib.suppress(Exception):
        while await read():
            pass


async def _no_pings() -> None:
    pass


async def _discard(event: Event) -> None:
    pass
