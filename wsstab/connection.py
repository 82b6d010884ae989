"""What a handler holds: one peer, whatever socket carries it at the moment.

A connection owns the two queues, the counters and the deadlines of its peer, and the calls of its
handler; the `Carrier` owns the socket. A plain connection has one carrier in its life.

One owner for each direction: all that is sent (the handler's own messages, broadcasts, closes)
takes the same way out, in the order of the calls; all that arrives is admitted here first.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Generator, Hashable, Mapping
from contextvars import ContextVar
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.lowlevel

from .close import (
    CANCELLED,
    DRAINING,
    HEARTBEAT_TIMEOUT,
    IDLE,
    MESSAGE_TOO_BIG,
    NOT_ACCEPTED,
    RATE_LIMITED,
    SLOW_CONSUMER,
    TOO_OLD,
    Cause,
    Close,
    CloseCode,
)
from .config import WebSocketConfig
from .core.deadlines import Action
from .core.inbox import Inbox
from .core.lifecycle import Event as Happening
from .core.lifecycle import InboundState, Lifecycle, OutboundState
from .core.limits import RateLimiter
from .core.queue import OutboundQueue, Verdict
from .errors import ConnectionTimeoutError, PeerGoneError, WebSocketStabilizerError
from .events import ConnectionClosed, HeartbeatMissed, LimitHit, SlowConsumer
from .events import Event as LifeEvent
from .options import HeartbeatType, SlowConsumerPolicy
from .payload import Outgoing, Payload, encode
from .reports import ConnectionStatistics
from .tasks import Latch, current_loop
from .types import Event
from .userdata import UserData
from .wires.base import Block

if TYPE_CHECKING:
    from .carrier import Carrier
    from .services import Services
    from .timekeeper import Deadline

__all__ = ["Connection", "Delivery", "current_connection"]

logger = logging.getLogger("wsstab")

current_connection: ContextVar[Connection | None] = ContextVar("wsstab_connection", default=None)
"""The connection whose handler runs this code."""

FLUSH_BYTES = 65536
"""Bytes handed to a wire at a time: what it holds can no longer be dropped, and delays a ping."""
CLOSE_TIMEOUT = 10.0
"""Seconds for a closing handshake; uvicorn and websockets wait as long."""
LEARN_TIMEOUT = 1.0
"""Seconds in which the server tells how a peer left that a send found gone."""
CHECKPOINT_EVERY = 64
"""Sends without suspension after which a handler lets others run: on most servers a send never suspends."""


class Delivery(Enum):
    """What became of a message for one peer."""

    SENT = "sent"
    QUEUED = "queued"
    DROPPED = "dropped"
    CLOSED = "closed"
    """The peer was too slow, and its policy closed it."""
    GONE = "gone"


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

    def observe(self, name: str, seconds: float) -> None:
        """Note a latency, if latencies are asked for."""

    async def send_to(self, connection: Connection, message: Payload, key: Hashable) -> bool:
        """Send one message."""

    async def enter(self, connection: Connection, room: str) -> None:
        """Add to a room."""

    async def exit(self, connection: Connection, room: str) -> None:
        """Remove from a room."""


class Closed:
    """Awaits the end of a connection; see `Connection.closed`."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __await__(self) -> Generator[Any, Any, ConnectionClosed]:
        yield from self._connection.latch.wait().__await__()
        assert self._connection.ended is not None
        return self._connection.ended


