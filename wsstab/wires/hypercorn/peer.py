"""Observes one stream of hypercorn: what its peer sends, on the way from wsproto to hypercorn."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio

from ...close import MESSAGE_TOO_BIG
from ...types import Event, Receive
from ..base import Wire
from ..deflate import without_takeover
from ..transport import LINGER
from ..wsproto import bound_inflating, drop_contexts, undecoded

__all__ = ["Peer", "Watching", "comes_from", "linger_after_failure"]

EXTENSIONS = b"sec-websocket-extensions"


def comes_from(thing: object, module: str) -> bool:
    """Whether an object's class, or one of its base classes, comes from that module."""
    return any(base.__module__ == module for base in type(thing).__mro__)


def refused(answer: bytes) -> bytes:
    """The extensions header of an answer, with context takeover refused."""
    return without_takeover(answer.decode()).encode()


class Peer:
    """The peer of one stream of hypercorn; everything it sends passes here on the way from wsproto to hypercorn.

    Args:
        stream: the WebSocket stream of hypercorn.
        receive: the ``receive`` that hypercorn made for the application.
        wire: the wire, which is told of pongs.

    Attributes:
        stream: the WebSocket stream of hypercorn.
        connection: the connection of wsproto; ``None`` until the handshake is complete.
        limit: bytes that a message may have.
        failed: whether the peer broke the protocol or sent too much, which ends the connection.
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
        """Stop hypercorn's pings; return the seconds between them, or ``None`` if it was not to send any."""
        interval: float | None = self.stream.config.websocket_ping_interval
        if interval is not None:
            # All connections share the configuration, so it is left alone. hypercorn starts this as a task, which ends
            # at once.
            self.stream._send_pings = _no_pings
        return interval

    def limit_message_size(self, limit: int) -> int | None:
        """Refuse larger messages; return hypercorn's own limit if that is smaller."""
        if self.limit < limit:
            return self.limit
        self.limit = limit
        return None

    def refuse_compression(self) -> None:
        """Hide the extensions that the peer offered."""
        self.stream.handshake.extensions = None

    def refuse_context_takeover(self) -> None:
        """Keep neither compressor nor inflater between messages."""
        self._takes_over = False

    def is_open(self) -> bool:
        """Whether neither side has begun to close."""
        return self.connection is not None and self.connection.state is self._open and not self.stream.closed

    def both_closed(self) -> bool:
        """Whether both sides have closed."""
        return self.connection is not None and self.connection.state.name == "CLOSED"

    def partial(self) -> int:
        """Bytes of an incomplete message."""
        return self._size + undecoded(self.connection)

    def closing_frame(self, code: int, reason: str) -> bytes:
        """Make the close frame, and tell hypercorn and wsproto of the close."""
        # Imported in functions throughout, because the package works without hypercorn and wsproto.
        from wsproto.events import CloseConnection

        # In any other state hypercorn sends 1011 when the application returns.
        self.stream.state = type(self.stream.state).CLOSED
        # Nobody reads these messages any more, and hypercorn would wait for room in a full queue instead of reading the
        # peer's answer.
        self._empty_queue()
        data: bytes = self.connection.send(CloseConnection(code=code, reason=reason))
        return data

    async def receive(self) -> Event:
        """The next event for the application, with code and reason of the close, where hypercorn gives only 1006."""
        event = await self._receive()
        if event["type"] == "websocket.disconnect" and self._code is not None:
            return {**event, "code": self._code, "reason": self._reason}
        return event

    def forget(self) -> None:
        """Discard further events: the application has returned and no longer empties its queue.

        hypercorn would wait for room in the queue, and so never learn that the peer has left.
        """
        self.stream.app_put = _discard
        self._empty_queue()

    def let_go(self) -> None:
        """Remove all references between hypercorn and this object at the end, so that it is freed at once."""
        self.stream.handshake.__dict__.pop("accept", None)
        if self.connection is not None:
            self.connection.__dict__.pop("events", None)
        self.stream, self.connection, self._wire = NO_STREAM, None, NO_WIRE

    def _empty_queue(self) -> None:
        # hypercorn gives the application a method of the queue itself: ``get`` on asyncio, ``receive`` on trio.
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
                    continue  # Messages after our close are not needed.
                event = self._measured(event)
            elif isinstance(event, Pong):
                self._wire.on_pong(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                event = self._noted(event)
            yield event
            # hypercorn may resume this late, after a wait during which the connection has ended.
            if self.failed or self.connection is None:
                return

    def _measured(self, message: Any) -> Any:
        data = message.data
        # Encoding only what is not ASCII: most text is, and then has as many bytes as characters.
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
            # wsproto found an error and leaves it to hypercorn to report, which ends TCP without a close frame.
            too_big = close.code == MESSAGE_TOO_BIG.code
            return self._fail(close.code, MESSAGE_TOO_BIG.reason if too_big else close.reason or "")
        if state == "REMOTE_CLOSING":
            self._code, self._reason = int(close.code), close.reason or ""
        return close

    def _fail(self, code: int, reason: str) -> Any:
        """Fail the connection as if the peer had closed with this code: hypercorn answers with the same and ends it."""
        from wsproto.connection import ConnectionState
        from wsproto.events import CloseConnection

        self.failed = True
        self._code, self._reason = int(code), reason
        # Only in this state does hypercorn answer a close; wsproto has no public way to enter it.
        self.connection._state = ConnectionState.REMOTE_CLOSING
        return CloseConnection(code=int(code), reason=reason)


class NoStream:
    """A stream that is over."""

    closed = True
    stream_id = 0


NO_STREAM, NO_WIRE = NoStream(), Wire()
"""Placeholders for the stream and wire of a connection that is over."""


class Watching(Wire):
    """The methods that the wires to hypercorn delegate to their `Peer`."""

    __slots__ = ()

    _peer: Peer

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

    def partial(self) -> int:
        return self._peer.partial()

    def server_closed(self) -> bool:
        return self._peer.failed


def linger_after_failure(
    protocol: Any, peer: Peer, read: Callable[[], Awaitable[bytes]], end: Callable[[], Awaitable[object]]
) -> Callable[[], None]:
    """Read and discard for a while, before TCP is ended under a peer that broke the rules.

    hypercorn would end it at once; with data unread the kernel then answers with a reset, which
    destroys the close frame on its way (RFC 6455 section 7.1.1 warns of it).

    Args:
        protocol: the protocol object of hypercorn.
        peer: the peer whose failure is watched for.
        read: reads some bytes; returns none when the peer has ended.
        end: tells the peer that nothing more will come.

    Returns:
        A function that undoes the change.
    """
    send = protocol.send

    async def send_or_linger(event: Any) -> None:
        if peer.failed and type(event).__name__ == "Closed":
            protocol.__dict__["send"] = send
            # This runs in hypercorn's reading task, so nobody else reads meanwhile.
            with anyio.move_on_after(LINGER):
                await _read_out(read, end)
        await send(event)

    def take_back() -> None:
        if protocol.__dict__.get("send") is send_or_linger:
            protocol.__dict__["send"] = send

    protocol.send = send_or_linger
    return take_back


async def _read_out(read: Callable[[], Awaitable[bytes]], end: Callable[[], Awaitable[object]]) -> None:
    # The loops report a departed peer by different errors, and their TLS streams cannot end one side alone.
    with contextlib.suppress(Exception):
        await end()
    with contextlib.suppress(Exception):
        while await read():
            pass


async def _no_pings() -> None:
    pass


async def _discard(event: Event) -> None:
    pass
