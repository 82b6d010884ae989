"""Inbound side of a connection: from the server's ``receive()`` to the handler.

Every message that arrives is checked here once, whoever read it: its size, whether it answers a heartbeat, and
the rate limit. Messages that the handler has not asked for yet wait in the inbox.
"""

from __future__ import annotations

import json
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

import anyio

from ..close import MESSAGE_TOO_BIG, RATE_LIMITED, UNFINISHED, Cause, Close, CloseCode
from ..config import WebSocketConfig
from ..core.inbox import Inbox
from ..core.lifecycle import InboundState, Transition
from ..core.limits import RateLimiter
from ..events import LimitHit
from ..types import Event
from ..wording import as_in_url

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Receiver", "close_of", "is_pong", "message_timeout", "payload_size"]

LONGEST_DELAY = 30.0
"""Seconds by which a rate limit may hold back one message behind the one before it, however large that was."""
MOST_ROUNDS = 16
"""How many times over the bounds of the inbox may be filled in search of a pong: more than TCP's buffers hold."""
LONGEST_PONG = 64
"""Characters; a longer message answers no heartbeat."""
TRANSITIONS = {"websocket.connect": Transition.CONNECT, "websocket.disconnect": Transition.DISCONNECT}
ENDED = 'Cannot call "receive" once a disconnect message has been received.'
COMING_BACK = frozenset({CloseCode.ABNORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.SERVICE_RESTART})


