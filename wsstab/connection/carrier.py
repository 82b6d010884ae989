"""Carrier: one ASGI call on one wire, and who reads from it.

Somebody is always reading. On servers where a pending ``receive()`` may be cancelled, the handler's own call goes
straight to the server. A reader task starts only when the handler has not been in ``receive()`` for a while; it hands
its message over and ends. On other servers one reader task owns ``receive`` for the whole call, and is cancelled only
to close. Two receives of a server are never pending at once.
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
"""Seconds between two checks for the end of a peer that nobody reads from, because its inbox is full."""


class Carrier:
    """One ASGI call on one wire.

    Args:
        peer: the peer that it carries.
        can_deny: whether the server takes an HTTP response in place of the handshake.
        reader_only: never let the handler read directly, because the reader paces it.
        readahead: starts a reader if the handler does not read; ``None`` if nothing can be read.

    Attributes:
        reading: whether the server's ``receive()`` is pending.
        direct: whether the handler reads from the wire itself.
        watched: whether `wsstab.loop.readahead.ReadAhead` checks it.
        away_seen: whether nobody has read since the last check.
        headers: headers of the handshake, until the call ends; ``None`` without a handshake.
        server: the `wsstab.hub.serving.ServingServer` it came through; ``None`` if that is not known.
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
        """Whether a scope is of the same handshake, even if middleware has changed or rebuilt it."""
        if self.headers is None:
            return False
        headers = scope.get("headers")
        # The same list is the common case; only middleware that builds a new scope makes the keys necessary.
        return headers is self.headers or (
            headers is not None and handshake_key(headers) == handshake_key(self.headers)
        )

    @property
    def attended(self) -> bool:
        """Whether somebody reads, or is about to."""
        return self.reading or self._reader is not None

    @property
    def _closing_alone(self) -> bool:
        """Whether a close is being sent that a pending receive would block on this server."""
        return self.peer.closing.close is not None and not self.wire.traits.closes_while_receiving

    def opened(self) -> None:
        """The handshake is complete: from now on somebody must always be reading."""
        if self.direct:
            if not self.watched:
                self._left_unread()
        elif self.wire.readable:
            self.read_ahead()

    def begin_reading(self) -> bool:
        """Let the handler read from the wire itself, if it may; it must call `end_reading` afterwards."""
        if self.direct and not self.reading and self._reader is None:
            self.reading = True
            return True
        return False

    def end_reading(self) -> None:
        """The handler has got its event, or was cancelled."""
        self.reading = self.away_seen = False
        if not self.watched:
            self._left_unread()

    def _left_unread(self) -> None:
        """Nobody reads now: start a reader if that stays so."""
        if self._readahead is not None:
            self._readahead.away(self)

    async def arrival(self) -> None:
        """Wait until the reader has put something into the inbox."""
        self.read_ahead()
        if self._arrived is None:
            self._arrived = anyio.Event()
        await self._arrived.wait()

    def read_ahead(self) -> None:
        """Start a reader, if nobody reads and something can still arrive."""
        if not self.attended and not self.peer.receiver.over and not self._closing_alone:
            if self.peer.debug:
                self.peer.trace("- a reader begins:")
            self._reader = self.peer.loop.spawn(self._read_ahead, self.peer, context=self.wire.context)

    def look_behind(self) -> None:
        """Nobody reads, because the inbox is full: check whether the peer is still there."""
        self.peer.receiver.look_behind()

    def notify(self) -> None:
        """Wake a handler that waits for the inbox."""
        arrived, self._arrived = self._arrived, None
        if arrived is not None:
            arrived.set()

    def made_room(self) -> None:
        """The handler took a message out of the inbox: a reader that waits for room goes on."""
        room, self._room = self._room, None
        if room is not None:
            room.set()

    def stop_reading(self) -> None:
        """Cancel the reader. Only a close may do that, when nothing more needs to be read."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()

    def release(self) -> None:
        """The ASGI call has ended."""
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
        """Send the close frame, or before accept the refusal."""
        if not self.wire.traits.closes_while_receiving:
            # These servers do not send the close while a receive is pending.
            self.stop_reading()
        await self.wire.close(clamp_code(close.code), clamp_reason(close.reason))

    async def deny(self, close: Close) -> None:
        """Refuse the handshake, by an HTTP response with a body, or by 403 if the server takes no response."""
        self.stop_reading()
        for event in denial(close, self._can_deny):
            await self.wire.deny(event)

    async def _read_ahead(self, peer: PeerBase) -> None:
        reader = self._reader
        try:
            while await self._read_one(peer.receiver):
                pass
        finally:
            # A close that cancelled this reader may have replaced it already.
            if self._reader is reader:
                self._reader = None
            # A cancelled task keeps its traceback, and with it this frame.
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
        # Asked before notify(), which clears it.
        awaited = self._arrived is not None
        receiver.keep(admitted)
        self.notify()
        if receiver.over or admitted["type"] == "websocket.disconnect":
            # Some servers return the disconnect again and again, without ever suspending.
            return False
        if self.direct:
            # A handler that was waiting reads from the server itself the next time.
            return not awaited and not receiver.full
        while receiver.full and not receiver.over:
            self._room = anyio.Event()
            with anyio.move_on_after(BETWEEN_LOOKS) as patience:
                await self._room.wait()
            if patience.cancelled_caught:
                receiver.look_behind()
        return not receiver.over


def handshake_key(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers that identify a handshake: its key, or all headers over HTTP/2, which has no key."""
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
