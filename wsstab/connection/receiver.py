"""Receiver: the inbound side of a connection, from the server's ``receive()`` to the handler.

Every message is checked here once, whether the handler or a reader task has read it: its size, whether it answers a
heartbeat, and the rate limit. Messages that the handler has not asked for yet wait in the inbox.
"""

from __future__ import annotations

import json
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from ..close import MESSAGE_TOO_BIG, RATE_LIMITED, UNFINISHED, UNREAD, VANISHED, Cause, Close, CloseCode
from ..config import WebSocketConfig
from ..core.inbox import Inbox
from ..core.lifecycle import InboundState
from ..core.limits import RateLimiter
from ..events import LimitHit
from ..types import Event
from ..wording import as_in_url

if TYPE_CHECKING:
    from .base import PeerBase
    from .carrier import Carrier
    from .heartbeat import Heartbeat

__all__ = ["Receiver", "close_of", "is_pong", "message_timeout", "payload_size"]

LONGEST_DELAY = 30.0
"""Seconds that a rate limit may hold back a message behind the one before it, however large that was."""
MOST_ROUNDS = 16
"""How many times its bounds the inbox may hold while reading on for a pong; more than TCP's buffers hold."""
LONGEST_STUCK = 60.0
"""Seconds in which a handler must take a message, once the inbox holds `MOST_ROUNDS` times its bounds."""
LONGEST_PONG = 64
"""Characters of the longest message that can answer a heartbeat."""
COMING_BACK = frozenset({CloseCode.ABNORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.SERVICE_RESTART})


