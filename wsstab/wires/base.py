"""What a wire is: how bytes reach one peer.

ASGI has no ping, no buffer size and no abort. A wire offers what its server really has and says
what it has not; nothing above it asks which server this is.

A wire is written to only while `Wire.writable`; it says through ``on_blocked`` when that ends and
through ``on_writable`` when it returns. What waits meanwhile stays in the connection's queue,
where it can still be dropped, conflated or kept for a replay.
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
"""Seconds that an observer may take to see a close."""


class Wire:
    """How bytes reach one peer.

    Attributes:
        writable: whether the next write is taken at once.
        traits: what the server behind it can and cannot do.
        readable: whether what the peer sends comes by here.
        passes_others: whether what is sent may pass somebody between the server and us.
        context: of the ASGI call; what is done for this connection alone runs in a copy of it. ``None`` at the end.
        compress_from: bytes from which messages to the peer are compressed, where that was negotiated; ``None``: never.
        lost: whether the TCP connection is known to have ended.
        server_ping_interval: seconds between the server's own pings, which this wire has taken over.
        on_writable: called when the wire takes data again.
        on_blocked: called when it does not any more.
        on_pong: called with the payload of each pong.
        on_lost: called when the TCP connection has ended.
        on_failed: called with an error that somebody between the server and us raised for a message of others.
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
        # A wire is made by the call, before anything of ours is in its context: that would be a cycle.
        self.context: Context | None = copy_context()
        self.compress_from: int | None = None
        self.lost = False
        self.server_ping_interval: float | None = None
        self.on_writable: Callable[[], None] = _nothing
        self.on_blocked: Callable[[], None] = _nothing
        self.on_pong: Callable[[bytes], None] = _ignore
        self.on_lost: Callable[[], None] = _nothing
        self.on_failed: Callable[[Exception], None] = _ignore

    # Before and at the handshake.

    def peer_address(self) -> str | None:
        """The other end of the TCP connection, which proxy headers may hide from the scope; ``None`` if not known."""
        return None

    def announce_to(self, send: Send) -> None:
        """Have the handshake, a refusal and the close pass by observers that stand around the server; only at first.

        Args:
            send: the outermost of them.
        """

    def take_over_keepalive(self) -> None:
        """Keep the server from pinging by itself, where it does."""

    def limit_message_size(self, limit: int) -> int | None:
        """Let the server itself refuse larger messages, before they are in memory, where it can be told.

        Returns:
            The server's own limit where it is smaller, in bytes.
        """
        largest = self.traits.largest_message
        return largest if largest is not None and largest < limit else None

    def refuse_compression(self) -> bool:
        """Negotiate no permessage-deflate; ``False`` where that cannot be done."""
        return False

    def refuse_context_takeover(self) -> bool:
        """Negotiate it so that neither side keeps its window between messages; ``False`` where that cannot be done.

        An idle connection then has neither compressor nor inflater. A server may ask for it unasked
        (RFC 7692 sections 7.1.1.1 and 7.1.1.2).
        """
        return False

    def deflate(self, window_bits: int) -> Deflate | None:
        """How messages to this peer are compressed.

        Args:
            window_bits: what was negotiated, 0 for no compression.
        """
        # zlib has no window of 8 bits; such a peer gets its messages uncompressed.
        if self.compress_from is None or window_bits < 9:
            return None
        return Deflate(window_bits, self.compress_from)

    # After it.

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
        """Hand over messages; does not wait. Only while `writable`."""
        raise NotImplementedError

    def shortcut(self) -> tuple[Transport, Deflate | None] | None:
        """Where frames may be written past this wire, and how they are compressed; ``None`` where it must be asked.

        Only while `writable`, while the transport is not closing, and until `close`.
        """
        return None

    def send_at_once(self, message: Outgoing) -> bool:
        """Hand over one message of the handler's own; ``False`` where one must wait to know. Only while `writable`.

        Raises:
            OSError: the peer has left.
        """
        return False

    async def send(self, message: Outgoing) -> None:
        """Hand over one message of the handler's own, and wait to know. Only while `writable`.

        Raises:
            OSError: the peer has left.
        """
        raise NotImplementedError

    def says_gone(self, error: Exception) -> bool:
        """Whether the server says by an error of this wire that the peer has left; else it is somebody else's error."""
        return isinstance(error, (OSError, RuntimeError))

    def leave_error_to_server(self) -> None:
        """The server is about to get the error of a handler, and closes by itself where it lets nobody else say so."""

    def is_open(self) -> bool:
        """Whether a frame written now may still reach the peer."""
        return True

    def buffered(self) -> int:
        """Bytes handed over that have not left the process; 0 where the server does not tell."""
        return 0

    def ends_now(self) -> bool:
        """Whether the TCP connection ends in this turn of the event loop, whatever the peer does."""
        return self.lost

    def reading_paused(self) -> bool:
        """Whether the server has stopped reading the socket, so that silence proves nothing."""
        return False

    def peer_left(self) -> bool:
        """Whether the peer has ended its TCP connection behind bytes that nobody has read; ``False`` if not known."""
        return False

    def partial(self) -> int:
        """A number that changes while a message arrives that is not complete: a sign of life."""
        return 0

    def unfinished(self) -> int:
        """Bytes that are held of a message that is not complete; 0 where the server does not tell."""
        return self.partial()

    def server_closed(self) -> bool:
        """Whether the server sent the close frame by itself, as for a message that it found too large."""
        return False

    def ping(self, payload: bytes) -> bool:
        """Send a WebSocket ping ahead of all that waits; ``False`` where the server cannot."""
        return False

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame after all that was written. May take as long as the peer likes: set a deadline."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the TCP connection at once, where the server lets us."""

    def abort_is_over(self) -> bool:
        """Whether the server has done what `abort` asked for, so that it may be stopped."""
        return True

    def detach(self) -> None:
        """Nobody listens any more; only ``on_lost`` is still called."""
        self.on_writable = self.on_blocked = _nothing
        self.on_pong = self.on_failed = _ignore
        # What the application put there may refer to all of this.
        self.context = None


