"""Base: what every part of a peer may know, and what it may ask of the parts that are built on it.

The parts stand in one order: carrier, sender, heartbeat, receiver, closing. Each imports this file and those before
it. What one needs of those behind it is a Protocol here.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from ..close import Close
from ..config import WebSocketConfig
from ..config.marks import Watch
from ..core.lifecycle import Lifecycle
from ..levels import is_heard
from ..loop.tasks import current_loop
from ..types import Itself
from ..wording import as_in_url, cut, quoted

if TYPE_CHECKING:
    from ..errors import WebSocketStabilizerError
    from ..events import ConnectionClosed, Event
    from ..loop.members import MemberCarrier, MemberHeartbeat, MemberSender
    from ..loop.services import Services
    from ..types import Event as Message
    from ..wires.base import Wire

__all__ = ["CLOSE_TIMEOUT", "Owner", "PeerBase", "SecondLook"]

logger = logging.getLogger("wsstab")

CLOSE_TIMEOUT = 10.0
"""Seconds for a closing handshake; uvicorn and websockets wait as long."""


class Owner(Protocol):
    """What a peer asks of the hub that it belongs to.

    Four calls are the milestones of its life. Each comes once and in this order; only the last comes for a handshake
    that was never completed. A double, which has no ASGI call, is released as soon as it is closing.
    """

    def opened(self, peer: Any) -> None:
        """The handshake is complete: list it."""

    def closing(self, peer: Any) -> None:
        """No message reaches the peer any more: take it off the lists."""

    def closed(self, peer: Any) -> None:
        """The peer has closed, and its counters no longer change."""

    def released(self, peer: Any) -> None:
        """Its ASGI call has ended: its place is free as soon as its socket is gone."""

    def charge(self, peer: Any, delta: int) -> None:
        """Count memory: bytes more, or fewer."""

    def emit(self, event: Event) -> None:
        """Tell the subscribers."""

    def missed(self) -> None:
        """Count a message for a peer that had closed."""

    def promise(self, peer: Any, client_id: str) -> Close | None:
        """Note a name that the peer takes at accept, or say why it may not have it."""

    def warn_once(self, key: str, line: str, *args: object, by_peers: bool = False) -> None:
        """Log a warning the first time it is asked for."""

    def may_tell(self, kind: str, level: int = ...) -> bool:
        """Whether one more line of a kind that peers can cause may be logged now."""

    def observe(self, name: str, seconds: float) -> None:
        """Note a latency, if latencies are asked for."""

    async def enter(self, peer: Any, room: str) -> None:
        """Add to a room."""

    async def exit(self, peer: Any, room: str) -> None:
        """Remove from a room."""


class SecondLook(Watch, Protocol):
    """Asks the guards of the endpoint that a peer has reached, which may differ from those that let it in."""

    async def check(self) -> bool:
        """Whether all guards let the peer in; a peer that is refused has been answered."""


class Inbound(Protocol):
    """What other parts ask of the receiver; see `wsstab.connection.receiver.Receiver`."""

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""

    @property
    def full(self) -> bool:
        """Whether reading must pause."""

    def admit(self, event: Message) -> Message | None:
        """Check an event that the server read; ``None`` if the handler must not get it."""

    def keep(self, event: Message) -> None:
        """Put an admitted event where the handler will find it."""

    def look_behind(self) -> None:
        """Check whether the peer has left behind messages that are still unread."""

    def read_on(self) -> None:
        """Read some more messages although the inbox is full."""


class End(Protocol):
    """What other parts ask of the closing; see `wsstab.connection.closing.Closing`.

    Attributes:
        close: how the connection ends, once that is decided.
        event: the event that subscribers got, once the connection has closed.
        by_handler: whether the handler closed the connection by its own ``websocket.close``.
    """

    close: Close | None
    event: ConnectionClosed | None
    by_handler: bool

    def begin(
        self, close: Close, *, flush: bool = True, within: float = ..., error: WebSocketStabilizerError | None = None
    ) -> None:
        """Begin to close. Does nothing if a close has begun."""

    def abort(self, close: Close, error: WebSocketStabilizerError | None = None) -> None:
        """Abort the TCP connection, if the server allows it."""

    def learn(self, close: Close) -> None:
        """The server says that the peer is gone."""


class PeerBase(Itself):
    """What the parts of one peer share.

    Args:
        owner: the hub.
        services: the services of the event loop that runs its call.
        wire: the wire that carries its bytes.
        config: the configuration of its path.
        id: the connection id, unique in the process.
        path: path of the request, without query string.
        address: the address under which it is counted; ``None`` if it is not known.

    Attributes:
        client_id: the name that ``connect()`` or ``authorize`` gave it; the id until then.
        subprotocol: the subprotocol that was selected in the handshake.
        debug: whether lines about it at DEBUG are written; looked up once, because that takes longer than a message.
        foreign: whether it speaks Engine.IO, which selects no subprotocol but is one.
        lifecycle: the state of each direction.
        open: whether messages may be sent.
        started: when its call began, on the clock of the event loop.
        opened_at: when the handshake was complete, in seconds since 1970; 0 before.
        opened: the same in monotonic seconds.
        carrier: its socket.
        sender: its outbound side.
        heartbeat: whether it is still there.
        receiver: its inbound side.
        closing: how it ends.
    """

    __slots__ = (
        "address",
        "carrier",
        "client_id",
        "closing",
        "config",
        "debug",
        "foreign",
        "heartbeat",
        "id",
        "lifecycle",
        "loop",
        "open",
        "opened",
        "opened_at",
        "owner",
        "path",
        "receiver",
        "sender",
        "services",
        "started",
        "subprotocol",
        "wire",
    )

    carrier: MemberCarrier
    sender: MemberSender
    heartbeat: MemberHeartbeat
    receiver: Inbound
    closing: End

    def __init__(
        self,
        owner: Owner,
        services: Services,
        wire: Wire,
        config: WebSocketConfig,
        *,
        id: str,
        path: str = "",
        address: str | None = None,
    ) -> None:
        self.owner = owner
        self.services = services
        self.loop = services.loop
        self.wire = wire
        self.config = config
        self.id = self.client_id = id
        self.path = path
        self.address = address
        self.subprotocol: str | None = None
        self.debug = is_heard(logger, logging.DEBUG)
        self.lifecycle = Lifecycle()
        self.open = self.foreign = False
        self.started = services.loop.time()
        self.opened = monotonic()
        self.opened_at = 0.0

    def trace(self, line: str, *args: object) -> None:
        """Log a line at DEBUG; only where `debug` is set.

        Args:
            line: begins with a letter of the alphabet in `wsstab.exporters.logs`; who it is about follows it.
            args: of the line.
        """
        logger.debug(f"{line} %s", *args, self.log_name(), extra=self.log_fields())

    def charge(self, delta: int) -> None:
        """Count memory: bytes more, or fewer."""
        self.owner.charge(self, delta)

    def elsewhere(self) -> bool:
        """Whether the running code is not on the peer's own event loop."""
        try:
            return current_loop() is not self.loop
        except RuntimeError:
            return True

    def log_name(self) -> str:
        """What every sentence about it says: path, client id and address. Neither query string nor token, ever."""
        return f"{as_in_url(self.path)} {quoted(self.client_id)} {as_in_url(self.address)}"

    def log_fields(self) -> dict[str, Any]:
        """What every log line about it carries. Neither query string nor token, ever."""
        return {
            "connection_id": self.id,
            "client_id": cut(self.client_id),
            "path": cut(self.path),
            "address": self.address and cut(self.address),
        }
