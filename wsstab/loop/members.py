"""Members: what the services of an event loop require of its connections.

The services know connections only by these Protocols, so that connections depend on the services, never the reverse.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sized
from typing import Any, Protocol

from ..close import Close
from ..config import WebSocketConfig
from ..core.frames import Block, Deflate, Outgoing
from ..types import Transport

__all__ = ["Member", "MemberCarrier", "MemberHeartbeat", "MemberSender", "Socket"]


class Socket(Protocol):
    """The wire of a connection, which carries its bytes.

    Attributes:
        on_lost: called when the TCP connection is gone.
        writable: whether the wire takes the next write at once.
    """

    on_lost: Callable[[], None]
    writable: bool

    def buffered(self) -> int:
        """Bytes that the wire has taken and that have not left the process."""

    def ends_now(self) -> bool:
        """Whether the TCP connection has ended, or ends in this turn of the event loop, whatever the peer does."""

    def abort(self) -> None:
        """End the TCP connection without a close frame."""


class Waiting(Sized, Protocol):
    """The queue of messages for one peer.

    Attributes:
        dropped: number of messages dropped so far.
    """

    dropped: int


class MemberSender(Protocol):
    """The outbound side of a connection; `wsstab.connection.sender.Sender` says what its attributes mean."""

    ready: bool
    cursor: int
    messages: int
    bytes: int
    data_at: float
    passed_at: float
    transport: Transport | None
    deflates: Deflate | None

    @property
    def peer(self) -> Member:
        """The connection it belongs to."""

    @property
    def queue(self) -> Waiting:
        """Messages that the wire has not taken yet."""

    @property
    def crowded(self) -> bool:
        """Whether the queue has little room left."""

    @property
    def is_shut(self) -> bool:
        """Whether messages may no longer be sent."""

    def put(self, message: Outgoing, key: Hashable = None) -> object:
        """Send or queue a message after all earlier broadcasts have been written."""

    def write(self, block: Block) -> None:
        """Hand a block to the wire."""

    def shut(self) -> None:
        """Stop sending."""

    def too_slow(self, within: float | None = None) -> None:
        """Close the connection of a peer that reads too slowly, or not at all."""

    def tell_slow(self) -> None:
        """Report that the peer has fallen behind."""


class Inbound(Protocol):
    """The inbound side of a connection."""

    @property
    def over(self) -> bool:
        """Whether no more messages will arrive."""

    @property
    def full(self) -> bool:
        """Whether reading must pause."""


class MemberHeartbeat(Protocol):
    """The heartbeat of a connection."""

    def sample(self) -> None:
        """Check how much the transport holds."""


class Closing(Protocol):
    """The end of a connection."""

    @property
    def event(self) -> object | None:
        """The final event of the connection, once it is over; ``None`` before."""

    def begin(self, close: Close, *, flush: bool = True) -> None:
        """Start closing the connection."""


class MemberCarrier(Protocol):
    """The reading side of a connection: it carries events from the server.

    Attributes:
        watched: whether the read-ahead service watches this carrier.
        away_seen: whether the previous check already found that nobody reads.
    """

    watched: bool
    away_seen: bool

    @property
    def peer(self) -> Member:
        """The connection it belongs to."""

    @property
    def attended(self) -> bool:
        """Whether a reader is at work or starting."""

    def read_ahead(self) -> None:
        """Start a reader."""

    def look_behind(self) -> None:
        """Check whether the peer has left behind messages that are still unread."""


class Member(Protocol):
    """A connection, as the services of its event loop see it."""

    @property
    def open(self) -> bool:
        """Whether messages may be sent."""

    @property
    def config(self) -> WebSocketConfig:
        """The configuration for its path."""

    @property
    def wire(self) -> Socket:
        """The wire that carries its bytes."""

    @property
    def carrier(self) -> MemberCarrier:
        """The carrier that reads its events."""

    @property
    def sender(self) -> MemberSender:
        """Its outbound side."""

    @property
    def receiver(self) -> Inbound:
        """Its inbound side."""

    @property
    def heartbeat(self) -> MemberHeartbeat:
        """The heartbeat that checks whether the peer is alive."""

    @property
    def closing(self) -> Closing:
        """The part that closes the connection."""

    def log_name(self) -> str:
        """The name of the connection in log messages."""

    def log_fields(self) -> dict[str, Any]:
        """The structured fields of every log line about the connection."""
