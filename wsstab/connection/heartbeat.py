"""Heartbeat: the pings of a connection, and its other deadlines.

`wsstab.core.deadlines` decides what is due. The heartbeat acts on the decision: it sends the ping, measures the pong,
and closes the connection.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from ..close import HEARTBEAT_TIMEOUT, IDLE, NOT_ACCEPTED, TOO_OLD
from ..config import HeartbeatType, WebSocketConfig
from ..core.deadlines import Action, Deadlines
from ..core.frames import Block, Outgoing
from ..errors import ConnectionTimeoutError
from ..events import HeartbeatMissed, LimitHit
from ..loop.usercode import call
from ..payload import encode

if TYPE_CHECKING:
    from ..loop.timekeeper import Deadline
    from ..wires.base import Wire
    from .base import PeerBase
    from .carrier import Carrier
    from .sender import Sender

__all__ = ["Heartbeat", "deadlines_for", "default_message"]

AGE_SPREAD = 0.1
"""Fraction by which ``max_connection_age`` varies, so that connections that opened together do not return together."""
CLOSES = {Action.IDLE: IDLE, Action.TOO_OLD: TOO_OLD, Action.NOT_ACCEPTED: NOT_ACCEPTED}


class Heartbeat:
    """Deadlines and heartbeat of one connection.

    Args:
        peer: the peer it belongs to.
        carrier: the carrier of the peer.
        sender: the sender of the peer.
        deadlines: the deadlines of the connection.

    Attributes:
        deadlines: when the next action is due; the receiver notes arrivals here.
        message: the application message that serves as heartbeat; ``None`` for pings.
        latency: seconds between the last ping and its pong, ``None`` before the first.
        answered: whether the peer has ever answered a heartbeat.
    """

    __slots__ = (
        "_buffered",
        "_carrier",
        "_deadline",
        "_partial",
        "_ping_id",
        "_ping_sent",
        "_sender",
        "answered",
        "deadlines",
        "latency",
        "message",
        "peer",
    )

    def __init__(self, peer: PeerBase, carrier: Carrier, sender: Sender, deadlines: Deadlines) -> None:
        self.peer = peer
        self._carrier = carrier
        self._sender = sender
        self._deadline: Deadline | None = None
        self._buffered = self._partial = 0
        self._ping_id = 0
        self._ping_sent = 0.0
        self.deadlines = deadlines
        self.message: Any = custom_message(peer.config)
        self.latency: float | None = None
        self.answered = False
        peer.wire.on_pong = self.pong

    def opens(self, phase: float) -> None:
        """The handshake is complete.

        Args:
            phase: seconds by which the first ping is delayed.
        """
        self.deadlines.opened(self.peer.services.timekeeper.now)
        self.deadlines.heard_at += phase

    def schedule(self) -> None:
        """Schedule `visit` for the next deadline. A visit that comes too early schedules the next one."""
        timekeeper = self.peer.services.timekeeper
        due = self.deadlines.next(timekeeper.now)
        # An earlier visit is scheduled already. Cancelling it would cost every handshake more.
        if due is not None and self._deadline is not None and self._deadline.deadline <= due:
            return
        self.stop()
        if due is not None:
            self._deadline = timekeeper.schedule(self.visit, due)

    def stop(self) -> None:
        """Cancel the next visit."""
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            self.peer.services.timekeeper.cancel(deadline)

    def visit(self, now: float) -> None:
        """Do the actions that are due."""
        if self._deadline is None:
            # The connection ended in the same tick in which the visit was due.
            return
        peer = self.peer
        self._deadline = None
        self.deadlines.data_at = self._sender.data_at
        if self.deadlines.unanswered:
            partial = peer.wire.partial()
            if partial != self._partial:
                # The peer is sending a large message, and can send its pong only after it.
                self._partial = partial
                self.deadlines.heard_at = now
        try:
            reading = self.is_read()
            self.act(self.deadlines.decide(now, reading), now)
            if not reading and self.deadlines.unanswered and peer.open:
                peer.receiver.read_on()
            self.sample()
        finally:
            # An application's heartbeat message that raises must not end the heartbeat.
            if peer.closing.close is None:
                self.schedule()

    def is_read(self) -> bool:
        """Whether somebody reads from the peer now; otherwise its silence proves nothing."""
        return self._carrier.reading and not self.peer.wire.reading_paused()

    def ask(self) -> float:
        """Ping the peer out of turn; returns when, on the clock of the deadlines."""
        now = self.peer.services.timekeeper.now
        if not self.deadlines.unanswered:
            self.deadlines.ping_at = now
        self.beat()
        return now

    def act(self, action: Action, now: float) -> None:
        """Perform an action."""
        if action is Action.PING:
            self.beat()
        elif action is Action.DEAD:
            self.dead(now)
        elif action is not Action.NOTHING:
            self.expire(action)

    def beat(self) -> None:
        """Send a ping or the heartbeat message."""
        peer = self.peer
        peer.services.heartbeats_sent += 1
        self._ping_sent = peer.loop.time()
        if peer.debug:
            peer.trace("%% ping:" if self.message is None else "%% heartbeat message:")
        if self.message is not None:
            self._send_message()
            return
        # It wraps around, because its payload has four bytes.
        self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
        peer.wire.ping(self._ping_id.to_bytes(4, "big"))

    def pong(self, payload: bytes) -> None:
        """The peer has answered.

        Args:
            payload: payload of the pong; empty for an answer in an application message.
        """
        peer = self.peer
        self.deadlines.heard_at = peer.services.timekeeper.now
        self.answered = True
        # Any other pong answers an older ping, or none at all: a sign of life, but no measurement.
        if self._ping_sent and payload in (b"", self._ping_id.to_bytes(4, "big")):
            self.latency = peer.loop.time() - self._ping_sent
            self._ping_sent = 0.0
            peer.owner.observe("ping", self.latency)
            if peer.debug:
                peer.trace("%% pong after %.1f ms:", self.latency * 1000)

    def dead(self, now: float) -> None:
        """The peer has been silent too long: abort it."""
        peer = self.peer
        peer.services.heartbeats_missed += 1
        silent = now - self.deadlines.heard_at
        if peer.debug:
            peer.trace("%% nothing for %.1f s:", silent)
        peer.owner.emit(HeartbeatMissed(peer.id, peer.client_id, silent))
        peer.closing.abort(HEARTBEAT_TIMEOUT, ConnectionTimeoutError(peer.config.heartbeat_timeout))

    def expire(self, action: Action) -> None:
        """Close the connection, because another deadline has passed."""
        peer = self.peer
        if action is Action.NOT_ACCEPTED:
            peer.owner.emit(LimitHit("accept_timeout", peer.address, peer.path))
        peer.closing.begin(CLOSES[action])

    def keep_out(self) -> None:
        """Send no heartbeat messages: the peer speaks a protocol of its own."""
        if self.message is not None:
            self.message = None
            if not self.peer.wire.traits.native_ping:
                self.deadlines.stop_heartbeat()

    def _send_message(self) -> None:
        peer = self.peer
        # By way of call(): a message made by the application may raise anything, and this runs in the timekeeper.
        outgoing = call(encoded, self.message)
        if peer.wire.traits.native_ping and peer.wire.is_open():
            # Ahead of the queue: otherwise a slow peer would be taken for a dead one.
            peer.wire.write(Block((outgoing,)))
        else:
            self._sender.beat(outgoing)

    def sample(self) -> None:
        """Count the bytes in the transport as memory of the peer."""
        peer = self.peer
        buffered = peer.wire.buffered() if peer.open else self._buffered
        if buffered != self._buffered:
            peer.charge(buffered - self._buffered)
            self._buffered = buffered


def deadlines_for(config: WebSocketConfig, wire: Wire, now: float) -> Deadlines:
    """The deadlines of a new connection.

    Args:
        config: the configuration of its path.
        wire: the wire of the connection.
        now: time on the clock of the `wsstab.loop.timekeeper.Timekeeper`.
    """
    max_age = config.max_connection_age
    if max_age is not None:
        max_age *= random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)
    return Deadlines(
        now,
        accept_timeout=config.accept_timeout,
        heartbeat_interval=heartbeat_interval(config, wire),
        heartbeat_timeout=config.heartbeat_timeout,
        idle_timeout=config.idle_timeout,
        max_age=max_age,
    )


def heartbeat_interval(config: WebSocketConfig, wire: Wire) -> float | None:
    """Seconds between heartbeats on this wire, ``None`` for none."""
    if config.heartbeat_type is HeartbeatType.OFF:
        return None
    if config.heartbeat_type is HeartbeatType.PING and not wire.traits.native_ping:
        return None
    if wire.server_ping_interval:
        return min(config.heartbeat_interval, wire.server_ping_interval)
    return config.heartbeat_interval


def custom_message(config: WebSocketConfig) -> Any:
    """The application message that serves as heartbeat, or a function that makes it; ``None`` for pings."""
    if config.heartbeat_type is not HeartbeatType.CUSTOM:
        return None
    return config.custom_heartbeat if config.custom_heartbeat is not None else default_message


def encoded(message: Any) -> Outgoing:
    """Encode the next heartbeat message.

    Args:
        message: the message, or a function that returns it.
    """
    return Outgoing(encode(message() if callable(message) else message))


def default_message() -> dict[str, Any]:
    """The published heartbeat message."""
    return {"type": "ping", "timestamp": time.time()}
