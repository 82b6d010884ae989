"""The base class of all wires: a wire carries bytes to one peer.

ASGI has no ping, no buffer size and no abort. A wire offers what its server really supports and
reports what it lacks; no code above it asks which server runs.

A wire is written to only while `Wire.writable`; it calls ``on_blocked`` when that ends and
``on_writable`` when it returns. Messages that wait meanwhile stay in the connection's queue, where
they can still be dropped, conflated or kept for a replay.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context, copy_context
from types import MethodType
from typing import Any

import anyio

from ..core.frames import Block, Deflate, Outgoing
from ..loop.usercode import awaited
from ..notices import Notices
from ..types import Event, Send, Transport
from .traits import ASGI, Traits

__all__ = [
    "Wire",
    "lacks",
    "nothing_comes",
    "nothing_goes",
    "nothing_is_left",
    "owner_of",
    "tell_of_close",
    "tell_of_failure",
]

logger = logging.getLogger("wsstab")

OBSERVING = 1.0
"""Seconds that an observer may take to handle a close."""


class Wire:
    """How bytes reach one peer.

    Attributes:
        writable: whether the next write is taken at once.
        traits: what the server behind the wire can and cannot do.
        readable: whether messages from the peer pass through this wire.
        passes_others: whether sent messages may pass through other code between the server and us.
        context: context of the ASGI call; work for this connection alone runs in a copy of it. ``None`` at the end.
        compress_from: size in bytes from which messages are compressed, if negotiated; ``None`` for never.
        lost: whether the TCP connection is known to have ended.
        server_ping_interval: seconds between the server's own pings, which this wire has taken over.
        on_writable: called when the wire takes data again.
        on_blocked: called when the wire no longer takes data.
        on_pong: called with the payload of each pong.
        on_lost: called when the TCP connection has ended.
        on_failed: called with an error of code between the server and us, for a message that is not the handler's own.
    """

    __slots__ = (
        "compress_from",
        "context",
        "lost",
        "on_blocked",
        "on_failed",
        "on_lost",
        "on_pong",
        "on_writable",
        "server_ping_interval",
        "writable",
    )

    traits: Traits = ASGI
    readable = True
    passes_others = False

    def __init__(self) -> None:
        self.writable = True
        # The ASGI call makes the wire before any object of ours is in its context; otherwise this would be a cycle.
        self.context: Context | None = copy_context()
        self.compress_from: int | None = None
        self.lost = False
        self.server_ping_interval: float | None = None
        # Functions and not None, so that a wire calls them without a check; all wires share them.
        self.on_writable: Callable[[], None] = _nothing
        self.on_blocked: Callable[[], None] = _nothing
        self.on_pong: Callable[[bytes], None] = _ignore
        self.on_lost: Callable[[], None] = _nothing
        self.on_failed: Callable[[Exception], None] = _ignore

    # Before the handshake and during it.

    def peer_address(self) -> str | None:
        """Peer address of the TCP connection, which proxy headers may hide in the scope; ``None`` if not known."""
        return None

    def announce_to(self, send: Send) -> None:
        """Route the handshake, a refusal and the close through observers around the server; call before anything else.

        Args:
            send: the ``send`` of the outermost observer.
        """

    def take_over_keepalive(self) -> None:
        """Stop the server's own pings, if it sends any."""

    def limit_message_size(self, limit: int) -> int | None:
        """Make the server itself refuse larger messages before they are in memory, if it can be told the limit.

        Returns:
            The server's own limit in bytes if it is smaller; ``None`` otherwise.
        """
        largest = self.traits.largest_message
        return largest if largest is not None and largest < limit else None

    def refuse_compression(self) -> bool:
        """Do not negotiate permessage-deflate; ``False`` if the server does not allow that."""
        return False

    def refuse_context_takeover(self) -> bool:
        """Negotiate compression without a window kept between messages; ``False`` if the server does not allow that.

        An idle connection then has neither compressor nor inflater. A server may request this unasked
        (RFC 7692 sections 7.1.1.1 and 7.1.1.2).
        """
        return False

    def deflate(self, window_bits: int) -> Deflate | None:
        """How messages to this peer are compressed.

        Args:
            window_bits: the negotiated window size in bits; 0 for no compression.
        """
        # zlib has no window of 8 bits; such a peer gets its messages uncompressed.
        if self.compress_from is None or window_bits < 9:
            return None
        return Deflate(window_bits, self.compress_from)

    # After the handshake.

    def receive(self) -> Awaitable[Event]:
        """The next event of the server. Never called while a call is pending."""
        raise NotImplementedError

    async def accept(self, event: Event) -> None:
        """Complete the handshake."""
        raise NotImplementedError

    async def deny(self, event: Event) -> None:
        """Pass on an event of a refusal: a close before accept, or a part of an HTTP response."""
        raise NotImplementedError

    def write(self, block: Block) -> None:
        """Hand over messages without waiting. Only while `writable`."""
        raise NotImplementedError

    def shortcut(self) -> tuple[Transport, Deflate | None] | None:
        """The transport that frames may be written to directly, and their compression; ``None`` if the wire is needed.

        Only while `writable`, while the transport is not closing, and until `close`.
        """
        return None

    def send_at_once(self, message: Outgoing) -> bool:
        """Hand over one message of the handler; ``False`` if only `send` can tell the result. Only while `writable`.

        Raises:
            OSError: the peer has left.
        """
        return False

    async def send(self, message: Outgoing) -> None:
        """Hand over one message of the handler and wait for the result. Only while `writable`.

        Raises:
            OSError: the peer has left.
        """
        raise NotImplementedError

    def says_gone(self, error: Exception) -> bool:
        """Whether an error of this wire means that the peer has left; otherwise it comes from other code."""
        return isinstance(error, (OSError, RuntimeError))

    def leave_error_to_server(self) -> None:
        """Leave the close to the server, which gets the handler's error, where only the server can send that code."""

    def is_open(self) -> bool:
        """Whether a frame written now may still reach the peer."""
        return True

    def buffered(self) -> int:
        """Bytes handed over that have not left the process; 0 if the server does not report them."""
        return 0

    def ends_now(self) -> bool:
        """Whether the TCP connection ends in this turn of the event loop, whatever the peer does."""
        return self.lost

    def reading_paused(self) -> bool:
        """Whether the server has stopped reading the socket, so that silence proves nothing."""
        return False

    def peer_left(self) -> bool:
        """Whether the peer has ended its TCP connection although unread bytes remain; ``False`` if not known."""
        return False

    def partial(self) -> int:
        """A number that changes while an incomplete message arrives, which shows that the peer is alive."""
        return 0

    def unfinished(self) -> int:
        """Bytes held of an incomplete message; 0 if the server does not report them."""
        return self.partial()

    def server_closed(self) -> bool:
        """Whether the server sent the close frame by itself, for example because a message was too large."""
        return False

    def ping(self, payload: bytes) -> bool:
        """Send a WebSocket ping ahead of all waiting messages; ``False`` if the server cannot."""
        return False

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame after all written messages. A slow peer may block this for ever, so set a deadline."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the TCP connection at once, if the server allows it."""

    def abort_is_over(self) -> bool:
        """Whether the server has completed `abort`, so that it may be stopped."""
        return True

    def detach(self) -> None:
        """Drop all callbacks; only ``on_lost`` is still called."""
        self.on_writable = self.on_blocked = _nothing
        self.on_pong = self.on_failed = _ignore
        # Values that the application put into the context may refer back to this connection.
        self.context = None


