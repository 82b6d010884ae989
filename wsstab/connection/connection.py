"""What a handler holds: one peer, whatever socket carries it at the moment.

A connection is made of its parts, one for each thing it does: it receives, it sends, it is asked
whether it is still there, it ends. The `Carrier` owns the socket; a plain connection has one carrier
in its life. What it is about, who it is and what it may do stands here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Generator, Hashable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from weakref import proxy

from ..close import Close, CloseCode, requested
from ..config import WebSocketConfig
from ..config.marks import Watch
from ..core.frames import Outgoing
from ..core.lifecycle import Lifecycle
from ..errors import PeerGoneError
from ..events import ConnectionClosed
from ..events import Event as LifeEvent
from ..levels import is_heard
from ..loop.tasks import current_loop
from ..payload import Payload, encode
from ..reports import ConnectionStatistics
from ..types import Itself
from ..wording import as_in_url, cut, quoted
from .application import Application, current_connection
from .closing import Ending
from .heartbeat import Heartbeat, deadlines_for
from .receiver import Receiver
from .sender import Delivery, Sender
from .userdata import UserData

if TYPE_CHECKING:
    from ..loop.services import Services
    from .carrier import Carrier

__all__ = ["Connection", "Owner", "current_connection"]

logger = logging.getLogger("wsstab")

LONGEST_PHASE = 0.5
"""Seconds over which the first pings of one moment are spread."""
NO_DATA: Mapping[str, Any] = UserData()


class Owner(Protocol):
    """What a connection asks of its manager."""

    def charge(self, connection: Connection, delta: int) -> None:
        """Count memory."""

    def emit(self, event: LifeEvent) -> None:
        """Tell the subscribers."""

    def accepted(self, connection: Connection) -> None:
        """The handshake is complete: list it."""

    def forget(self, connection: Connection) -> None:
        """It is closing or gone: list it no more. Synchronous and idempotent."""

    def account(self, connection: Connection) -> None:
        """It is over: its counters change no more."""

    def missed(self) -> None:
        """A message came for a connection that was over."""

    def promise(self, connection: Connection, client_id: str) -> Close | None:
        """Give it this name for accept, or say why not."""

    def warn_once(self, key: str, line: str, *args: object, by_peers: bool = False) -> None:
        """Log a warning the first time it is asked for."""

    def may_tell(self, kind: str, level: int = ...) -> bool:
        """Whether one more line of a kind that peers can cause may be logged now."""

    def observe(self, name: str, seconds: float) -> None:
        """Note a latency, if latencies are asked for."""

    async def enter(self, connection: Connection, room: str) -> None:
        """Add to a room."""

    async def exit(self, connection: Connection, room: str) -> None:
        """Remove from a room."""


class SecondLook(Watch, Protocol):
    """Whether the endpoint that a connection has reached has the guards that it came by."""

    async def check(self) -> bool:
        """Whether all guards let it in; who is refused has had an answer."""


class Closed:
    """Awaits the end of a connection; see `Connection.closed`."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __await__(self) -> Generator[Any, Any, ConnectionClosed]:
        ending = self._connection.ending
        yield from ending.latch.wait().__await__()
        assert ending.event is not None
        if current_connection.get() is self._connection:
            self._connection.application.end_told = True
        return ending.event