class Receiver:
    """The inbound side of one connection.

    Args:
        connection: the connection it belongs to.

    Attributes:
        inbox: what the handler has not asked for yet.
        messages: application messages that arrived.
        bytes: their payload, in bytes.
        dropped: messages dropped because the handler never read, or by the rate limit.
    """

    __slots__ = (
        "_custom",
        "_deadlines",
        "_due",
        "_due_at",
        "_grew_at",
        "_handler_reads",
        "_limiter",
        "_max_size",
        "_rounds",
        "_stuck",
        "_timekeeper",
        "_unfinished",
        "bytes",
        "connection",
        "dropped",
        "inbox",
        "messages",
    )

    def __init__(self, connection: Connection) -> None:
        config = connection.config
        self.connection = connection
        self._deadlines = connection.heartbeat.deadlines
        self._timekeeper = connection.services.timekeeper
        self._custom = connection.heartbeat.message is not None
        self._rounds = 1.0
        self._due_at = self._grew_at = 0.0
        self._unfinished = 0
        self._stuck: tuple[object, float] = (None, 0.0)
        self.inbox: Inbox[Event] = Inbox(config.inbound.max_messages, config.inbound.max_bytes)
        self.messages = self.bytes = self.dropped = 0
        delays = config.rate_limit is not None and config.rate_limit.action == "delay"
        self._due: deque[float] | None = deque() if delays else None
        self._handler_reads = False
        self._limiter = rate_limiter(config)
        self._max_size = config.max_message_size

    async def receive(self) -> Event:
        """The ASGI ``receive`` of the handler.

        Raises:
            RuntimeError: the disconnect was delivered before.
        """
        try:
            if not self._handler_reads:
                self._check_not_ended()
            connection = self.connection
            carrier = connection.carrier
        except ReferenceError:
            # Kept by somebody who did not keep the connection.
            raise RuntimeError(ENDED) from None
        connection.sender.streak = 0
        event: Event | None = None
        while event is None:
            if self.inbox.waiting is not None:
                if self._due:
                    await self._time_has_come(self._due)
                event = self._take()
            elif carrier.begin_reading():
                # Here and not in a method of the carrier: each costs a coroutine for every idle connection.
                try:
                    event = await carrier.wire.receive()
                finally:
                    carrier.end_reading()
                event = self.admit(event)
            else:
                await carrier.arrival()
        if event["type"] != "websocket.receive":
            transition = TRANSITIONS.get(event["type"])
            # Of others the handler knows what they mean, or nobody does.
            if transition is not None and connection.lifecycle.try_fire(transition):
                self._handler_reads = False
        return event

    @property
    def handler_reads(self) -> bool:
        """Whether the handler has come to receive messages, and has not had its disconnect."""
        return self._handler_reads

    @property
    def over(self) -> bool:
        """Whether nothing more will arrive."""
        connection = self.connection
        return connection.ending.event is not None or connection.lifecycle.inbound is InboundState.ENDED

    @property
    def full(self) -> bool:
        """Whether reading must pause; it never does for a handler that never reads."""
        return self._handler_reads and self.inbox.fills(self._rounds)

    def let_more_in(self) -> None:
        """Let as many messages more wait as the bounds of the inbox say, where it is full; not without end."""
        if self.full and self._rounds < MOST_ROUNDS:
            self._rounds += 1

    def let_rest_in(self) -> None:
        """Let wait what a peer has sent that has left, as far as there is an end to it."""
        self._rounds = MOST_ROUNDS

    @property
    def rounds(self) -> float:
        """How many times over the bounds of the inbox may be filled now."""
        return self._rounds

    def stuck(self, now: float) -> float:
        """Seconds for which the handler is known to have taken nothing out of its inbox.

        Args:
            now: seconds, on the clock of the event loop.
        """
        waiting = self.inbox.waiting
        if waiting is None:
            return 0.0
        if self._stuck[0] is not waiting[0]:
            self._stuck = (waiting[0], now)
        return now - self._stuck[1]

    def admit(self, event: Event) -> Event | None:
        """Look at what the server read; ``None`` for what is not the handler's business."""
        connection = self.connection
        if event["type"] != "websocket.receive":
            return self._admit_disconnect(event) if event["type"] == "websocket.disconnect" else event
        if connection.ending.close is not None:
            return None
        if self._unfinished:
            self._finished()
        now = self._deadlines.heard_at = self._timekeeper.now
        text = event.get("text")
        size = len(text) if text is not None and text.isascii() else payload_size(event)
        if self._max_size is not None and size > self._max_size:
            self._warn_of_size()
            self._limit_hit("max_message_size", MESSAGE_TOO_BIG)
            return None
        if self._custom and connection.heartbeat.message is not None and is_pong(event):
            connection.heartbeat.pong(b"")
            return None
        sender = connection.sender
        sender.data_at, sender.passed_at = now, monotonic()
        self.messages += 1
        self.bytes += size
        if self._limiter is not None and not self._within_rate(self._limiter, size):
            return None
        return event

    def look(self, now: float) -> None:
        """Count what is held of a message that is not finished, and end a peer that does not go on with it.

        Args:
            now: on the clock of the `Timekeeper`.
        """
        connection = self.connection
        if not connection.open:
            return
        unfinished = connection.wire.unfinished()
        if not unfinished or unfinished != self._unfinished or not connection.heartbeat.is_read():
            # While nobody reads, no message can grow.
            self._grew_at = now
        elif now - self._grew_at >= message_timeout(connection.config):
            self._limit_hit("message_timeout", UNFINISHED)
            return
        grown, self._unfinished = unfinished - self._unfinished, unfinished
        if grown:
            connection.charge(grown)

    def _finished(self) -> None:
        """A message has come: what was counted of it before is given back, and one of the same size is another."""
        unfinished, self._unfinished = self._unfinished, 0
        self.connection.charge(-unfinished)

    def keep(self, event: Event) -> None:
        """Put an admitted event where the handler will find it."""
        connection = self.connection
        size = payload_size(event)
        self.inbox.put(event, size)
        if self._due is not None:
            self._due.append(self._due_at)
        connection.charge(size)
        if self.inbox.full and not self._handler_reads and len(self.inbox) > 1:
            connection.charge(-self.inbox.drop_oldest())
            self.dropped += 1
            if self._due:
                self._due.popleft()

    def disconnect(self) -> None:
        """Let the handler find its disconnect in the inbox."""
        self.inbox.put(self._disconnect_event(), 0)

    async def _time_has_come(self, due: deque[float]) -> None:
        """Wait until the oldest message may be handed over; with the end of the connection nothing is held back."""
        connection = self.connection
        while not self.over and (wait := due[0] - connection.loop.time()) > 0:
            with anyio.move_on_after(wait):
                await connection.carrier.arrival()

    def _check_not_ended(self) -> None:
        inbound = self.connection.lifecycle.inbound
        if inbound is InboundState.ENDED:
            raise RuntimeError(ENDED)
        self._handler_reads = inbound is InboundState.OPEN

    def _take(self) -> Event:
        event, size = self.inbox.take()
        if self._due:
            self._due.popleft()
        if self._rounds > 1 and not self.inbox.full:
            self._rounds = 1.0
        self.connection.charge(-size)
        self.connection.carrier.made_room()
        return event

    def _admit_disconnect(self, event: Event) -> Event:
        connection = self.connection
        by_server = connection.wire.server_closed()
        close = close_of(event, by_server)
        if connection.ending.close is None and by_server and close.code == MESSAGE_TOO_BIG.code:
            # The limit is ours; the server was told to keep it.
            self._warn_of_size()
            connection.owner.emit(LimitHit("max_message_size", connection.address, connection.path))
            close = MESSAGE_TOO_BIG
        connection.ending.learn(close)
        return self._disconnect_event()

    def _disconnect_event(self) -> Event:
        close = self.connection.ending.close
        assert close is not None
        return {"type": "websocket.disconnect", "code": int(close.code), "reason": close.reason}

    def _within_rate(self, limiter: RateLimiter, size: int) -> bool:
        connection = self.connection
        assert connection.config.rate_limit is not None
        action = connection.config.rate_limit.action
        now = connection.loop.time()
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
        return False

    def _warn_of_size(self) -> None:
        """Tell the operator which option it was: a page that connects again and sends the same again never ends."""
        connection = self.connection
        path = as_in_url(connection.path)
        connection.owner.warn_once(
            f"max_message_size {path}",
            "! a message for %s is over max_message_size=%s and closes its connection with 1009; "
            "a larger max_message_size lets such messages in",
            path,
            self._max_size,
            by_peers=True,
        )

    def _limit_hit(self, limit: str, close: Close) -> None:
        connection = self.connection
        connection.owner.emit(LimitHit(limit, connection.address, connection.path))
        connection.ending.begin(close)