async def tell_of_close(send: Send, code: int, reason: str) -> None:
    """Show observers a close whose frame is already out; an observer that fails or hangs delays nothing for long."""
    try:
        # The frame is out: waiting for an observer would only delay the end of the connection.
        with anyio.move_on_after(OBSERVING):
            await awaited(send({"type": "websocket.close", "code": code, "reason": reason}))
    except Exception:
        tell_of_failure()


def tell_of_failure() -> None:
    """Log the error of an observer of a close; at most a few a minute, because peers close as often as they like."""
    if _notices.may_tell("observer failed at a close"):
        logger.warning("! an observer failed at a close", exc_info=True)


_notices = Notices()
"""One for the whole process, because a wire has no manager."""


async def nothing_comes() -> Event:
    """The ``receive`` of a wire that has let go of its server."""
    raise ConnectionResetError("the connection is over")


async def nothing_goes(event: Event) -> None:
    """The ``send`` of a wire that has let go of its server."""
    raise ConnectionResetError("the connection is over")


def nothing_is_left() -> None:
    """Undo nothing: the change has already been undone."""


def _nothing() -> None:
    pass


def _ignore(told: object) -> None:
    pass


_lacking: set[str] = set()


def lacks(owner: object, names: Iterable[str], what: str) -> bool:
    """Whether a server's object lacks an attribute that we need; logs this once.

    Args:
        owner: the object.
        names: names of the needed attributes; ``a.b`` is an attribute of an attribute.
        what: what the object is, for the log.
    """
    missing = [name for name in names if not _has(owner, name)]
    line = f"! {what} has no {', '.join(missing)}: falling back to plain ASGI"
    # Every handshake on such a server comes here. The set stays small: names and objects are those of our own tables.
    if missing and line not in _lacking:
        _lacking.add(line)
        logger.warning(line)
    return bool(missing)


def owner_of(send: Any) -> Any:
    """The object whose method a server passes to the application as ``send``; ``None`` if it is not such a method.

    A proxy around a method (wrapt's, which instrumentation uses) exposes that method's owner as well, but is not part
    of the server.
    """
    # The common case first, by its exact type: nothing of the object itself is asked, so nothing can raise.
    if type(send) is MethodType:
        return send.__self__
    try:
        return None if hasattr(send, "__wrapped__") else getattr(send, "__self__", None)
    except Exception:
        # The object may be anyone's, and its attribute access may raise anything.
        return None


def _has(owner: object, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True
