"""Members: what the services of an event loop ask of the connections on it.

They are known only by these Protocols, so that a connection may be built upon the services, and not they upon it.
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
    """What bytes go through: the wire of a connection.

    Attributes:
        on_lost: called when it is gone.
        writable: whether it takes the next write at once.
    """

    on_lost: Callable[[], None]
    writable: bool

    def buffered(self) -> int:
        """Bytes that it has taken, and that have not left the process."""

    def ends_now(self) -> bool:
        """Whether it is gone, or will be in this turn of the event loop, whatever the peer does."""

    def abort(self) -> None:
        """Close it without a word."""


class Waiting(Sized, Protocol):
    """What waits for a peer.

    Attributes:
        dropped: how many messages were dropped.
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
        """Whose it is."""

    @property
    def queue(self) -> Waiting:
        """What the wire has not taken yet."""

    @property
    def crowded(self) -> bool:
        """Whether there is little room left."""

    @property
    def is_shut(self) -> bool:
        """Whether no message may be sent any more."""

    def put(self, message: Outgoing, key: Hashable = None) -> object:
        """Send or queue a message, when all broadcasts before it are written."""

    def write(self, block: Block) -> None:
        """Hand a block to the wire."""

    def shut(self) -> None:
        """Send no more."""

    def too_slow(self, within: float | None = None) -> None:
        """Close the connection of a peer that reads too slowly, or not at all."""

    def tell_slow(self) -> None:
        """Emit that the peer has fallen behind."""


class Inbound(Protocol):
    """The inbound side of a connection."""

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""

    @property
    def full(self) -> bool:
        """Whether reading must pause."""


class MemberHeartbeat(Protocol):
    """The heartbeat of a connection."""

    def sample(self) -> None:
        """Count what the transport holds."""


class Closing(Protocol):
    """The end of a connection."""

    @property
    def event(self) -> object | None:
        """What everyone was told, once it is over."""

    def begin(self, close: Close, *, flush: bool = True) -> None:
        """Begin to close."""


class MemberCarrier(Protocol):
    """What a connection is read through.

    Attributes:
        watched: whether somebody looks at whether it is read from.
        away_seen: whether nobody has read since the look before.
    """

    watched: bool
    away_seen: bool

    @property
    def peer(self) -> Member:
        """Whose it is."""

    @property
    def attended(self) -> bool:
        """Whether somebody reads, or has begun to."""

    def read_ahead(self) -> None:
        """Have a reader at work."""

    def look_behind(self) -> None:
        """See whether the peer is still there behind what is unread."""


class Member(Protocol):
    """A connection."""

    @property
    def open(self) -> bool:
        """Whether messages may be sent."""

    @property
    def config(self) -> WebSocketConfig:
        """Of its path."""

    @property
    def wire(self) -> Socket:
        """What its bytes go through."""

    @property
    def carrier(self) -> MemberCarrier:
        """What it is read through."""

    @property
    def sender(self) -> MemberSender:
        """Its outbound side."""

    @property
    def receiver(self) -> Inbound:
        """Its inbound side."""

    @property
    def heartbeat(self) -> MemberHeartbeat:
        """Whether its peer is there."""

    @property
    def closing(self) -> Closing:
        """How it ends."""

    def log_name(self) -> str:
        """What every sentence about it says."""

    def log_fields(self) -> dict[str, Any]:
        """What every log line about it carries."""