class Connection(Itself):
    """One WebSocket peer.

    Made by the middleware, or by ``manager.connect()`` where there is none; handlers find theirs at
    ``websocket.state.connection``.

    Attributes:
        id: unique in the process.
        client_id: the name ``connect()`` or ``authorize`` gave it; the id until then, and until it is accepted.
        path: path of the request, without query string.
        address: the peer's, behind trusted proxies the forwarded one; ``None`` where it is not known.
        metadata: what was passed to ``connect()``.
        subprotocol: the one that was selected in the handshake.
        opened_at: when the handshake was complete, in seconds since 1970.
    """

    __slots__ = (
        "__weakref__",
        "accepts_broadcasts",
        "address",
        "application",
        "carrier",
        "chosen_id",
        "client_id",
        "config",
        "counted",
        "data",
        "ending",
        "foreign",
        "heartbeat",
        "id",
        "identified",
        "lifecycle",
        "loop",
        "memory",
        "metadata",
        "named",
        "open",
        "opened",
        "opened_at",
        "owner",
        "path",
        "receiver",
        "rooms_joined",
        "second_look",
        "sender",
        "services",
        "shard",
        "started",
        "subprotocol",
        "wire",
    )

    def __init__(
        self,
        owner: Owner,
        services: Services,
        carrier: Carrier,
        config: WebSocketConfig,
        *,
        id: str,
        path: str = "",
        address: str | None = None,
        error_promised: bool = True,
    ) -> None:
        self.owner = owner
        self.services = services
        self.loop = services.loop
        self.carrier = carrier
        self.wire = carrier.wire
        self.config = config
        self.id = self.client_id = id
        self.path = path
        self.address = address
        self.metadata: dict[str, Any] = {}
        self.subprotocol: str | None = None
        self.chosen_id: str | None = None
        self.second_look: SecondLook | None = None
        self.lifecycle = Lifecycle()
        self.open = self.named = self.foreign = self.counted = False
        self.accepts_broadcasts = config.broadcast
        self.started = services.loop.time()
        self.opened = self.identified = monotonic()
        self.opened_at = 0.0
        # Written by the registry, the ledger and the manager, which say what they mean.
        self.rooms_joined: set[str] | None = None
        self.shard = self.memory = 0
        self.data: UserData | None = None
        self.ending = Ending(self)
        self.heartbeat = self.make_heartbeat()
        self.receiver = Receiver(self)
        self.sender = Sender(self)
        self.application = Application(self, error_promised)
        carrier.connection = self

    def __repr__(self) -> str:
        outbound = self.lifecycle.outbound.name.lower()
        return f"<Connection {self.client_id} [{self.path} | {len(self.sender.queue)} queued | {outbound}]>"

    # What users call.

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in."""
        return frozenset(self.rooms_joined or ())

    @property
    def user_data(self) -> Mapping[str, Any]:
        """What ``set_user_data()`` put here; a read-only view."""
        return self.data if self.data is not None else NO_DATA

    @property
    def closed(self) -> Awaitable[ConnectionClosed]:
        """Awaits the end and gives the `ConnectionClosed` event; any number of times, on any loop."""
        return Closed(self)

    @property
    def latency(self) -> float | None:
        """Seconds between the last ping and its pong, ``None`` before the first."""
        return self.heartbeat.latency

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop: finish what you are doing."""
        return self.services.draining

    @property
    def last_traffic(self) -> float:
        """When an application message last passed, in monotonic seconds."""
        return self.sender.passed_at

    @property
    def last_activity(self) -> float:
        """When an application message last passed, in seconds since 1970; exact to a tenth of a second."""
        idle = self.services.timekeeper.now - self.sender.data_at
        return max(self.opened_at, time.time() - max(idle, 0.0)) if self.opened_at else 0.0

    async def send(self, message: Payload, key: Hashable = None) -> bool:
        """Send one message.

        From the connection's own handler it waits for room, as ``websocket.send_text`` does; from
        anywhere else it is paced for 0.5 s at most while the queue is over three quarters full.

        Args:
            message: ``str`` and ``bytes`` as they are; ``dict``, ``list`` and pydantic models as JSON text.
            key: under the policy ``latest``, replaces an unsent message of the same key.

        Returns:
            Whether it was handed over or queued.

        Raises:
            TypeError: not a message, or ``key`` is not hashable.
        """
        hash(key)
        outgoing = Outgoing(encode(message))
        if current_loop() is not self.loop:
            return self.open and self.loop.call_from_thread(self.deliver, outgoing, key)
        if current_connection.get() is self:
            return await self._send_own(outgoing, key)
        delivery = self.sender.deliver(outgoing, key)
        if self.sender.crowded:
            await self.services.backpressure.pace([self])
        return delivery in (Delivery.SENT, Delivery.QUEUED)

    async def _send_own(self, message: Outgoing, key: Hashable) -> bool:
        try:
            await self.sender.send(message, key)
        except (PeerGoneError, RuntimeError):
            return False
        return True

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close it, after all that was sent before. Once it is closing, nothing happens.

        Args:
            code: close code; what may not travel is replaced by the nearest that may (RFC 6455 section 7.4).
            reason: cut to 123 bytes of UTF-8.
        """
        self.ending.begin(requested(code, reason))
        await self.ending.latch.wait()

    async def join(self, room: str) -> None:
        """Enter a room; being in it already is fine. Before accept, it gets nothing until it is accepted."""
        await self.owner.enter(self, room)

    async def leave(self, room: str) -> None:
        """Leave a room; not being in it is fine."""
        await self.owner.exit(self, room)

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of its counters."""
        return ConnectionStatistics(
            messages_received=self.receiver.messages,
            bytes_received=self.receiver.bytes,
            messages_sent=self.sender.messages,
            bytes_sent=self.sender.bytes,
            queued_messages=len(self.sender.queue),
            queued_bytes=self.sender.queue.bytes,
            unread_messages=len(self.receiver.inbox),
            unread_bytes=self.receiver.inbox.bytes,
            dropped_outbound=self.sender.queue.dropped,
            dropped_inbound=self.receiver.dropped,
            memory=self.memory,
            latency=self.latency,
        )

    # What its parts ask of it.

    def make_heartbeat(self) -> Heartbeat:
        """The heartbeat of this kind of connection."""
        return Heartbeat(self, deadlines_for(self.config, self.wire, self.services.timekeeper.now))

    def opens(self) -> None:
        """The handshake is complete."""
        self.open = True
        self.opened_at = time.time()
        self.opened = self.identified = monotonic()
        self.sender.open()
        self.heartbeat.deadlines.opened(self.services.timekeeper.now)
        self.heartbeat.deadlines.heard_at += self._phase()
        if self.subprotocol is not None or self.foreign:
            # It speaks a protocol of its own: nothing of ours may land in it unasked.
            self.accepts_broadcasts = False
            self.heartbeat.keep_out()
        self.heartbeat.schedule()
        self.owner.accepted(self)
        self.carrier.opened()
        if is_heard(logger, logging.INFO):
            logger.info("= opened %s", self.log_name(), extra=self.log_fields())

    def shut(self) -> None:
        """No message may be sent any more."""
        self.open = False
        self.sender.shut()

    def charge(self, delta: int) -> None:
        """Count memory: bytes more, or fewer."""
        self.owner.charge(self, delta)

    def deliver(self, message: Outgoing, key: Hashable) -> Delivery:
        """Hand over or queue a message; only on its own loop."""
        return self.sender.deliver(message, key)

    def let_go(self) -> None:
        """Its ASGI call is over: from now on its parts refer to it weakly, and whoever uses it holds it.

        It and they would be a cycle, which only the garbage collector frees: much later, and with the loop standing.
        """
        self.second_look = None
        weak: Connection = proxy(self)
        for part in (self.ending, self.heartbeat, self.receiver, self.sender, self.application, self.carrier):
            part.connection = weak

    def _phase(self) -> float:
        """Seconds by which the shard delays the first ping: what opened together must not beat together."""
        return self.shard / self.config.num_shards * min(LONGEST_PHASE, self.config.heartbeat_interval / 20)

    def elsewhere(self) -> bool:
        """Whether the running code is not on the connection's own event loop."""
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
