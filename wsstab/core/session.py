"""Session: the server's side of one run of a handler that outlives its TCP connections.

A carrier is one WebSocket. A session has one carrier at a time, or none. Both sides count data messages; no number
travels with them. Each message gets its number when it is first handed to a carrier, and is kept until the peer has
acknowledged it, so that another carrier can bring it again.

The states:

* ``DETACHED``: the handler runs, and no carrier is attached. A session begins here, before its first carrier is
  accepted.
* ``ATTACHED``: the handler runs, and a carrier is attached.
* ``LINGERING``: the handler has ended. The peer has not yet confirmed that it knows, so the session waits for it,
  with or without a carrier, with what is still unacknowledged and with the goodbye.
* ``OVER``: the conversation is over; nothing of it is known any more but its names.

Which carrier counts is a matter of attempts: a client numbers its attempts, and the newest one that was admitted has
the session. From the moment it is admitted, nothing of an older carrier is counted or delivered.

Does not write, does not wait, and takes the time as an argument. ``docs/protocol.md`` has the rules and their reasons;
they follow XEP-0198 (XMPP stream management) in counting and SignalR's stateful reconnect in the rest.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple, Protocol

from .frames import Block, Outgoing
from .limits import TokenBucket
from .protocol import Ack, Again, Bye, Control, Gap, Offer, Ping, Pong, ViolationError, parse_control
from .queue import OutboundQueue
from .unacknowledged import Kept, Unacknowledged

__all__ = ["STATES", "Ending", "FloodError", "Handed", "Refusal", "Session", "SessionState", "SessionStep", "ending_of"]

MOST_ACK_MESSAGES = 64
MOST_ACK_BYTES = 65536
"""An acknowledgement is due after this much, or after a quarter of the window if that is less."""
IDLE_CONTROLS_BURST = 100
IDLE_CONTROLS_PER_SECOND = 10.0
"""Control messages that acknowledge nothing new."""


class SessionState(Enum):
    """State of a session."""

    # Identity is enough, because members are singletons, and Enum computes its own hash in Python from the name.
    __hash__ = object.__hash__

    DETACHED = auto()
    ATTACHED = auto()
    LINGERING = auto()
    OVER = auto()


class SessionStep(Enum):
    """A step in the life of a session."""

    __hash__ = object.__hash__

    ATTACH = auto()
    """The newest carrier is accepted."""
    DETACH = auto()
    """The carrier has ended, or a newer one was admitted."""
    HANDLER_ENDED = auto()
    """The handler has returned, raised or closed."""
    END = auto()
    """Nobody waits for the other side any more."""


STATES: dict[SessionState, dict[SessionStep, SessionState]] = {
    SessionState.DETACHED: {
        SessionStep.ATTACH: SessionState.ATTACHED,
        SessionStep.HANDLER_ENDED: SessionState.LINGERING,
        SessionStep.END: SessionState.OVER,
    },
    SessionState.ATTACHED: {
        SessionStep.DETACH: SessionState.DETACHED,
        SessionStep.HANDLER_ENDED: SessionState.LINGERING,
        SessionStep.END: SessionState.OVER,
    },
    SessionState.LINGERING: {
        SessionStep.ATTACH: SessionState.LINGERING,
        SessionStep.DETACH: SessionState.LINGERING,
        SessionStep.END: SessionState.OVER,
    },
    SessionState.OVER: {},
}
"""The state after a step, by the state before it. A step that is not in the row is illegal."""


class FloodError(Exception):
    """The peer sends control messages that acknowledge nothing, faster than anybody needs; 1008."""


class Refusal(NamedTuple):
    """Why an offer is refused.

    Args:
        why: the reason in one word, for events and logs.
        again: whether its client begins anew.
    """

    why: str
    again: Again


class Ending(Enum):
    """What the end of a carrier means for its session."""

    OVER = "over"
    """The session ends."""
    RELOAD = "reload"
    """The page is being left, and may come back at once: the session waits for the shorter window."""
    WINDOW = "window"
    """The session waits for the window."""


NO_CODE = 1005
"""A close frame without a code (RFC 6455 section 7.1.5)."""
OWN_ERRORS = frozenset({1002, 1003, 1007, 1009})
"""Codes with which a server answers what the peer sent: the same bytes would come again after a resume."""


def ending_of(code: int, by_server: bool) -> Ending:
    """What the end of a carrier means for its session.

    Args:
        code: the close code; 1005 for a close without one, 1006 for no close at all.
        by_server: whether the server closed by itself, because of what the peer sent.
    """
    if by_server:
        return Ending.OVER if code in OWN_ERRORS else Ending.WINDOW
    if code == 1000 or 3000 <= code <= 4999:
        return Ending.OVER
    return Ending.RELOAD if code == 1001 else Ending.WINDOW


class Handed(Protocol):
    """What was handed to carriers for the first time; the sender counts it.

    Attributes:
        messages: how many messages.
        bytes: their payload.
    """

    messages: int
    bytes: int


class Session:
    """One session.

    Args:
        name: the server's name of it; secret.
        begun_as: the client's name of it; secret.
        attempt: number of the attempt that began it.
        handed: counts what is handed to carriers.
        queue: the messages that have no number yet.
        max_messages: messages that may be unacknowledged.
        max_bytes: their payload in bytes; a larger message passes when there is no other.

    Attributes:
        state: see `SessionState`.
        attached: whether a carrier is attached.
        attempt: number of the newest attempt that was admitted.
        received: data messages that arrived, whatever became of them.
        confirmed: whether the client has confirmed a hello, by any message.
        unacknowledged: what has a number and is kept.
        goodbye: what the client is told when everything else was handed over; ``None`` while the handler runs.
        replayed: messages that were handed over again.
    """

    __slots__ = (
        "_acknowledged",
        "_bytes_since_ack",
        "_goodbye_said",
        "_handed",
        "_heard_data",
        "_idle_controls",
        "_max_bytes",
        "_max_messages",
        "_queue",
        "_replaying",
        "_told_lost",
        "attached",
        "attempt",
        "begun_as",
        "confirmed",
        "goodbye",
        "name",
        "received",
        "replayed",
        "state",
        "unacknowledged",
    )

    def __init__(
        self,
        name: str,
        begun_as: str,
        attempt: int,
        handed: Handed,
        queue: OutboundQueue[Outgoing],
        *,
        max_messages: int,
        max_bytes: int,
    ) -> None:
        self.name = name
        self.begun_as = begun_as
        self.attempt = attempt
        self._handed = handed
        self._queue = queue
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.state = SessionState.DETACHED
        self.attached = self.confirmed = False
        self.received = self.replayed = 0
        self.unacknowledged: Unacknowledged[Outgoing] = Unacknowledged()
        self.goodbye: Bye | None = None
        self._goodbye_said = False
        self._replaying: int | None = None
        self._told_lost = 0
        self._acknowledged = self._bytes_since_ack = 0
        self._idle_controls: TokenBucket | None = None
        self._heard_data = False

    def __repr__(self) -> str:
        return f"<Session [{self.state.name.lower()} | {self.received} received, {self._handed.messages} sent]>"

    @property
    def said_goodbye(self) -> bool:
        """Whether the goodbye was handed to the attached carrier, so that nothing may follow on it."""
        return self._goodbye_said

    @property
    def lost(self) -> int:
        """How many messages policies have dropped before they got a number."""
        return self._queue.dropped

    @property
    def ack_due(self) -> tuple[int, int]:
        """Messages and bytes after which an acknowledgement is due."""
        return (
            max(1, min(MOST_ACK_MESSAGES, self._max_messages // 4)),
            max(1, min(MOST_ACK_BYTES, self._max_bytes // 4)),
        )

    # Offers.

    def refusal_of(self, offer: Offer) -> Refusal | None:
        """Why an offer cannot have this session; ``None`` if it can."""
        again: Again = None if offer.next is None else "new"
        if offer.attempt <= self.attempt:
            # Its client has given it up for a newer attempt.
            return Refusal("late", again)
        if offer.session is None:
            # A client that has had a hello takes another name for the next session.
            known = not self.received and not self.unacknowledged.messages
        else:
            known = self.unacknowledged.messages <= offer.received <= self._handed.messages
        return None if known else Refusal("counter", again)

    def admit(self, attempt: int) -> None:
        """A newer attempt has the session: nothing of the older carrier counts from now on."""
        self.attempt = attempt
        self.detach()

    # Carriers.

    def attach(self, received: int) -> None:
        """The newest carrier is accepted, and its client is told so.

        Args:
            received: how many data messages the client has received.
        """
        self._fire(SessionStep.ATTACH)
        self.attached = True
        self.unacknowledged.acknowledge(received)
        self._replaying = received if self.unacknowledged else None
        # A hello tells both.
        self._told_lost = self.lost
        self._acknowledge_now()
        self._goodbye_said = False
        self._idle_controls = None

    def detach(self) -> None:
        """The carrier is gone."""
        if self.attached:
            self._fire(SessionStep.DETACH)
            self.attached = False
            self._replaying = None

    def handler_ended(self, goodbye: Bye) -> None:
        """The handler has ended: what is queued still goes out, then the goodbye."""
        if self.goodbye is None and self.state is not SessionState.OVER:
            self._fire(SessionStep.HANDLER_ENDED)
            self.goodbye = goodbye

    def closed(self, code: int, by_server: bool) -> Ending:
        """The attached carrier has ended; what that means for the session.

        Args:
            code: the close code; 1005 for a close without one, 1006 for no close at all.
            by_server: whether the server closed by itself, because of what the peer sent.
        """
        answers = self._goodbye_said and code == NO_CODE and not by_server
        if answers and self.goodbye is not None and self.goodbye.again is not None and not self.unacknowledged:
            # A client that gave up the socket unread closes in the same way. It has all messages, and when it comes
            # back, it is told to begin anew, as the goodbye said.
            return Ending.OVER
        return ending_of(code, by_server)

    def end(self) -> None:
        """The conversation is over, for whatever reason."""
        if self.state is not SessionState.OVER:
            self._fire(SessionStep.END)
            self.attached = False
            self._replaying = None
            self.unacknowledged.clear()

    # What arrives. Callers pass what came on the newest carrier, and nothing else.

    def hear_data(self, size: int, quiet: bool = False) -> Ack | None:
        """A data message has arrived; count it before any policy looks at it.

        Args:
            size: its payload in bytes.
            quiet: whether the server has sent nothing for long, so that a client which only talks learns nothing.

        Returns:
            The acknowledgement, if one is due.
        """
        self.confirmed = self._heard_data = True
        self.received += 1
        self._bytes_since_ack += size
        messages, size = self.ack_due
        if quiet or self.received - self._acknowledged >= messages or self._bytes_since_ack >= size:
            return Ack(self._acknowledge_now())
        return None

    def hear_control(self, text: str, now: float) -> Control | None:
        """A control message has arrived.

        Args:
            text: the message.
            now: seconds.

        Returns:
            The message; ``None`` for one whose type is not known. A `Ping` waits for a `pong`.

        Raises:
            ViolationError: it breaks the protocol.
            FloodError: too many of them neither acknowledge anything new nor follow data.
        """
        message = parse_control(text)
        self.confirmed = True
        # A client whose own window is full asks for an acknowledgement, again and again.
        news, self._heard_data = self._heard_data, False
        if isinstance(message, Ack | Ping | Pong):
            news = self.hear_ack(message.received) or news
        if not news and self._idle_bucket().take(1, now):
            raise FloodError
        return message

    def hear_ack(self, received: int) -> bool:
        """The client has received so many data messages; whether that is news.

        Raises:
            ViolationError: so many were never sent.
        """
        if received > self._handed.messages:
            raise ViolationError("acknowledgement of what was not sent")
        news = received > self.unacknowledged.messages
        self.unacknowledged.acknowledge(received)
        return news

    # What leaves.

    def takes(self, size: int) -> bool:
        """Whether a new message of so many bytes may be handed over now, past the queue."""
        return self.has_room and not self._queue and self._fits(size)

    def keep(self, kept: Kept[Outgoing]) -> None:
        """Keep what was just handed over for the first time."""
        self.unacknowledged.keep(kept)

    def ping(self) -> Ping:
        """Ask whether the client is there."""
        return Ping(self._acknowledge_now())

    def pong(self) -> Pong:
        """Answer a ping."""
        return Pong(self._acknowledge_now())

    @property
    def has_room(self) -> bool:
        """Whether the smallest message could be handed over now, if none were queued."""
        return self.attached and self._replaying is None and self._told_lost == self._queue.dropped and self._fits(0)

    def next(self, max_bytes: int) -> list[Outgoing]:
        """What to hand to the carrier next: first the replay, then what is queued, then the goodbye.

        Messages that get their number thereby are counted and kept.

        Args:
            max_bytes: payload bytes at a time; a larger message comes alone.

        Returns:
            The messages, control messages among them; empty if nothing can be handed over now.
        """
        if not self.attached:
            return []
        if self._replaying is not None:
            again = self.unacknowledged.after(self._replaying, max_bytes)
            if again:
                self._replaying = max(self._replaying, self.unacknowledged.messages) + len(again)
                self.replayed += len(again)
                return again
            self._replaying = None
        fresh = self._take(max_bytes)
        if self._queue and not fresh:
            return []
        if fresh:
            block = Block(fresh)
            self._handed.messages += block.count
            self._handed.bytes += block.size
            self.keep(block)
        elif self.goodbye is not None and not self._goodbye_said:
            self._goodbye_said = True
            return [*self._gap(), Outgoing(str(self.goodbye))]
        return [*self._gap(), *fresh]

    def _take(self, max_bytes: int) -> list[Outgoing]:
        if not self._queue:
            return []
        if not self.unacknowledged:
            return self._queue.take(min(max_bytes, self._max_bytes), self._max_messages)
        room = self._max_messages - (self._handed.messages - self.unacknowledged.messages)
        size = self._max_bytes - (self._handed.bytes - self.unacknowledged.bytes)
        return self._queue.take(min(max_bytes, size), room, alone=False) if room > 0 else []

    def _fits(self, size: int) -> bool:
        """Whether the window has room for one more message; it always has when nothing is unacknowledged."""
        kept = self.unacknowledged
        return not kept or (
            self._handed.messages - kept.messages < self._max_messages
            and self._handed.bytes - kept.bytes + size <= self._max_bytes
        )

    def _gap(self) -> list[Outgoing]:
        """What tells of the messages that were dropped since the client was last told."""
        if self._told_lost == self.lost:
            return []
        self._told_lost = self.lost
        return [Outgoing(str(Gap(self.lost)))]

    def _acknowledge_now(self) -> int:
        self._acknowledged, self._bytes_since_ack = self.received, 0
        return self.received

    def _idle_bucket(self) -> TokenBucket:
        if self._idle_controls is None:
            self._idle_controls = TokenBucket(IDLE_CONTROLS_PER_SECOND, IDLE_CONTROLS_BURST)
        return self._idle_controls

    def _fire(self, step: SessionStep) -> None:
        after = STATES[self.state].get(step)
        if after is None:
            raise RuntimeError(f"{step.name} is illegal in {self!r}")
        self.state = after