class Connection:
    """One WebSocket peer.

    Made by the middleware, or by ``manager.connect()`` where there is none; handlers find theirs at
    ``websocket.state.connection``.

    Attributes:
        id: unique in the process.
        client_id: the name ``connect()`` or ``authorize`` gave it, the id until then.
        path: path of the request, without query string.
        address: the peer's, behind trusted proxies the forwarded one; ``None`` where it is not known.
        metadata: what was passed to ``connect()``.
        subprotocol: the one that was selected in the handshake.
        opened_at: when the handshake was complete, in seconds since 1970.
        latency: seconds between the last ping and its pong, ``None`` before the first.
    """

    __slots__ = (
        "__weakref__",
        "_deadline",
        "_delay",
        "_heartbeat_message",
        "_limiter",
        "_max_message_size",
        "_ping_id",
        "_ping_sent",
        "_room",
        "_sampled",
        "_streak",
        "accepts_broadcasts",
        "address",
        "authorized_id",
        "bytes_received",
        "bytes_sent",
        "carrier",
        "client_id",
        "config",
        "counted",
        "cursor",
        "cut",
        "data",
        "deadlines",
        "dropped_inbound",
        "ended",
        "ending",
        "error",
        "ever_answered",
        "foreign",
        "gone",
        "handler_reads",
        "id",
        "identified",
        "inbox",
        "last_traffic",
        "latch",
        "latency",
        "lifecycle",
        "loop",
        "memory",
        "messages_received",
        "messages_sent",
        "metadata",
        "named",
        "open",
        "opened",
        "opened_at",
        "owner",
        "path",
        "queue",
        "rooms_joined",
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
    ) -> None:
        now = services.timekeeper.now
        self.owner = owner
        self.services = services
        self.loop = services.loop
        self.carrier = carrier
        self.wire = carrier.wire
        self.config = config
        self.id = self.client_id = id
        self.path = path
        self.address = address
        self.shard = 0
        self.metadata: dict[str, Any] = {}
        self.data: UserData | None = None
        self.subprotocol: str | None = None
        self.accepts_broadcasts = config.broadcast
        self.named = False
        self.foreign = self.gone = False
        self.counted = False
        self.authorized_id: str | None = None
        self.rooms_joined: set[str] | None = None
        self.lifecycle = Lifecycle()
        self.open = False
        self.started = services.loop.time()
        self.opened = self.identified = now
        self.opened_at = 0.0
        self.last_traffic = monotonic()
        self.latency: float | None = None
        self.inbox: Inbox[Event] = Inbox(config.inbound.max_messages, config.inbound.max_bytes)
        outbound = config.outbound
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(
            outbound.max_bytes, outbound.max_messages, outbound.policy.value
        )
        self.cursor = 0
        self.messages_received = self.bytes_received = self.messages_sent = self.bytes_sent = 0
        self.dropped_inbound = 0
        self.memory = self._sampled = 0
        self.handler_reads = False
        self.ever_answered = False
        self.cut = False
        self.ending: Close | None = None
        self.ended: ConnectionClosed | None = None
        self.error: WebSocketStabilizerError | None = None
        self.latch = Latch()
        self.deadlines = services.deadlines_for(config, self.wire)
        self._deadline: Deadline | None = None
        self._delay = 0.0
        self._heartbeat_message = custom_heartbeat(config)
        self._limiter = rate_limiter(config)
        self._max_message_size = config.max_message_size
        self._ping_id = 0
        self._ping_sent = 0.0
        self._room: anyio.Event | None = None
        self._streak = 0
        carrier.connection = self
        self.wire.on_blocked = self._fell_behind
        self.wire.on_writable = self.flush
        self.wire.on_pong = self.pong

    def __repr__(self) -> str:
        outbound = self.lifecycle.outbound.name.lower()
        return f"<Connection {self.client_id} [{self.path} | {len(self.queue)} queued | {outbound}]>"

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
    def closed(self) -> Closed:
        """Awaits the end and gives the `ConnectionClosed` event; any number of times, on any loop."""
        return Closed(self)

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop: finish what you are doing."""
        return self.services.draining

    @property
    def last_activity(self) -> float:
        """When an application message last passed, in seconds since 1970; exact to a tenth of a second."""
        idle = self.services.timekeeper.now - self.deadlines.data_at
        return max(self.opened_at, time.time() - max(idle, 0.0)) if self.opened_at else 0.0

    async def send(self, message: Payload, key: Hashable = None) -> bool:
        """Send one message.

        From the connection's own handler it waits for room, as ``websocket.send_text`` does; from
        anywhere else it never waits for a slow peer, whose policy decides.

        Args:
            message: ``str`` and ``bytes`` as they are; ``dict``, ``list`` and pydantic models as JSON text.
            key: under the policy ``latest``, replaces an unsent message of the same key.

        Returns:
            Whether it was handed over or queued.

        Raises:
            TypeError: not a message.
        """
        return await self.owner.send_to(self, message, key)

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close it, after all that was sent before. Once it is closing, nothing happens.

        Args:
            code: close code; what may not travel is replaced by the nearest that may (RFC 6455 section 7.4).
            reason: cut to 123 bytes of UTF-8.
        """
        self.begin_close(Close(code, reason, Cause.APPLICATION))
        await self.latch.wait()

    async def join(self, room: str) -> None:
        """Enter a room; being in it already is fine."""
        await self.owner.enter(self, room)

    async def leave(self, room: str) -> None:
        """Leave a room; not being in it is fine."""
        await self.owner.exit(self, room)

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of its counters."""
        return ConnectionStatistics(
            messages_received=self.messages_received,
            bytes_received=self.bytes_received,
            messages_sent=self.messages_sent,
            bytes_sent=self.bytes_sent,
            queued_messages=len(self.queue),
            queued_bytes=self.queue.bytes,
            unread_messages=len(self.inbox),
            unread_bytes=self.inbox.bytes,
            dropped_outbound=self.queue.dropped,
            dropped_inbound=self.dropped_inbound,
            memory=self.memory,
            latency=self.latency,
        )

    # In: what the server gives, on its way to the handler.

    async def receive(self) -> Event:
        """The ASGI ``receive`` of the handler."""
        inbound = self.lifecycle.inbound
        if inbound is InboundState.ENDED:
            raise RuntimeError('Cannot call "receive" once a disconnect message has been received.')
        self.handler_reads = inbound is InboundState.OPEN
        self._streak = 0
        while True:
            event = self._take() if self.inbox else await self.carrier.receive()
            if event is not None:
                kind = event["type"]
                if kind != "websocket.receive":
                    self.lifecycle.fire(HAPPENINGS[kind])
                return event

    @property
    def inbound_over(self) -> bool:
        """Whether nothing more will arrive for the handler."""
        return self.ended is not None or self.lifecycle.inbound is InboundState.ENDED

    @property
    def inbox_full(self) -> bool:
        """Whether reading must pause; it never does for a handler that never reads."""
        return self.handler_reads and self.inbox.full

    @property
    def delay(self) -> float:
        """Seconds that the rate limit holds up the message that was just admitted."""
        return self._delay

    def take_delay(self) -> float:
        """`delay`, once."""
        delay, self._delay = self._delay, 0.0
        return delay

    def admit(self, event: Event) -> Event | None:
        """Look at what the server read; ``None`` for what is not the handler's business."""
        if event["type"] != "websocket.receive":
            return self._admit_disconnect(event) if event["type"] == "websocket.disconnect" else event
        if self.ending is not None:
            return None
        deadlines = self.deadlines
        deadlines.heard_at = deadlines.data_at = self.services.timekeeper.now
        self.last_traffic = monotonic()
        size = payload_size(event)
        if self._max_message_size is not None and size > self._max_message_size:
            self._limit_hit("max_message_size", MESSAGE_TOO_BIG)
            return None
        if self._heartbeat_message is not None and is_pong(event):
            self.pong(b"")
            return None
        self.messages_received += 1
        self.bytes_received += size
        if self._limiter is not None and not self._within_rate(self._limiter, size):
            return None
        return event

    def keep(self, event: Event) -> None:
        """Put an admitted event where the handler will find it."""
        size = payload_size(event)
        self.inbox.put(event, size)
        self.owner.charge(self, size)
        if self.inbox.full and not self.handler_reads and len(self.inbox) > 1:
            self.owner.charge(self, -self.inbox.drop_oldest())
            self.dropped_inbound += 1

    def _take(self) -> Event:
        event, size = self.inbox.take()
        self.owner.charge(self, -size)
        self.carrier.made_room()
        return event

    def _admit_disconnect(self, event: Event) -> Event:
        if self.ending is None:
            close = close_of(event)
            self.ending = close
            self.open = False
            self._end(close)
        return self._disconnect_event()

    def _disconnect_event(self) -> Event:
        assert self.ending is not None
        return {"type": "websocket.disconnect", "code": int(self.ending.code), "reason": self.ending.reason}

    def _within_rate(self, limiter: RateLimiter, size: int) -> bool:
        assert self.config.rate_limit is not None
        action = self.config.rate_limit.action
        wait = limiter.check(size, self.loop.time(), force=action == "delay")
        if wait == 0.0:
            return True
        if action == "delay":
            self._delay = wait
            return True
        if action == "close":
            self._limit_hit("rate_limit", RATE_LIMITED)
        else:
            self.dropped_inbound += 1
        return False

    def _limit_hit(self, limit: str, close: Close) -> None:
        self.owner.emit(LimitHit(limit, self.address, self.path))
        self.begin_close(close)

    # Out: what the handler sends.

    async def send_event(self, event: Event) -> None:
        """The ASGI ``send`` of the handler.

        Raises:
            PeerGoneError: the peer has left, or the connection was closed under the handler.
            RuntimeError: the event is illegal now.
        """
        kind = event["type"]
        if kind == "websocket.send":
            await self.send_own(outgoing_of(event))
        elif kind == "websocket.close":
            await self._close_by_handler(event)
        elif kind == "websocket.accept":
            await self._accept(event)
        elif kind.startswith("websocket.http.response."):
            await self._deny_by_handler(event)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r}.")

    async def send_own(self, message: Outgoing, key: Hashable = None) -> None:
        """Send for the handler: where a message may wait for room, so does the handler."""
        self._check_open()
        if self.services.broadcaster.log:
            self.services.broadcaster.catch_up(self)
        self.deadlines.data_at = self.services.timekeeper.now
        self.last_traffic = monotonic()
        if self.queue or not self.wire.writable:
            await self._send_behind(message, key)
        else:
            self.messages_sent += 1
            self.bytes_sent += message.size
            await self._write_own(message)
        self._streak += 1
        if self._streak >= CHECKPOINT_EVERY:
            self._streak = 0
            await anyio.lowlevel.checkpoint()

    async def _write_own(self, message: Outgoing) -> None:
        try:
            await self.wire.send(message)
        except (OSError, RuntimeError) as error:
            # A RuntimeError: the server closed by itself. How, the reader will be told.
            self.gone = True
            self.carrier.read_ahead()
            raise PeerGoneError("the peer has left") from error

    async def _send_behind(self, message: Outgoing, key: Hashable) -> None:
        while self.config.outbound.policy in WAITING_POLICIES and not self.queue.fits(message.size):
            await self._room_made()
            self._check_open()
        self._enqueue(message, key)

    async def _room_made(self) -> None:
        if self._room is None:
            self._room = anyio.Event()
        await self._room.wait()

    def _check_open(self) -> None:
        if self.open:
            return
        if self.ending is not None:
            if self.ending.cause is Cause.APPLICATION:
                raise RuntimeError('Cannot call "send" once a close message has been sent.')
            raise PeerGoneError(f"the connection has ended: {self.ending.code} {self.ending.reason}".rstrip())
        raise RuntimeError('Cannot call "send" before the connection is accepted.')

    # Out: what others send.

    def deliver(self, message: Outgoing, key: Hashable = None) -> Delivery:
        """Hand over or queue a message; never waits. Only on the connection's own loop."""
        if not self.open:
            return Delivery.GONE
        if self.services.broadcaster.log:
            self.services.broadcaster.catch_up(self)
        return self.put(message, key)

    def put(self, message: Outgoing, key: Hashable = None) -> Delivery:
        """`deliver`, when all broadcasts before it are written."""
        self.last_traffic = monotonic()
        if self.queue or not self.wire.writable:
            return self._enqueue(message, key)
        if not self.wire.is_open():
            return Delivery.GONE
        self.write(Block((message,)))
        return Delivery.SENT

    def write(self, block: Block) -> None:
        """Hand a block to the wire, which must be writable, with nothing queued before it."""
        self.messages_sent += block.count
        self.bytes_sent += block.size
        self.deadlines.data_at = self.services.timekeeper.now
        self.wire.write(block)

    def _enqueue(self, message: Outgoing, key: Hashable) -> Delivery:
        before = self.queue.bytes
        verdict = self.queue.put(message, key)
        self.owner.charge(self, self.queue.bytes - before)
        if verdict is Verdict.QUEUED:
            self.services.backpressure.behind(self)
            if self.wire.writable:
                # It became so while the sender waited for room, and will not say it again.
                self.flush()
            return Delivery.QUEUED
        if verdict is Verdict.DROPPED:
            return Delivery.DROPPED
        self.too_slow()
        return Delivery.CLOSED

    def flush(self) -> None:
        """The wire takes data again: give it what waits, a little at a time."""
        while self.queue and self.wire.writable and self.wire.is_open():
            before = self.queue.bytes
            block = Block(self.queue.take(FLUSH_BYTES))
            self.owner.charge(self, self.queue.bytes - before)
            self.write(block)
        if self.wire.writable:
            self.services.backpressure.caught_up(self)
        self.wake_senders()

    def wake_senders(self) -> None:
        """Let handlers that wait for room look again."""
        room, self._room = self._room, None
        if room is not None:
            room.set()

    @property
    def half_full(self) -> bool:
        """Whether the queue is nearer to its bounds than to being empty."""
        outbound = self.config.outbound
        return (outbound.max_bytes is not None and self.queue.bytes * 2 > outbound.max_bytes) or (
            outbound.max_messages is not None and len(self.queue) * 2 > outbound.max_messages
        )

    def too_slow(self, within: float | None = None) -> None:
        """Close it for reading too slowly, or not at all."""
        self.emit_slow()
        self.begin_close(SLOW_CONSUMER, flush=False, within=within or self.config.outbound.send_timeout)

    def emit_slow(self) -> None:
        """Tell that it has fallen behind."""
        policy = self.config.outbound.policy.value
        self.owner.emit(SlowConsumer(self.id, self.client_id, policy, self.queue.bytes, len(self.queue)))

    def _fell_behind(self) -> None:
        self.services.backpressure.behind(self)

    # The handshake.

    async def _accept(self, event: Event) -> None:
        if self.ending is not None:
            raise PeerGoneError(f"the connection has ended: {self.ending.reason}")
        self.lifecycle.fire(Happening.ACCEPT)
        self.subprotocol = event.get("subprotocol")
        try:
            await self.wire.accept(event)
        except OSError as error:
            raise PeerGoneError("the peer left before the handshake was complete") from error
        if self.ending is None:
            self._opened()

    def _opened(self) -> None:
        services = self.services
        self.open = True
        self.opened_at = time.time()
        self.opened = self.identified = services.timekeeper.now
        self.cursor = services.broadcaster.end
        self.deadlines.opened(services.timekeeper.now)
        if self.subprotocol is not None or self.foreign:
            self._keep_out()
        if self._deadline is not None:
            services.timekeeper.cancel(self._deadline)
        self.schedule()
        self.owner.accepted(self)
        self.carrier.opened()
        logger.info("= connection opened", extra=self.log_fields())

    def _keep_out(self) -> None:
        """The peer speaks a protocol of its own: nothing of ours may land in it unasked."""
        self.foreign = True
        self.accepts_broadcasts = False
        if self._heartbeat_message is not None:
            self._heartbeat_message = None
            if not self.wire.native_ping:
                self.deadlines.stop_heartbeat()

    async def _deny_by_handler(self, event: Event) -> None:
        if self.ending is not None:
            raise PeerGoneError(f"the connection has ended: {self.ending.reason}")
        start = event["type"] == "websocket.http.response.start"
        if start:
            self.lifecycle.fire(Happening.DENY)
            self.carrier.stop_reading()
        await self.wire.deny(event)
        if not start and not event.get("more_body", False):
            self.lifecycle.fire(Happening.DENIED)

    # The end.

    async def _close_by_handler(self, event: Event) -> None:
        if self.ending is not None:
            return
        # FastAPI gives a list of errors as the reason of a request that does not validate.
        close = Close(event.get("code", CloseCode.NORMAL_CLOSURE), str(event.get("reason") or ""), Cause.APPLICATION)
        self.begin_close(close)
        await self.latch.wait()

    def begin_close(
        self,
        close: Close,
        *,
        flush: bool = True,
        within: float = CLOSE_TIMEOUT,
        error: WebSocketStabilizerError | None = None,
    ) -> None:
        """Begin to close; once it has begun, nothing happens. Never waits, and works on any loop.

        Args:
            close: how.
            flush: whether what is queued goes out first.
            within: seconds for the close to get out, after which the TCP connection is aborted.
            error: what made it necessary.
        """
        if self.ending is not None:
            return
        self.ending = close
        self.error = error
        if self._elsewhere():
            self.loop.call_from_thread(self._start_closing, close, flush, within)
        else:
            self._start_closing(close, flush, within)

    def abort(self, close: Close, error: WebSocketStabilizerError | None = None) -> None:
        """End it at once, where the server lets us; elsewhere try to close."""
        if not self.wire.can_abort:
            self.begin_close(close, flush=False, error=error)
            return
        if self.ending is None:
            self.ending = close
            self.error = error
        self.open = False
        self.wire.abort()
        self._end(close)

    def abandon(self) -> None:
        """The ASGI call is over, whatever became of it. Synchronous: nothing may be awaited any more."""
        if self.ending is None:
            self.ending = CANCELLED
        self.open = False
        self._end(self.ending)
        self.carrier.release()

    async def settled(self) -> None:
        """If it is closing, or its peer has left, wait until that is done and known."""
        if self.ending is not None:
            await self.latch.wait()
        elif self.gone:
            with anyio.move_on_after(LEARN_TIMEOUT):
                await self.latch.wait()

    def _start_closing(self, close: Close, flush: bool, within: float) -> None:
        if flush and self.open and self.services.broadcaster.log:
            self.services.broadcaster.catch_up(self)
        self.open = False
        self._forget()
        if not flush:
            self._discard_queue()
        self.wake_senders()
        self.loop.spawn(self._close, close, within)

    async def _close(self, close: Close, within: float) -> None:
        sent = False
        try:
            if self.lifecycle.outbound in (OutboundState.OPEN, OutboundState.CONNECTING):
                if self.lifecycle.outbound is OutboundState.OPEN:
                    await self._flushed(within)
                with anyio.move_on_after(within):
                    await self._send_close(close)
                    sent = True
        except Exception as failure:
            # The peer was faster, or the server found the close illegal: either way it is over.
            logger.debug("- close not sent: %s", failure, extra=self.log_fields())
        finally:
            if not sent:
                self.cut = True
                self.wire.abort()
            self._end(close)
        if sent and self.opened_at and self.wire.can_abort:
            self.services.abort_later(self.wire, CLOSE_TIMEOUT)

    async def _send_close(self, close: Close) -> None:
        if self.lifecycle.outbound is OutboundState.CONNECTING:
            self.lifecycle.fire(Happening.CLOSE)
            if close.cause is Cause.APPLICATION:
                await self.carrier.close(close)
            else:
                await self.carrier.deny(close)
        else:
            self.lifecycle.fire(Happening.CLOSE)
            await self.carrier.close(close)

    async def _flushed(self, patience: float) -> None:
        """Wait until nothing is queued, as long as the peer takes some of it every ``patience`` seconds."""
        waiting = self.queue.bytes + 1
        while self.queue and self.wire.is_open() and self.queue.bytes < waiting:
            waiting = self.queue.bytes
            with anyio.move_on_after(patience):
                while self.queue.bytes >= waiting and self.wire.is_open():
                    await self._room_made()
        self._discard_queue()

    def _end(self, close: Close) -> None:
        if self.ended is not None:
            return
        self._forget()
        self._discard_queue()
        if self.lifecycle.can(Happening.CLOSED):
            self.lifecycle.fire(Happening.CLOSED)
        duration = self.loop.time() - self.started if self.opened_at else 0.0
        self.ended = ConnectionClosed(
            self.id, self.client_id, int(close.code), close.reason, close.cause, duration, self.error
        )
        if self.opened_at:
            self.owner.emit(self.ended)
            fields = {**self.log_fields(), "code": int(close.code), "cause": close.cause.value, "duration": duration}
            logger.info("= connection closed", extra=fields)
        self.latch.set()
        self.wake_senders()
        self._tell_handler()
        if not self.opened_at and close.cause is Cause.STABILIZER:
            # It was refused under its handler, which has nothing to wait for.
            self.carrier.cancel()

    def _tell_handler(self) -> None:
        """Let a handler that waits for the inbox find its disconnect there."""
        if self.carrier.reading and self.carrier.direct and not self.inbox and self.wire.receive_cancellable:
            return  # The server wakes whoever is in its receive().
        if self.lifecycle.inbound is not InboundState.ENDED:
            self.inbox.put(self._disconnect_event(), 0)
            self.carrier.notify()

    def _forget(self) -> None:
        if self._deadline is not None:
            self.services.timekeeper.cancel(self._deadline)
            self._deadline = None
        self.services.forget(self)
        self.owner.forget(self)

    def _discard_queue(self) -> None:
        self.queue.clear()

    def _elsewhere(self) -> bool:
        try:
            return current_loop() is not self.loop
        except RuntimeError:
            return True

    # Deadlines and heartbeat.

    def schedule(self) -> None:
        """Have `visit` called when the next deadline is due."""
        due = self.deadlines.next(self.services.timekeeper.now)
        self._deadline = self.services.timekeeper.schedule(self.visit, due) if due is not None else None

    def visit(self, now: float) -> None:
        """Do what is due."""
        self._deadline = None
        action = self.deadlines.decide(now, self.carrier.reading and not self.wire.reading_paused())
        if action is Action.PING:
            self._send_heartbeat()
        elif action is Action.DEAD:
            self._dead(now)
        elif action is not Action.NOTHING:
            self.expire(action)
        if self.ending is None:
            self.sample()
            self.schedule()

    def expire(self, action: Action) -> None:
        """Close it for a deadline that has passed."""
        if action is Action.NOT_ACCEPTED:
            self.owner.emit(LimitHit("accept_timeout", self.address, self.path))
        self.begin_close(CLOSES_BY_ACTION[action])

    def sample(self) -> None:
        """Count what the transport holds."""
        buffered = self.wire.buffered()
        if buffered != self._sampled:
            self.owner.charge(self, buffered - self._sampled)
            self._sampled = buffered

    def pong(self, payload: bytes) -> None:
        """The peer answered a heartbeat."""
        self.deadlines.heard_at = self.services.timekeeper.now
        self.ever_answered = True
        if self._ping_sent and payload in (b"", self._ping_id.to_bytes(4, "big")):
            self.latency = self.loop.time() - self._ping_sent
            self._ping_sent = 0.0
            self.owner.observe("ping", self.latency)

    def _send_heartbeat(self) -> None:
        self.services.heartbeats_sent += 1
        self._ping_sent = self.loop.time()
        if self._heartbeat_message is not None:
            self._send_custom_heartbeat()
            return
        self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
        self.wire.ping(self._ping_id.to_bytes(4, "big"))

    def _send_custom_heartbeat(self) -> None:
        message = self._heartbeat_message
        data = message() if callable(message) else message
        outgoing = Outgoing(encode(data if data is not None else {"type": "ping", "timestamp": time.time()}))
        if self.wire.native_ping and self.wire.is_open():
            # Ahead of what is queued: a slow peer must not be taken for a dead one.
            self.write(Block((outgoing,)))
        else:
            self.deliver(outgoing)

    def _dead(self, now: float) -> None:
        silent = now - self.deadlines.heard_at
        self.services.heartbeats_missed += 1
        self.owner.emit(HeartbeatMissed(self.id, self.client_id, silent))
        self.abort(HEARTBEAT_TIMEOUT, ConnectionTimeoutError(self.config.heartbeat_timeout))

    def log_fields(self) -> dict[str, Any]:
        """What every log line about it carries. Neither query string nor token, ever."""
        return {
            "connection_id": self.id,
            "client_id": self.client_id,
            "path": self.path,
            "address": self.address,
        }