class Receiver:
    """The inbound side of one connection.

    Args:
        peer: the peer it belongs to.
        carrier: the carrier of the peer.
        heartbeat: the heartbeat of the peer.

    Attributes:
        handler_reads: whether the handler has come to receive messages, and has not had its disconnect.
        end_told: whether the handler has waited for the end of the connection, and so knows of it.
        due: when each message in the inbox may be handed over; ``None`` unless a rate limit delays.
        inbox: messages that the handler has not asked for yet.
        messages: application messages that arrived.
        bytes: their payload, in bytes.
        dropped: messages dropped because the handler never read, or by the rate limit.
    """

    __slots__ = (
        "_carrier",
        "_custom",
        "_deadlines",
        "_due_at",
        "_grew_at",
        "_heartbeat",
        "_limiter",
        "_max_size",
        "_rounds",
        "_stuck",
        "_timekeeper",
        "_unfinished",
        "bytes",
        "dropped",
        "due",
        "end_told",
        "handler_reads",
        "inbox",
        "messages",
        "peer",
    )

    def __init__(self, peer: PeerBase, carrier: Carrier, heartbeat: Heartbeat) -> None:
        config = peer.config
        self.peer = peer
        self._carrier = carrier
        self._heartbeat = heartbeat
        self._deadlines = heartbeat.deadlines
        self._timekeeper = peer.services.timekeeper
        self._custom = heartbeat.message is not None
        self._rounds = 1.0
        self._due_at = self._grew_at = 0.0
        self._unfinished = 0
        self._stuck: tuple[object, float] = (None, 0.0)
        self.inbox: Inbox[Event] = Inbox(config.inbound.max_messages, config.inbound.max_bytes)
        self.messages = self.bytes = self.dropped = 0
        delays = config.rate_limit is not None and config.rate_limit.action == "delay"
        self.due: deque[float] | None = deque() if delays else None
        self.handler_reads = self.end_told = False
        self._limiter = rate_limiter(config)
        self._max_size = config.max_message_size

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""
        peer = self.peer
        return peer.closing.event is not None or peer.lifecycle.inbound is InboundState.ENDED

    @property
    def full(self) -> bool:
        """Whether reading must pause. It never pauses for a handler that has not begun to read."""
        return self.handler_reads and self.inbox.fills(self._rounds)

    def look_behind(self) -> None:
        """Nobody reads, because the inbox is full: see whether the peer is still there behind what is unread."""
        peer = self.peer
        if peer.wire.peer_left():
            # A departed peer sends nothing more, so reading on is bounded.
            self._rounds = MOST_ROUNDS
            self._read_on_or_give_up(VANISHED)
            return
        longest = peer.config.heartbeat_interval * self._rounds
        # Without a heartbeat nobody else notices, and not every wire sees that its peer has left.
        if not self._deadlines.beats and self._stuck_for(peer.loop.time()) >= longest:
            self.read_on()

    def read_on(self) -> None:
        """Read one more inbox past a full one: the pong or the end of the peer may be behind the unread messages."""
        if self.full and self._rounds < MOST_ROUNDS:
            self._rounds += 1
        self._read_on_or_give_up(UNREAD)

    def _read_on_or_give_up(self, close: Close) -> None:
        stuck = self._stuck_for(self.peer.loop.time())
        if not self.full:
            self._carrier.made_room()
            self._carrier.read_ahead()
        elif stuck >= LONGEST_STUCK:
            self.peer.closing.abort(close)

    def _stuck_for(self, now: float) -> float:
        """Seconds since the handler last took a message out of its inbox, as far as this has been watched.

        Args:
            now: seconds, on the clock of the event loop.
        """
        waiting = self.inbox.waiting
        if waiting is None:
            return 0.0
        # While the oldest entry is the same object, the handler has taken nothing.
        if self._stuck[0] is not waiting[0]:
            self._stuck = (waiting[0], now)
        return now - self._stuck[1]

    def admit(self, event: Event) -> Event | None:
        """Check an event that the server read; ``None`` if the handler must not get it."""
        peer = self.peer
        if event["type"] != "websocket.receive":
            return self._admit_disconnect(event) if event["type"] == "websocket.disconnect" else event
        # The handler could not answer any more.
        if peer.closing.close is not None:
            return None
        if self._unfinished:
            self._finished()
        now = self._deadlines.heard_at = self._timekeeper.now
        text = event.get("text")
        # The common case without a call, because every message comes here.
        size = len(text) if text is not None and text.isascii() else payload_size(event)
        if self._max_size is not None and size > self._max_size:
            self._warn_of_size()
            self._limit_hit("max_message_size", MESSAGE_TOO_BIG)
            return None
        if self._custom and self._heartbeat.message is not None and is_pong(event):
            self._heartbeat.pong(b"")
            return None
        if peer.debug:
            peer.trace("< %s of %d bytes:", "binary" if text is None else "text", size)
        sender = peer.sender
        sender.data_at, sender.passed_at = now, monotonic()
        self.messages += 1
        self.bytes += size
        if self._limiter is not None and not self._within_rate(self._limiter, size):
            return None
        return event

    def look(self, now: float) -> None:
        """Count the bytes of an unfinished message, and close a peer that does not continue it.

        Args:
            now: on the clock of the `Timekeeper`.
        """
        peer = self.peer
        if not peer.open:
            return
        unfinished = peer.wire.unfinished()
        if not unfinished or unfinished != self._unfinished or not self._heartbeat.is_read():
            # The message has grown, or nobody reads, so that it cannot grow.
            self._grew_at = now
        elif now - self._grew_at >= message_timeout(peer.config):
            self._limit_hit("message_timeout", UNFINISHED)
            return
        grown, self._unfinished = unfinished - self._unfinished, unfinished
        if grown:
            peer.charge(grown)

    def _finished(self) -> None:
        """A message is complete: give back the bytes counted while it was unfinished."""
        unfinished, self._unfinished = self._unfinished, 0
        self.peer.charge(-unfinished)

    def keep(self, event: Event) -> None:
        """Put a checked event into the inbox."""
        peer = self.peer
        size = payload_size(event)
        self.inbox.put(event, size)
        if self.due is not None:
            self.due.append(self._due_at)
        peer.charge(size)
        # The newest message stays even if it fills the inbox alone.
        if self.inbox.full and not self.handler_reads and len(self.inbox) > 1:
            peer.charge(-self.inbox.drop_oldest())
            self.dropped += 1
            if peer.debug:
                peer.trace("- oldest unread message dropped, %d wait:", len(self.inbox))
            if self.due:
                self.due.popleft()

    def disconnect(self) -> None:
        """Put the disconnect into the inbox."""
        self.inbox.put(self._disconnect_event(), 0)

    def take(self) -> Event:
        """Hand the oldest message to the handler."""
        event, size = self.inbox.take()
        if self.due:
            self.due.popleft()
        if self._rounds > 1 and not self.inbox.full:
            self._rounds = 1.0
        self.peer.charge(-size)
        self._carrier.made_room()
        return event

    def _admit_disconnect(self, event: Event) -> Event:
        peer = self.peer
        by_server = peer.wire.server_closed()
        close = close_of(event, by_server)
        if peer.debug:
            peer.trace("< disconnect, %d by the %s:", close.code, close.cause.value)
        if peer.closing.close is None and by_server and close.code == MESSAGE_TOO_BIG.code:
            # The server enforces our limit, as it was told to.
            self._warn_of_size()
            peer.owner.emit(LimitHit("max_message_size", peer.address, peer.path))
            close = MESSAGE_TOO_BIG
        peer.closing.learn(close)
        return self._disconnect_event()

    def _disconnect_event(self) -> Event:
        close = self.peer.closing.close
        assert close is not None
        return {"type": "websocket.disconnect", "code": int(close.code), "reason": close.reason}

    def _within_rate(self, limiter: RateLimiter, size: int) -> bool:
        peer = self.peer
        assert peer.config.rate_limit is not None
        action = peer.config.rate_limit.action
        now = peer.loop.time()
        wait = limiter.check(size, now, force=action == "delay")
        if action == "delay":
            self._due_at = min(now + wait, max(now, self._due_at) + LONGEST_DELAY)
            return True
        if wait == 0.0:
            return True
        if action == "close":
            self._limit_hit("rate_limit", RATE_LIMITED)
        else:
            self.dropped += 1
            if peer.debug:
                peer.trace("- dropped by rate_limit:")
        return False

    def _warn_of_size(self) -> None:
        """Name the option in the log: a page may reconnect and send the same message again without end."""
        peer = self.peer
        path = as_in_url(peer.path)
        peer.owner.warn_once(
            f"max_message_size {path}",
            "! a message for %s is over max_message_size=%s and closes its connection with 1009; "
            "a larger max_message_size lets such messages in",
            path,
            self._max_size,
            by_peers=True,
        )

    def _limit_hit(self, limit: str, close: Close) -> None:
        peer = self.peer
        peer.owner.emit(LimitHit(limit, peer.address, peer.path))
        peer.closing.begin(close)