async def tell_of_close(send: Send, code: int, reason: str) -> None:
    """Let observers see a close whose frame is out already; one that fails or hangs holds nothing up."""
    try:
        with anyio.move_on_after(OBSERVING):
            await awaited(send({"type": "websocket.close", "code": code, "reason": reason}))
    except Exception:
        tell_of_failure()


def tell_of_failure() -> None:
    """Log the error that an observer of a close has raised; a few in a minute, because peers close as they like."""
    if _notices.may_tell("a close was observed in vain"):
        logger.warning("! what stands around the server failed at a close", exc_info=True)


_notices = Notices()
"""Of the process: a wire has no manager."""


async def nothing_comes() -> Event:
    """The ``receive`` of a wire that has let go of its server."""
    raise ConnectionResetError("the connection is over")


async def nothing_goes(event: Event) -> None:
    """Its ``send``."""
    raise ConnectionResetError("the connection is over")


def nothing_is_left() -> None:
    """What it would take back is taken back."""


def _nothing() -> None:
    pass


def _ignore(told: object) -> None:
    pass


_lacking: set[str] = set()


def lacks(owner: object, names: Iterable[str], what: str) -> bool:
    """Whether a server's object lacks something that is needed of it, which is logged once.

    Args:
        owner: the object.
        names: of its attributes; ``a.b`` is an attribute of an attribute.
        what: what the object is, for the log.
    """
    missing = [name for name in names if not _has(owner, name)]
    line = f"! {what} has no {', '.join(missing)}: falling back to plain ASGI"
    if missing and line not in _lacking:
        _lacking.add(line)
        logger.warning(line)
    return bool(missing)


def owner_of(send: Any) -> Any:
    """The object whose method a server passes to the application as ``send``; ``None`` for what is no such method.

    A proxy around a method (of wrapt, as instrumentation uses it) shows that method's owner as well, and is no part
    of the server.
    """
    if type(send) is MethodType:
        return send.__self__
    try:
        return None if hasattr(send, "__wrapped__") else getattr(send, "__self__", None)
    except Exception:
        # Somebody's own attribute access, whatever it raises.
        return None


def _has(owner: object, name: str) -> bool:
    for part in name.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True