def payload_size(event: Event) -> int:
    """Bytes of a message's payload as it travels: UTF-8 for text."""
    text = event.get("text")
    if text is None:
        return len(event.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def close_of(event: Event, by_server: bool = False) -> Close:
    """Who ended it and how, from the server's disconnect event.

    Args:
        event: ``websocket.disconnect``.
        by_server: whether the wire knows that the server closed by itself.
    """
    code = event.get("code", CloseCode.NO_STATUS_RECEIVED)
    reason = event.get("reason") or ""
    if code == CloseCode.NO_STATUS_RECEIVED and "reason" not in event:
        # Servers say 1005 for a TCP connection that ended without a close frame; that is 1006.
        code = CloseCode.ABNORMAL_CLOSURE
    # uvicorn stops with 1012 and gives no reason at all, where a peer's own has at least an empty one.
    stops = code == CloseCode.SERVICE_RESTART and "reason" not in event
    cause = Cause.SERVER if by_server or stops else Cause.CLIENT
    return Close(code, reason, cause, reconnect=code in COMING_BACK)


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


def message_timeout(config: WebSocketConfig) -> float:
    """Seconds in which an unfinished message must grow: by default those after which silence is death."""
    timeout = config.inbound.message_timeout
    return config.heartbeat_interval + config.heartbeat_timeout if timeout is None else timeout


def rate_limiter(config: WebSocketConfig) -> RateLimiter | None:
    """The rate limit of one connection."""
    limit = config.rate_limit
    if limit is None:
        return None
    return RateLimiter(limit.messages_per_second, limit.burst, limit.bytes_per_second)