NO_DATA: Mapping[str, Any] = UserData()
HAPPENINGS = {"websocket.connect": Happening.CONNECT, "websocket.disconnect": Happening.DISCONNECT}
WAITING_POLICIES = (SlowConsumerPolicy.CLOSE, SlowConsumerPolicy.BLOCK)
CLOSES_BY_ACTION = {Action.IDLE: IDLE, Action.TOO_OLD: TOO_OLD, Action.NOT_ACCEPTED: NOT_ACCEPTED}
LONGEST_PONG = 64


def payload_size(event: Event) -> int:
    """Bytes of a message's payload as it travels: UTF-8 for text."""
    text = event.get("text")
    if text is None:
        return len(event.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def outgoing_of(event: Event) -> Outgoing:
    """The message of a ``websocket.send`` event.

    Raises:
        RuntimeError: it has neither text nor bytes.
    """
    data = event.get("bytes")
    if data is None:
        data = event.get("text")
    if data is None:
        raise RuntimeError("websocket.send needs text or bytes")
    return Outgoing(encode(data))


def close_of(event: Event) -> Close:
    """Who ended it and how, from the server's disconnect event."""
    code = event.get("code", CloseCode.NO_STATUS_RECEIVED)
    reason = event.get("reason") or ""
    if code == CloseCode.NO_STATUS_RECEIVED and "reason" not in event:
        # Servers say 1005 for a TCP connection that ended without a close frame; that is 1006.
        code = CloseCode.ABNORMAL_CLOSURE
    cause = Cause.SERVER if code == CloseCode.SERVICE_RESTART else Cause.CLIENT
    return Close(code, reason, cause, reconnect=code in DRAINING_CODES)


DRAINING_CODES = frozenset({CloseCode.ABNORMAL_CLOSURE, CloseCode.GOING_AWAY, DRAINING.code})


def is_pong(event: Event) -> bool:
    """Whether it answers the custom heartbeat: ``pong`` or ``{"type": "pong"}``."""
    text = event.get("text")
    if text is None or len(text) > LONGEST_PONG or "pong" not in text:
        return False
    if text == "pong":
        return True
    try:
        message = json.loads(text)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "pong"


def custom_heartbeat(config: WebSocketConfig) -> Any:
    """The application message that serves as heartbeat, ``None`` where pings do."""
    if config.heartbeat_type is not HeartbeatType.CUSTOM:
        return None
    return config.custom_heartbeat if config.custom_heartbeat is not None else default_heartbeat


def default_heartbeat() -> dict[str, Any]:
    """The published heartbeat message."""
    return {"type": "ping", "timestamp": time.time()}


def rate_limiter(config: WebSocketConfig) -> RateLimiter | None:
    """The rate limit of one connection."""
    limit = config.rate_limit
    if limit is None:
        return None
    return RateLimiter(limit.messages_per_second, limit.burst or limit.messages_per_second, limit.bytes_per_second)
