"""Machine: the client's side of wsstab.v1, from the first attempt to the last close.

Events go in as method calls, and each returns the actions that follow from it. Whoever runs the machine carries them
out in their order, and calls `ClientMachine.tick` when `ClientMachine.deadline` has come. Attempts are numbered, and
what concerns an older one is ignored: a socket that was given up may still speak.

The main path: `connect` asks for a carrier, `opened` says that it is there, `heard` brings the server's hello, then its
messages; `send` hands messages over, or keeps them while there is no carrier. When a carrier has `ended`, the next
attempt is planned, and the next hello says what the server has, so that the rest is sent again.

Does no I/O, reads no clock, draws no chance, keeps no log. ``docs/protocol.md`` has the rules and their reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..core import protocol
from ..core.protocol import (
    SUBPROTOCOL,
    Ack,
    Bye,
    Control,
    Hello,
    Outcome,
    Ping,
    Pong,
    ViolationError,
    escaped,
    is_control,
    parse_control,
    unescaped,
)
from .actions import (
    Action,
    CloseCarrier,
    Closed,
    Connect,
    Deliver,
    Detached,
    Full,
    Gap,
    Lost,
    Message,
    Opened,
    Plain,
    Resumed,
    Room,
    Send,
)
from .backoff import Backoff
from .endings import NORMAL, PROTOCOL_ERROR, Close, is_final
from .heartbeat import Heartbeat, Timeouts
from .life import Life
from .negotiation import Negotiation
from .outbox import Outbox, size_of
from .states import STATES, ClientState, ClientStep

__all__ = ["ClientMachine"]

HELD = 5.0
"""Seconds after which a carrier was a success: a server that accepts and fails at once must not be hammered."""
MOST_NONSENSE = 3
"""Carriers in a row on which a server may break the protocol."""

SPEAKING = frozenset({ClientState.GREETING, ClientState.ATTACHED, ClientState.PLAIN, ClientState.CLOSING})
"""States in which the server may say something."""
FAILED = frozenset({ClientState.CONNECTING, ClientState.GREETING})
"""States in which the end of a carrier says that the attempt has failed."""
USABLE = frozenset({ClientState.ATTACHED, ClientState.PLAIN})
"""States in which messages are handed over."""


class ClientMachine:
    """One client of wsstab.v1.

    Args:
        new_name: makes a name for a session, 22 characters of base64url that nobody can guess.
        chance: draws a number from 0 to 1.
        subprotocols: subprotocols of the application, in the order of its preference.
        max_messages: messages that are kept at most, unsent or unacknowledged.
        max_bytes: their payload in bytes; one message that is larger is taken when there is no other.
        min_delay: seconds below which the delay before the next attempt is drawn at first.
        max_delay: seconds below which it is drawn after many failures.
        timeouts: how long the server may take.

    Attributes:
        state: see `ClientState`.
        attempt: number of the newest attempt, and so of the carrier; 0 before the first.

    Raises:
        ValueError: an argument out of its range, or a subprotocol that begins with ``wsstab.``.
    """

    def __init__(
        self,
        new_name: Callable[[], str],
        chance: Callable[[], float],
        subprotocols: Sequence[str] = (),
        *,
        max_messages: int = 1000,
        max_bytes: int = 1024 * 1024,
        min_delay: float = 0.5,
        max_delay: float = 20.0,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.state = ClientState.DETACHED
        self.attempt = 0
        self._timeouts = timeouts or Timeouts()
        self._negotiation = Negotiation(subprotocols)
        self._backoff = Backoff(chance, min_delay, max_delay)
        self._heartbeat = Heartbeat(self._timeouts.probe)
        self._outbox = Outbox(max_messages, max_bytes)
        self._life = Life(new_name, self._outbox)
        # What the server said last.
        self._hello: Hello | None = None
        self._nonsense = 0
        # The carrier.
        self._plain = False
        self._begun_at: float | None = None
        self._ended_at = 0.0
        # The application.
        self._refused = False
        self._close: Close | None = None
        self._over_at: float | None = None
        # What this event leads to.
        self._on_carriers: list[Action] = []
        self._told: list[Action] = []

    def __repr__(self) -> str:
        return f"<ClientMachine [{self.state.name.lower()} | {self.received} received, {self._outbox.sent} sent]>"

    @property
    def deadline(self) -> float | None:
        """When `tick` is due, in seconds; ``None`` for never."""
        deadlines = (self._backoff.due, self._heartbeat.deadline, self._over_at)
        return min((each for each in deadlines if each is not None), default=None)

    @property
    def received(self) -> int:
        """Data messages of this life that have arrived."""
        return self._life.received

    @property
    def kept(self) -> int:
        """Messages of the application that are unsent or unacknowledged."""
        return len(self._outbox)

    @property
    def latency(self) -> float | None:
        """Seconds from the last ping to its answer; ``None`` before the first answer."""
        return self._heartbeat.latency

    # What the application does.

    def connect(self, now: float) -> list[Action]:
        """Begin an attempt now: the first one, one before its time, or one in place of a carrier that looks alive.

        Args:
            now: seconds.
        """
        if self.state is not ClientState.CLOSED:
            before = self._let_go(now)
            self._tell_detached(before, None)
            if self._is_over():
                self._finish(NORMAL, "")
            else:
                self._begin_attempt(now)
        return self._actions()

    def send(self, message: Message, now: float) -> list[Action]:
        """Send a message, or keep it until there is a carrier.

        Args:
            message: the message.
            now: seconds.

        Returns:
            The actions, among them `Full` if the message was not taken.

        Raises:
            RuntimeError: after the close.
            ValueError: text that UTF-8 cannot encode, or more bytes than the server takes.
        """
        if self._close is not None or self.state is ClientState.CLOSED:
            raise RuntimeError(f"send after the close: {self!r}")
        size = size_of(message)
        if self._hello is not None and self._hello.max is not None and size > self._hello.max:
            raise ValueError(f"message of {size} bytes: the server takes {self._hello.max} at most")
        if self._outbox.fits(size):
            self._outbox.put(message, size)
            self._hand_over(now)
        else:
            self._refused = True
            self._told.append(Full())
            self._ask_for_room(now)
        return self._actions()

    def close(self, now: float, code: int = NORMAL, reason: str = "") -> list[Action]:
        """Close behind all that was sent. `Closed` follows when the server has answered.

        The client comes back if the carrier ends before, but not for longer than the server keeps the session.

        Args:
            now: seconds.
            code: 1000, or 3000 to 4999.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: another code, or a longer reason.
        """
        close = Close(code, reason)
        close.check()
        if self._close is None and self.state is not ClientState.CLOSED:
            self._close = close
            self._limit_close(now)
            if self.state in USABLE:
                self._hand_over(now)
            elif self._is_over():
                self._let_go(now)
                self._finish(code, reason)
        return self._actions()

    def wake(self, now: float) -> list[Action]:
        """This process may have slept, or the network may have changed.

        A carrier is asked whether it is alive, and has little time to answer. Without one, the next attempt is made
        now, unless the server has told when.

        Args:
            now: seconds.
        """
        if self.state is ClientState.ATTACHED:
            self._probe(now)
        elif self._backoff.may_hurry():
            self._begin_attempt(now)
        return self._actions()

    # What time does.

    def tick(self, now: float) -> list[Action]:
        """Do what is due.

        Args:
            now: seconds.
        """
        if _is_due(self._over_at, now):
            self._let_go(now)
            self._finish(NORMAL, "")
        elif _is_due(self._backoff.due, now):
            self._begin_attempt(now)
        elif _is_due(self._heartbeat.deadline, now):
            if self.state is ClientState.ATTACHED and self._heartbeat.overslept(now):
                self._probe(now)
            else:
                self._give_up(now)
        return self._actions()

    # What carriers do.

    def opened(self, attempt: int, subprotocol: str | None, now: float) -> list[Action]:
        """The handshake is complete.

        Args:
            attempt: number of the carrier.
            subprotocol: the one that the server selected; ``None`` for none.
            now: seconds.
        """
        if attempt == self.attempt and self.state is ClientState.CONNECTING:
            if subprotocol == SUBPROTOCOL:
                self._fire(ClientStep.OPEN)
                self._heartbeat.expect(now, self._timeouts.hello)
            elif self._negotiation.spoken:
                self._give_up(now)
            else:
                self._open_plain(subprotocol, now)
        return self._actions()

    def heard(self, attempt: int, message: Message, now: float) -> list[Action]:
        """A message has arrived.

        Args:
            attempt: number of the carrier.
            message: the message as it travelled.
            now: seconds.
        """
        if attempt == self.attempt and self.state in SPEAKING:
            try:
                self._hear(message, now)
            except ViolationError as violation:
                self._reject(str(violation), now)
        return self._actions()

    def ended(self, attempt: int, code: int | None, reason: str, clean: bool, now: float) -> list[Action]:
        """A carrier has ended, or its handshake has failed.

        Args:
            attempt: number of the carrier.
            code: code of the server's close frame; ``None``, 1005 or 1006 for none.
            reason: its reason.
            clean: whether both sides have sent a close frame.
            now: seconds.
        """
        if attempt == self.attempt and self.state not in (ClientState.DETACHED, ClientState.CLOSED):
            before = self._lose(now)
            if before is ClientState.CLOSING and self._is_answer(code, clean):
                # What was sent before the close has arrived with it.
                self._outbox.acknowledge(self._outbox.sent)
                self._finish(NORMAL, "")
            elif code is not None and before is not ClientState.CONNECTING and is_final(code, self._plain):
                self._finish(code, reason)
            else:
                self._come_back(before, code, now)
        return self._actions()

    # Messages of the server.

    def _hear(self, message: Message, now: float) -> None:
        if self._plain:
            self._told.append(Deliver(message))
            return
        if self.state is ClientState.ATTACHED:
            self._heartbeat.hear(now)
        if isinstance(message, str) and is_control(message):
            self._hear_control(parse_control(message), now)
        else:
            self._hear_data(message)

    def _hear_data(self, message: Message) -> None:
        self._require_hello()
        due = self._life.hear_data(message)
        if due and self.state is ClientState.ATTACHED:
            self._say(self._life.acknowledgement())
        self._told.append(Deliver(unescaped(message) if isinstance(message, str) else message))

    def _hear_control(self, message: Control | None, now: float) -> None:
        if isinstance(message, Hello):
            self._hear_hello(message, now)
        elif isinstance(message, Bye):
            self._hear_bye(message, now)
        elif isinstance(message, protocol.Gap):
            self._require_hello()
            self._hear_lost(message.lost)
        elif message is not None:
            self._require_hello()
            self._hear_acknowledgement(message, now)

    def _hear_acknowledgement(self, message: Ack | Ping | Pong, now: float) -> None:
        if self._life.hear_acknowledgement(message.received):
            self._tell_room()
        if isinstance(message, Ping) and self.state is ClientState.ATTACHED:
            self._say(self._life.pong())
        elif isinstance(message, Pong):
            self._heartbeat.pong(now)
            if self._refused or self._outbox.full:
                self._ask_for_room(now)

    def _hear_lost(self, total: int | None) -> None:
        if lost := self._life.hear_lost(total):
            self._told.append(Gap(lost))

    def _hear_hello(self, hello: Hello, now: float) -> None:
        if self.state is not ClientState.GREETING:
            raise ViolationError("second hello")
        self._negotiation.spoken = True
        if hello.outcome is Outcome.FRESH:
            self._begin_life(hello.session)
        if not self._life.agrees(hello):
            self._begin_life(None)
            raise ViolationError("hello of another session")
        self._attach(hello, now)

    def _attach(self, hello: Hello, now: float) -> None:
        self._fire(ClientStep.HELLO)
        self._hello, self._begun_at, self._life.ack = hello, now, hello.ack
        self._heartbeat.watch(now, hello.ping, hello.timeout)
        self._limit_close(now)
        if self._life.hear_acknowledgement(hello.received):
            self._tell_room()
        self._say(self._life.acknowledgement())
        replay = self._outbox.unacknowledged()
        self._send(replay)
        self._tell_attached(hello, now, len(replay))
        self._hand_over(now)

    def _tell_attached(self, hello: Hello, now: float, replayed: int) -> None:
        if hello.outcome is Outcome.FRESH:
            self._told.append(Opened(hello.protocol, hello.why))
        else:
            self._told.append(Resumed(now - self._ended_at, replayed, hello.outcome))
        self._hear_lost(hello.lost)

    def _hear_bye(self, bye: Bye, now: float) -> None:
        self._negotiation.spoken = True
        if self.state is ClientState.CLOSING:
            # Both let go at once. The answer to the close decides, or what the next attempt is told.
            return
        if self.state is ClientState.ATTACHED:
            self._say(self._life.acknowledgement())
        before = self._let_go(now, NORMAL if bye.again is None else None)
        if bye.again is None:
            self._finish(bye.code, bye.reason)
            return
        if bye.again == "new":
            self._begin_life(None)
        self._come_back(before, bye.code, now, bye.retry_after)

    def _require_hello(self) -> None:
        if self.state is ClientState.GREETING:
            raise ViolationError("message before hello")

    def _reject(self, violation: str, now: float) -> None:
        before = self._let_go(now, PROTOCOL_ERROR, violation)
        # A server that selects whatever is offered first does not speak wsstab.v1, and cannot break it.
        if self._negotiation.spoken:
            self._nonsense += 1
        if self._nonsense >= MOST_NONSENSE:
            self._finish(PROTOCOL_ERROR, violation)
        else:
            self._come_back(before, PROTOCOL_ERROR, now)

    # Messages to the server.

    def _hand_over(self, now: float) -> None:
        """Send what is unsent, and behind it the close, if the application has closed."""
        if self.state not in USABLE:
            return
        self._send(self._outbox.take())
        # On an ordinary WebSocket nobody acknowledges.
        if self._plain and self._outbox.acknowledge(self._outbox.sent):
            self._tell_room()
        if self._close is not None:
            self._fire(ClientStep.CLOSE)
            self._heartbeat.expect(now, self._timeouts.close)
            self._on_carriers.append(CloseCarrier(self.attempt, *self._close))
        elif self._outbox.full:
            self._ask_for_room(now)

    def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            travels = escaped(message) if isinstance(message, str) and not self._plain else message
            self._on_carriers.append(Send(self.attempt, travels))

    def _say(self, message: Control) -> None:
        self._on_carriers.append(Send(self.attempt, str(message)))

    def _ask_for_room(self, now: float) -> None:
        # A server takes pings that acknowledge nothing new for a flood when there are many.
        if not self._life.acknowledgement_comes:
            self._ping(now)

    def _probe(self, now: float) -> None:
        self._heartbeat.probe(now)
        self._ping(now)

    def _ping(self, now: float) -> None:
        if self.state is ClientState.ATTACHED and not self._heartbeat.waits_for_pong:
            self._heartbeat.ping(now)
            self._say(self._life.ping())

    # Carriers.

    def _begin_attempt(self, now: float) -> None:
        self._fire(ClientStep.CONNECT)
        self.attempt += 1
        self._plain = False
        self._backoff.stop()
        self._heartbeat.expect(now, self._timeouts.handshake)
        offer = self._life.offer(self.attempt, closing=self._close is not None)
        self._on_carriers.append(Connect(self.attempt, self._negotiation.offers(offer)))

    def _open_plain(self, subprotocol: str | None, now: float) -> None:
        self._fire(ClientStep.OPEN_PLAIN)
        self._plain, self._begun_at = True, now
        self._negotiation.succeeded()
        self._heartbeat.stop()
        self._told.append(Plain(subprotocol))
        self._hand_over(now)

    def _give_up(self, now: float) -> None:
        """Let go of a carrier that does not do what it should, and plan the next one."""
        before = self._let_go(now)
        self._come_back(before, None, now)

    def _let_go(self, now: float, code: int | None = None, reason: str = "") -> ClientState:
        """Close the carrier, if there is one, and hear no more of it.

        Args:
            now: seconds.
            code: close code; ``None`` for none.
            reason: its reason.

        Returns:
            The state before.
        """
        if self.state is ClientState.DETACHED:
            return self.state
        if self.state is ClientState.CLOSING:
            # The application's close was sent already; this one only says that nobody waits for its answer.
            code, reason = None, ""
        self._on_carriers.append(CloseCarrier(self.attempt, code, reason))
        return self._lose(now)

    def _lose(self, now: float) -> ClientState:
        """The carrier is gone; returns the state before."""
        before = self.state
        self._fire(ClientStep.LOSE)
        self._heartbeat.stop()
        if self._begun_at is not None:
            self._ended_at = now
            if now - self._begun_at >= HELD:
                self._backoff.reset()
                self._nonsense = 0
        self._begun_at = None
        return before

    def _come_back(self, before: ClientState, code: int | None, now: float, slot: int | None = None) -> None:
        """Plan the next attempt after the end of a carrier.

        Args:
            before: the state before it ended.
            code: its close code, or that of the bye.
            now: seconds.
            slot: milliseconds after which the server expects the client; ``None`` for the client's own back-off.
        """
        if before in FAILED:
            self._negotiation.failed()
        self._tell_detached(before, code)
        if self._is_over():
            self._finish(NORMAL, "")
        else:
            self._backoff.plan(now, slot)

    # The end.

    def _begin_life(self, session: str | None) -> None:
        if lost := self._life.begin(session):
            self._told.append(Lost(tuple(lost)))
            self._tell_room()

    def _is_over(self) -> bool:
        """Whether the application has closed, and there is neither a session to end nor anything left to say."""
        return self._close is not None and self._life.session is None and not self._outbox

    def _is_answer(self, code: int | None, clean: bool) -> bool:
        """Whether the end of a carrier ends the close; on an ordinary WebSocket any end does."""
        return self._plain or (self._close is not None and self._close.is_answered_by(code, clean))

    def _limit_close(self, now: float) -> None:
        """A close is over when the server has forgotten the session, or has had time for one attempt."""
        if self._close is not None:
            times = self._timeouts
            window = 0.0 if self._hello is None else self._hello.window / 1000
            self._over_at = now + max(window, times.handshake + times.hello + times.close)

    def _finish(self, code: int, reason: str) -> None:
        """There will be no other carrier; the code and the reason are for an application that has not closed."""
        self._fire(ClientStep.END)
        self._backoff.stop()
        self._over_at = None
        self._outbox.take()
        if lost := self._outbox.begin_anew():
            self._told.append(Lost(tuple(lost)))
        self._told.append(Closed(*(self._close or (code, reason))))

    # Actions.

    def _tell_detached(self, before: ClientState, code: int | None) -> None:
        if before in USABLE:
            self._told.append(Detached(code))

    def _tell_room(self) -> None:
        if self._refused:
            self._refused = False
            self._told.append(Room())

    def _actions(self) -> list[Action]:
        # What the application does when it is told must not come between what was sent before.
        actions = self._on_carriers + self._told
        self._on_carriers, self._told = [], []
        return actions

    def _fire(self, step: ClientStep) -> None:
        after = STATES[self.state].get(step)
        if after is None:
            raise RuntimeError(f"{step.name} is illegal in {self!r}")
        self.state = after


def _is_due(deadline: float | None, now: float) -> bool:
    return deadline is not None and now >= deadline
