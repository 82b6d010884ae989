"""The socket that carries a connection now: one ASGI call on one wire.

Somebody is always reading. Where a pending ``receive()`` may be cancelled, the handler's own call
goes straight to the server, and a reader starts only when nobody has been in ``receive()`` for a
while; it hands its message over and retires. Elsewhere one reader owns ``receive`` for the whole
call, and is cancelled only to close. Two receives of a server are never pending at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import anyio

from ..close import Close, clamp_code, clamp_reason
from ..loop.tasks import Task
from ..types import Event, Scope

if TYPE_CHECKING:
    from ..loop.readahead import ReadAhead
    from .base import Inbound, PeerBase

__all__ = ["Carrier"]

BETWEEN_LOOKS = 0.5
"""Seconds between two looks whether a peer has left that is not read from, because too much is unread."""


class Carrier:
    """One ASGI call on one wire.

    Args:
        peer: the peer that it carries.
        can_deny: whether the server takes an HTTP response in place of the handshake.
        reader_only: never let the handler read directly: what it must not outrun is paced by the reader.
        readahead: starts a reader where the handler does not read; ``None`` where there is nothing to read.

    Attributes:
        reading: whether the server's ``receive()`` is pending.
        watched: whether `wsstab.loop.readahead.ReadAhead` looks at it.
        away_seen: whether nobody has read since it looked before.
        headers: of the handshake, as the scope has them, until the call is over; ``None`` without a handshake.
        server: which of those that serve the application it came by; ``None`` where that is not known.
        scope: cancelled to end a handler that ignores its disconnect.
    """

    __slots__ = (
        "_arrived",
        "_can_deny",
        "_readahead",
        "_reader",
        "_room",
        "away_seen",
        "direct",
        "headers",
        "peer",
        "reading",
        "scope",
        "server",
        "watched",
        "wire",
    )

    def __init__(
        self,
        peer: PeerBase,
        *,
        can_deny: bool = True,
        reader_only: bool = False,
        readahead: ReadAhead | None = None,
    ) -> None:
        self.peer = peer
        self.wire = peer.wire
        self.direct = peer.wire.traits.receive_cancellable and not reader_only
        self.reading = self.watched = self.away_seen = False
        self.scope: anyio.CancelScope | None = None
        self._readahead = readahead
        self._can_deny = can_deny
        self._reader: Task | None = None
        self._arrived: anyio.Event | None = None
        self._room: anyio.Event | None = None
        self.headers: Any = None
        self.server: object = None

    def carries(self, scope: Scope) -> bool:
        """Whether this is a scope of the same handshake, whatever somebody has changed in it."""
        if self.headers is None:
            return False
        headers = scope.get("headers")
        return headers is self.headers or (
            headers is not None and handshake_key(headers) == handshake_key(self.headers)
        )

    @property
    def attended(self) -> bool:
        """Whether somebody reads, or has begun to."""
        return self.reading or self._reader is not None

    @property
    def _closing_alone(self) -> bool:
        """Whether a close is under way that a pending receive would hold up."""
        return self.peer.closing.close is not None and not self.wire.traits.closes_while_receiving

    def opened(self) -> None:
        """The handshake is complete: from now on somebody must be reading."""
        if self.direct:
            if not self.watched:
                self._left_unread()
        elif self.wire.readable:
            self.read_ahead()

    def begin_reading(self) -> bool:
        """Let the handler read from the wire itself, if it may; it must say `end_reading` when it has."""
        if self.direct and not self.reading and self._reader is None:
            self.reading = True
            return True
        return False

    def end_reading(self) -> None:
        """The handler has its event, or was cancelled."""
        self.reading = self.away_seen = False
        if not self.watched:
            self._left_unread()

    def _left_unread(self) -> None:
        """Nobody reads now: have that watched."""
        if self._readahead is not None:
            self._readahead.away(self)

    async def arrival(self) -> None:
        """Wait until something is in the inbox, or what came was none of the handler's business."""
        self.read_ahead()
        if self._arrived is None:
            self._arrived = anyio.Event()
        await self._arrived.wait()

    def read_ahead(self) -> None:
        """Have a reader at work, if nobody reads and there is anything to read."""
        if not self.attended and not self.peer.receiver.over and not self._closing_alone:
            if self.peer.debug:
                self.peer.trace("- the handler does not read, a reader begins:")
            self._reader = self.peer.loop.spawn(self._read_ahead, self.peer, context=self.wire.context)

    def look_behind(self) -> None:
        """Nobody reads, because the inbox is full: see whether the peer is still there behind what is unread."""
        self.peer.receiver.look_behind()

    def notify(self) -> None:
        """Wake the handler, which waits for the inbox."""
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            arrived.set()

    def made_room(self) -> None:
        """The handler took something out of the inbox: a reader that waits for room may go on."""
        room, self._room = self._room, None
        if room is not None:
            room.set()

    def stop_reading(self) -> None:
        """Cancel the reader; only to close, and only when what it would read no longer matters."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()

    def release(self) -> None:
        """The ASGI call is over."""
        self.stop_reading()
        if self._readahead is not None:
            self._readahead.back(self)
            self._readahead = None
        self.scope = self.headers = None
        self.wire.detach()

    def cancel(self) -> None:
        """Cancel the handler, again and again until it ends."""
        if self.scope is not None:
            self.scope.cancel()

    async def close(self, close: Close) -> None:
        """Send the close frame, or the refusal before the handshake is complete."""
        if not self.wire.traits.closes_while_receiving:
            # Some servers never send the close while a receive is pending.
            self.stop_reading()
        await self.wire.close(clamp_code(close.code), clamp_reason(close.reason))

    async def deny(self, close: Close) -> None:
        """Refuse the handshake: as an HTTP response with a body, or where the server cannot, as 403."""
        self.stop_reading()
        for event in denial(close, self._can_deny):
            await self.wire.deny(event)

    async def _read_ahead(self, peer: PeerBase) -> None:
        reader = self._reader
        try:
            while await self._read_one(peer.receiver):
                pass
        finally:
            # A closing that cancelled it may have forgotten it already.
            if self._reader is reader:
                self._reader = None
            # A task that was cancelled keeps the traceback, and so this frame.
            reader = None
            self._left_unread()

    async def _read_one(self, receiver: Inbound) -> bool:
        """Read one event into the inbox; whether to go on."""
        self.reading = True
        try:
            event = await self.wire.receive()
        finally:
            self.reading = False
        admitted = receiver.admit(event)
        if admitted is None:
            return not receiver.over
        awaited = self._arrived is not None
        receiver.keep(admitted)
        self.notify()
        if receiver.over or admitted["type"] == "websocket.disconnect":
            # Some servers would say it again and again, without ever suspending.
            return False
        if self.direct:
            return not awaited and not receiver.full
        while receiver.full and not receiver.over:
            self._room = anyio.Event()
            with anyio.move_on_after(BETWEEN_LOOKS) as patience:
                await self._room.wait()
            if patience.cancelled_caught:
                receiver.look_behind()
        return not receiver.over


def handshake_key(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What tells one handshake from all others: its key; over HTTP/2, which has none, all its headers."""
    headers = [(bytes(name).lower(), value) for name, value in headers]
    return [pair for pair in headers if pair[0] == b"sec-websocket-key"] or headers


def denial(close: Close, can_deny: bool) -> list[Event]:
    """The ASGI events that refuse a handshake with ``close``.

    One body event and no more: some servers take only one (ASGI "Websocket Denial Response").
    """
    if not can_deny:
        return [{"type": "websocket.close", "code": clamp_code(close.code), "reason": clamp_reason(close.reason)}]
    body = close.reason.encode("utf-8", "replace") + b"\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
    ]
    if close.retry_after is not None:
        headers.append((b"retry-after", str(close.retry_after).encode()))
    return [
        {"type": "websocket.http.response.start", "status": close.status, "headers": headers},
        {"type": "websocket.http.response.body", "body": body, "more_body": False},
    ]
