"""Sender: the outbound side of a connection, the only path to the peer.

Messages that the wire does not take wait in the queue, in the order of the calls. A handler that sends to its own peer
may wait for room. All other senders never wait: if the queue is full, the policy decides.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Hashable
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, NoReturn

import anyio
import anyio.lowlevel

from ..close import RAISED, SLOW_CONSUMER
from ..config import SlowConsumerPolicy
from ..core.frames import Block, Deflate, Outgoing, frame_for
from ..core.queue import OutboundQueue, Verdict
from ..errors import PeerGoneError
from ..events import SlowConsumer
from ..types import Transport

if TYPE_CHECKING:
    from .base import PeerBase

__all__ = ["CHECKPOINT_EVERY", "Delivery", "Sender", "SentAfterCloseError", "kind_and_size"]

logger = logging.getLogger("wsstab")

FLUSH_BYTES = 65536
"""Bytes handed to a wire at a time: bytes in the transport can no longer be dropped, and they delay a ping."""
CHECKPOINT_EVERY = 64
"""Sends after which a handler must let other tasks run: on most servers a send never suspends."""
WAITING_POLICIES = (SlowConsumerPolicy.CLOSE, SlowConsumerPolicy.BLOCK)


class SentAfterCloseError(RuntimeError):
    """A message for a connection that its own handler has closed."""


class Delivery(Enum):
    """What became of a message for one peer."""

    SENT = "sent"
    QUEUED = "queued"
    DROPPED = "dropped"
    CLOSED = "closed"
    """The peer was too slow, and its policy closed it."""
    GONE = "gone"


class Sender:
    """The outbound side of one connection.

    Args:
        peer: the peer it belongs to.

    Attributes:
        peer: the peer it belongs to.
        wire: the wire of its carrier.
        transport: takes frames directly, past the wire, while `ready`; ``None`` if frames must go through the wire.
        deflates: compresses those frames; ``None`` for no compression.
        queue: messages that the wire has not taken yet.
        ready: whether a message may be written now: the peer is open, the queue empty and the wire writable.
        cursor: number of the first entry of the turn log that the peer has not been sent.
        messages: application messages handed to the wire.
        bytes: their payload, in bytes.
        data_at: when a message last passed, in either direction, on the clock of the `Timekeeper`.
        passed_at: the same, as monotonic time in seconds.
        streak: messages sent by the handler since it last received or suspended.
        gone: whether a send has found the peer gone; the server has not told how it left.
    """

    __slots__ = (
        "_room",
        "_timekeeper",
        "_turn_log",
        "bytes",
        "cursor",
        "data_at",
        "deflates",
        "gone",
        "messages",
        "passed_at",
        "peer",
        "queue",
        "ready",
        "streak",
        "transport",
        "wire",
    )

    def __init__(self, peer: PeerBase) -> None:
        outbound = peer.config.outbound
        self.peer = peer
        self.wire = peer.wire
        self._timekeeper = peer.services.timekeeper
        self._turn_log = peer.services.turn_log
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(outbound.max_bytes, outbound.max_messages, outbound.policy)
        self.ready = False
        self.transport: Transport | None = None
        self.deflates: Deflate | None = None
        self.cursor = 0
        self.data_at = self._timekeeper.now
        self.passed_at = monotonic()
        self.messages = self.bytes = 0
        self.gone = False
        self._room: anyio.Event | None = None
        self.streak = 0
        self.wire.on_blocked = self._fell_behind
        self.wire.on_writable = self.flush
        if self.wire.passes_others:
            # Not for other wires: each bound method takes 64 bytes for every connection.
            self.wire.on_failed = self._failed

    def open(self) -> None:
        """The handshake is complete."""
        self.transport, self.deflates = self.wire.shortcut() or (None, None)
        if self.peer.debug:
            # Frames that go past the wire would go past the log.
            self.transport = None
        self.cursor = self._turn_log.end
        self._mark()
        self._look_whether_ready()

    def shut(self) -> None:
        """Send no more."""
        self.ready = False
        self.transport = None
        # A broadcast that is being written passes over this peer, too.
        self.cursor = sys.maxsize

    @property
    def is_shut(self) -> bool:
        """Whether no message may be sent any more."""
        return self.cursor == sys.maxsize

    # The handler's own messages.

    def send_at_once(self, message: Outgoing) -> bool:
        """Send a message of the handler, unless that needs waiting; raises the errors of `send`."""
        transport = self.transport
        if self.ready and transport is not None and not self._turn_log.pending and not transport.is_closing():
            # The common case. It reads few objects on purpose: each one more may have to come from main memory.
            self._count(message)
            transport.write(frame_for(message, self.deflates))
            return True
        peer = self.peer
        if not peer.open:
            self._check_open()
        if self._turn_log.pending:
            self._turn_log.catch_up(peer)
        if self.queue.waiting is not None or not self.wire.writable:
            return False
        self._count(message)
        try:
            sent = self.wire.send_at_once(message)
        except Exception as error:
            self._raise(error)
        if not sent:
            # send_on() counts it again, when it is really handed over.
            self.messages -= 1
            self.bytes -= message.size
            self.streak -= 1
        elif peer.debug:
            self._trace(message)
        return sent

    async def send(self, message: Outgoing, key: Hashable = None) -> None:
        """Send a message of the handler. Where the policy lets messages wait for room, the handler waits.

        Raises:
            PeerGoneError: the peer has left, or the connection was closed under the handler.
            RuntimeError: the connection is not accepted, or the handler closed it.
        """
        if not self.send_at_once(message):
            await self.send_on(message, key)
        elif self.streak >= CHECKPOINT_EVERY:
            self.streak = 0
            await anyio.lowlevel.checkpoint()

    async def send_on(self, message: Outgoing, key: Hashable = None) -> None:
        """Go on with `send` after `send_at_once` has returned ``False``."""
        self.streak += 1
        if self.queue or not self.wire.writable:
            await self._send_behind(message, key)
        else:
            self.messages += 1
            self.bytes += message.size
            self._mark()
            if self.peer.debug:
                self._trace(message)
            await self._write_own(message)
        if self.streak >= CHECKPOINT_EVERY:
            self.streak = 0
            await anyio.lowlevel.checkpoint()

    def _count(self, message: Outgoing) -> None:
        """Count a message of the handler. Before its write: if that blocks the wire, backpressure reads the counts."""
        self.messages += 1
        self.bytes += message.size
        self.streak += 1
        self.data_at = self._timekeeper.now
        self.passed_at = monotonic()

    def _mark(self) -> None:
        """Note that a message has passed."""
        self.data_at = self._timekeeper.now
        self.passed_at = monotonic()

    def _trace(self, message: Outgoing) -> None:
        self.peer.trace("> %s of %d bytes:", *kind_and_size(message))

    def _raise(self, error: Exception) -> NoReturn:
        """Raise `PeerGoneError` if the error means that the peer has left, otherwise the error itself."""
        if not self.wire.says_gone(error):
            raise error
        self.gone = True
        # A reader gets the disconnect event, which tells how the peer left or why the server closed.
        self.peer.carrier.read_ahead()
        # Frameworks that log this error would print its cause too, which says the same.
        raise PeerGoneError("the peer has left") from None

    def _failed(self, error: Exception) -> None:
        """A middleware outside of us raised an error for a message that nobody waits for."""
        peer = self.peer
        name, fields = peer.log_name(), peer.log_fields()
        if peer.owner.may_tell("a message failed"):
            logger.error("! a message for %s failed", name, extra=fields, exc_info=error)
        peer.closing.begin(RAISED, flush=False)

    async def _write_own(self, message: Outgoing) -> None:
        try:
            await self.wire.send(message)
        except Exception as error:
            self._raise(error)

    async def _send_behind(self, message: Outgoing, key: Hashable) -> None:
        # Messages of other senders may have closed the connection meanwhile.
        self._check_open()
        self._mark()
        waits = self.peer.config.outbound.policy in WAITING_POLICIES
        # Half of the queue is for other senders: a handler that streams must not make its peer look slow to them.
        while waits and self.queue and (self.half_full or not self.queue.fits(message.size)):
            await self.room_made()
            self._check_open()
        self._enqueue(message, key)

    def _check_open(self) -> None:
        if self.peer.open:
            return
        close = self.peer.closing.close
        if close is None:
            raise RuntimeError('Cannot call "send" before the connection is accepted.')
        if self.peer.closing.by_handler:
            raise SentAfterCloseError('Cannot call "send" once a close message has been sent.')
        raise PeerGoneError(f"the connection has ended: {int(close.code)} {close.reason}".rstrip())

    # Messages of others.

    def deliver(self, message: Outgoing, key: Hashable = None) -> Delivery:
        """Send or queue a message of another sender; never waits. Only on the connection's own event loop."""
        peer = self.peer
        if not peer.open:
            return Delivery.GONE
        if self._turn_log.pending:
            self._turn_log.catch_up(peer)
        return self.put(message, key)

    def put(self, message: Outgoing, key: Hashable = None) -> Delivery:
        """`deliver`, once all earlier broadcasts are written."""
        self.passed_at = monotonic()
        if self.queue.waiting is not None or not self.wire.writable:
            return self._enqueue(message, key)
        if not self.wire.is_open():
            return Delivery.GONE
        self.write(Block((message,)))
        return Delivery.SENT

    def write(self, block: Block) -> None:
        """Hand a block to the wire, which must be writable; the queue must be empty."""
        self.messages += block.count
        self.bytes += block.size
        self.data_at = self._timekeeper.now
        self.passed_at = monotonic()
        if self.peer.debug:
            for message in block.messages:
                self._trace(message)
        self.wire.write(block)

    def beat(self, message: Outgoing) -> None:
        """Send or queue a heartbeat message, which does not count as traffic."""
        if self.queue.waiting is not None or not self.wire.writable:
            self._enqueue(message, None)
        elif self.wire.is_open():
            self.wire.write(Block((message,)))

    # The queue.

    def flush(self) -> None:
        """The wire is writable again: hand it queued messages, a little at a time."""
        peer = self.peer
        while self.queue and self.wire.writable and self.wire.is_open():
            before = self.queue.bytes
            block = Block(self.queue.take(FLUSH_BYTES))
            peer.charge(self.queue.bytes - before)
            self.write(block)
        self._look_whether_ready()
        if self.wire.writable:
            peer.services.backpressure.caught_up(peer)
        self.wake()

    async def room_made(self) -> None:
        """Wait until the queue has shrunk, or the connection has closed."""
        if self._room is None:
            self._room = anyio.Event()
        await self._room.wait()

    def wake(self) -> None:
        """Wake all senders that wait for room."""
        room, self._room = self._room, None
        if room is not None:
            room.set()

    @property
    def half_full(self) -> bool:
        """Whether the queue is more than half full."""
        outbound = self.peer.config.outbound
        return (outbound.max_bytes is not None and self.queue.bytes * 2 > outbound.max_bytes) or (
            outbound.max_messages is not None and len(self.queue) * 2 > outbound.max_messages
        )

    @property
    def crowded(self) -> bool:
        """Whether the queue is more than three quarters full, which the handler's own sends never cause."""
        outbound = self.peer.config.outbound
        return (outbound.max_bytes is not None and self.queue.bytes * 4 > outbound.max_bytes * 3) or (
            outbound.max_messages is not None and len(self.queue) * 4 > outbound.max_messages * 3
        )

    def too_slow(self, within: float | None = None) -> None:
        """Close the connection of a peer that reads too slowly, or not at all.

        Args:
            within: seconds for the close frame; ``None``: ``send_timeout``.
        """
        peer = self.peer
        self.tell_slow()
        peer.closing.begin(SLOW_CONSUMER, flush=False, within=within or peer.config.outbound.send_timeout)

    def tell_slow(self) -> None:
        """Emit `SlowConsumer`, once each time the peer falls behind."""
        peer = self.peer
        if not peer.services.backpressure.is_news(peer):
            return
        policy = peer.config.outbound.policy.value
        peer.owner.emit(SlowConsumer(peer.id, peer.client_id, policy, self.queue.bytes, len(self.queue)))

    def _enqueue(self, message: Outgoing, key: Hashable) -> Delivery:
        peer = self.peer
        before = self.queue.bytes
        verdict = self.queue.put(message, key)
        # The difference and not the size of the message: the policy may have dropped others for it.
        peer.charge(self.queue.bytes - before)
        if peer.debug:
            peer.trace("- %s of %d bytes %s, %d wait:", *kind_and_size(message), verdict.value, len(self.queue))
        if verdict is Verdict.QUEUED:
            self.ready = False
            peer.services.backpressure.behind(peer)
            if self.wire.writable:
                # The wire became writable while this sender waited for room, and does not say it twice.
                self.flush()
            return Delivery.QUEUED
        if verdict is Verdict.DROPPED:
            return Delivery.DROPPED
        self.too_slow()
        return Delivery.CLOSED

    def _look_whether_ready(self) -> None:
        self.ready = self.peer.open and self.wire.writable and self.queue.waiting is None and self.wire.is_open()

    def _fell_behind(self) -> None:
        self.ready = False
        if not self.is_shut:
            # A closing peer has deadlines of its own, and nothing would remove it from that list again.
            self.peer.services.backpressure.behind(self.peer)


def kind_and_size(message: Outgoing) -> tuple[str, int]:
    """What a log line may show of a message."""
    return "text" if message.text else "binary", message.size