def payload_size(event: Event) -> int:
    """Payload of a message in bytes; text counts as UTF-8."""
    text = event.get("text")
    if text is None:
        return len(event.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def close_of(event: Event, by_server: bool = False) -> Close:
    """The close that a disconnect event of the server tells of.

    Args:
        event: ``websocket.disconnect``.
        by_server: whether the wire knows that the server closed by itself.
    """
    code = event.get("code", CloseCode.NO_STATUS_RECEIVED)
    reason = event.get("reason") or ""
    if code == CloseCode.NO_STATUS_RECEIVED and "reason" not in event:
        # Servers report 1005 for a TCP connection that ended without a close frame; RFC 6455 (7.1.5) says 1006.
        code = CloseCode.ABNORMAL_CLOSURE
    # uvicorn stops with 1012 and without a reason; a close of the peer has at least an empty one.
    stops = code == CloseCode.SERVICE_RESTART and "reason" not in event
    cause = Cause.SERVER if by_server or stops else Cause.CLIENT
    return Close(code, reason, cause, reconnect=code in COMING_BACK)


def is_pong(event: Event) -> bool:
    """Whether a message answers the custom heartbeat: ``pong`` or ``{"type": "pong"}``."""
    text = event.get("text")
    # Cheap tests first, because every message of such a connection comes here.
    if text is None or len(text) > LONGEST_PONG or "pong" not in text:
        return False
    if text == "pong":
        return True
    try:
        message = json.loads(text)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("type") == "pong"


def message_timeout(config: WebSocketConfig) -> float:
    """Seconds in which an unfinished message must grow; by default the time after which a silent peer is dead."""
    timeout = config.inbound.message_timeout
    return config.heartbeat_interval + config.heartbeat_timeout if timeout is None else timeout


def rate_limiter(config: WebSocketConfig) -> RateLimiter | None:
    """The rate limiter of one connection; ``None`` without a rate limit."""
    limit = config.rate_limit
    if limit is None:
        return None
    return RateLimiter(limit.messages_per_second, limit.burst, limit.bytes_per_second)
