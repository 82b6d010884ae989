"""The deadlines of a connection, by examples and against a model that keeps the whole history."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wsstab.core.deadlines import Action, Deadlines


def build(now: float = 0.0, **options: Any) -> Deadlines:
    """Deadlines of a connection that opened at ``now``."""
    deadlines = Deadlines(now, **options)
    deadlines.opened(now)
    return deadlines


def drive(deadlines: Deadlines, until: float, now: float = 0.0, answer: float | None = None) -> list[tuple[float, str]]:
    """Call ``decide`` whenever ``next`` says so, and return what was due and when.

    Args:
        deadlines: of an open connection.
        until: the time at which to stop.
        now: the time at which to begin.
        answer: seconds after which the peer answers a ping; ``None`` for never.
    """
    happened: list[tuple[float, str]] = []
    answer_at: float | None = None
    while (due := deadlines.next(now)) is not None and due <= until:
        if answer_at is not None and answer_at <= due:
            deadlines.heard_at, answer_at = answer_at, None
        now = due
        action = deadlines.decide(now)
        if action is Action.PING and answer is not None:
            answer_at = now + answer
        if action is not Action.NOTHING:
            happened.append((now, action.value))
        if action not in (Action.NOTHING, Action.PING):
            break
    return happened


def test_without_deadlines_nothing_is_ever_due() -> None:
    """This holds before the handshake and after it."""
    deadlines = Deadlines(0.0)
    assert (deadlines.next(0.0), deadlines.decide(1e9)) == (None, Action.NOTHING)
    deadlines.opened(1e9)
    assert (deadlines.next(1e9), deadlines.decide(2e9)) == (None, Action.NOTHING)


def test_the_heartbeat_runs_while_it_has_an_interval_and_is_not_stopped() -> None:
    """An application protocol may turn out to leave no room for our heartbeat messages."""
    deadlines = build(heartbeat_interval=5.0)
    assert deadlines.beats
    deadlines.stop_heartbeat()
    assert (deadlines.beats, deadlines.next(0.0), build().beats) == (False, None, False)


def test_a_ping_is_unanswered_until_anything_arrives() -> None:
    """Before the first ping, nothing is unanswered."""
    deadlines = build(heartbeat_interval=10.0)
    assert not deadlines.unanswered
    assert deadlines.decide(10.0) is Action.PING
    assert deadlines.unanswered
    deadlines.heard_at = 10.0
    assert not deadlines.unanswered


def test_a_handshake_times_out_exactly_at_its_deadline() -> None:
    """No other deadline counts until the handshake is complete."""
    deadlines = Deadlines(5.0, accept_timeout=10.0, heartbeat_interval=1.0, idle_timeout=1.0, max_age=1.0)
    assert deadlines.next(5.0) == 15.0
    assert deadlines.decide(14.75) is Action.NOTHING
    assert deadlines.decide(15.0) is Action.NOT_ACCEPTED


def test_a_completed_handshake_ends_its_deadline() -> None:
    """After the accept, ``accept_timeout`` has no effect."""
    deadlines = Deadlines(0.0, accept_timeout=10.0)
    deadlines.opened(9.0)
    assert (deadlines.next(9.0), deadlines.decide(100.0)) == (None, Action.NOTHING)


def test_all_deadlines_of_an_open_connection_begin_with_the_handshake() -> None:
    """The time before the accept counts neither as silence, nor as idleness, nor as age."""
    deadlines = Deadlines(0.0, heartbeat_interval=30.0, idle_timeout=50.0, max_age=70.0)
    deadlines.opened(1000.0)
    assert deadlines.next(1000.0) == 1030.0
    assert deadlines.decide(1029.75) is Action.NOTHING
    assert deadlines.decide(1030.0) is Action.PING
    assert deadlines.decide(1050.0) is Action.IDLE
    assert deadlines.decide(1070.0) is Action.TOO_OLD


def test_a_ping_is_sent_after_an_interval_of_silence() -> None:
    """Traffic postpones it, and no second ping is sent while the first is unanswered."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=60.0)
    deadlines.heard_at = 20.0
    assert deadlines.next(20.0) == 50.0
    assert deadlines.decide(30.0) is Action.NOTHING
    assert deadlines.decide(50.0) is Action.PING
    assert deadlines.ping_at == 50.0
    assert deadlines.decide(80.0) is Action.NOTHING


def test_a_peer_is_dead_when_nothing_arrives_for_the_timeout_after_a_ping() -> None:
    """The timeout begins with the ping, not with the silence."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=60.0)
    assert drive(deadlines, 1000.0) == [(30.0, "ping"), (90.0, "dead")]


def test_the_timeout_may_be_shorter_than_the_interval() -> None:
    """The two options are independent of each other."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=5.0)
    assert drive(deadlines, 1000.0) == [(30.0, "ping"), (35.0, "dead")]


def test_any_sign_of_life_answers_a_ping() -> None:
    """So does data that arrives at the very moment of the ping."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=60.0)
    deadlines.decide(30.0)
    deadlines.heard_at = 30.0
    assert deadlines.decide(59.75) is Action.NOTHING
    assert deadlines.ping_at is None
    assert deadlines.next(59.75) == 60.0
    assert deadlines.decide(60.0) is Action.PING


def test_an_answer_in_time_counts_although_it_is_noticed_late() -> None:
    """The peer answered within its timeout; the delay in looking is ours."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=5.0)
    deadlines.decide(30.0)
    deadlines.heard_at = 34.0
    assert deadlines.decide(500.0) is Action.PING
    assert deadlines.ping_at == 500.0


def test_silence_does_not_count_while_the_socket_is_not_read() -> None:
    """The timeout of a ping starts again when the socket is read again."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=60.0)
    deadlines.decide(30.0)
    assert deadlines.decide(1000.0, reading=False) is Action.NOTHING
    assert deadlines.decide(1059.75) is Action.NOTHING
    assert deadlines.decide(1060.0) is Action.DEAD


def test_a_ping_is_sent_although_the_socket_is_not_read() -> None:
    """The ping keeps proxies from closing the connection, even if its answer cannot be seen."""
    deadlines = build(heartbeat_interval=30.0)
    assert deadlines.decide(30.0, reading=False) is Action.PING


def test_pongs_do_not_keep_an_idle_connection_open() -> None:
    """Only application messages count against the idle timeout."""
    deadlines = build(heartbeat_interval=10.0, idle_timeout=25.0)
    assert drive(deadlines, 1000.0, answer=1.0) == [(10.0, "ping"), (21.0, "ping"), (25.0, "idle")]


def test_an_application_message_restarts_the_idle_timeout() -> None:
    """The timeout is counted from the last message."""
    deadlines = build(idle_timeout=25.0)
    deadlines.data_at = 20.0
    assert deadlines.next(20.0) == 45.0
    assert deadlines.decide(44.75) is Action.NOTHING
    assert deadlines.decide(45.0) is Action.IDLE


def test_traffic_does_not_postpone_the_maximum_age() -> None:
    """Age is counted from the handshake."""
    deadlines = build(max_age=100.0)
    deadlines.data_at = deadlines.heard_at = 99.0
    assert deadlines.next(99.0) == 100.0
    assert deadlines.decide(99.75) is Action.NOTHING
    assert deadlines.decide(100.0) is Action.TOO_OLD


def test_age_comes_before_idleness_and_idleness_before_the_heartbeat() -> None:
    """One action is due at a time: the one with the clearest reason."""
    options: dict[str, Any] = {"heartbeat_interval": 1.0, "heartbeat_timeout": 1.0, "idle_timeout": 1.0}
    assert build(**options, max_age=1.0).decide(5.0) is Action.TOO_OLD
    assert build(**options).decide(5.0) is Action.IDLE
    assert build(heartbeat_interval=1.0).decide(5.0) is Action.PING


def test_a_stopped_heartbeat_sends_no_ping_and_declares_no_peer_dead() -> None:
    """An unanswered ping is forgotten; the other deadlines stay."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=60.0, max_age=500.0)
    deadlines.decide(30.0)
    deadlines.stop_heartbeat()
    assert deadlines.ping_at is None
    assert deadlines.next(30.0) == 500.0
    assert deadlines.decide(499.75) is Action.NOTHING
    assert deadlines.decide(500.0) is Action.TOO_OLD


def test_a_long_timeout_does_not_stretch_the_interval() -> None:
    """The answer may come at once, so ``next`` says when another ping could be due, not when the timeout ends."""
    deadlines = build(heartbeat_interval=30.0, heartbeat_timeout=200.0)
    assert drive(deadlines, 130.0, answer=1.0) == [(30.0, "ping"), (61.0, "ping"), (92.0, "ping"), (123.0, "ping")]


def test_a_slow_answer_does_not_stretch_the_interval_to_the_timeout() -> None:
    """After an answer that took longer than an interval, the next ping still follows one interval later."""
    deadlines = build(heartbeat_interval=1.0, heartbeat_timeout=100.0)
    assert drive(deadlines, 8.0, answer=1.5) == [(1.0, "ping"), (3.5, "ping"), (6.0, "ping")]


moments = st.integers(0, 40)
spans = st.none() | st.integers(1, 60)


@given(interval=st.integers(1, 40), timeout=st.integers(1, 40), answer=st.integers(0, 39))
def test_a_peer_that_answers_in_time_is_pinged_an_interval_after_each_answer(
    interval: int, timeout: int, answer: int
) -> None:
    """This holds for any interval, timeout and answer time, as long as the answer is faster than the timeout."""
    deadlines = build(heartbeat_interval=interval, heartbeat_timeout=timeout)
    answer = min(answer, timeout - 1)
    expected = [(at, "ping") for at in range(interval, 501, interval + answer)]
    assert drive(deadlines, 500.0, answer=answer) == expected


@given(interval=st.integers(1, 40), timeout=st.integers(1, 40), last_heard=moments)
def test_a_silent_peer_is_dead_exactly_an_interval_and_a_timeout_later(
    interval: int, timeout: int, last_heard: int
) -> None:
    """It is so when ``decide`` is called exactly at the times that ``next`` gives."""
    deadlines = build(heartbeat_interval=interval, heartbeat_timeout=timeout)
    deadlines.heard_at = last_heard
    pinged = last_heard + interval
    assert drive(deadlines, 500.0, now=last_heard) == [(pinged, "ping"), (pinged + timeout, "dead")]


class DeadlinesAgainstHistory(RuleBasedStateMachine):
    """What is due follows from the recorded history, and ``next`` is never too late."""

    @initialize(accept=spans, interval=st.none() | st.integers(1, 8), timeout=st.integers(1, 60), idle=spans, age=spans)
    def build(self, accept: int | None, interval: int | None, timeout: int, idle: int | None, age: int | None) -> None:
        self.accept, self.interval, self.timeout, self.idle, self.age = accept, interval, timeout, idle, age
        self.now = 0
        self.heard: list[int] = []
        self.passed: list[int] = []
        self.opened_at: int | None = None
        self.asked_at: int | None = None
        self.look_at: float | None = None
        self.deadlines = Deadlines(
            0,
            accept_timeout=accept,
            heartbeat_interval=interval,
            heartbeat_timeout=timeout,
            idle_timeout=idle,
            max_age=age,
        )
        self.look()

    @rule(reading=st.booleans())
    def look(self, reading: bool = True) -> None:
        """Decide, and ask when to look again."""
        assert self.deadlines.decide(self.now, reading) is self.due(reading)
        self.look_at = self.deadlines.next(self.now)

    @precondition(lambda self: self.opened_at is None)
    @rule()
    def open(self) -> None:
        self.deadlines.opened(self.now)
        self.opened_at = self.now
        self.heard.append(self.now)
        self.passed.append(self.now)
        self.look_at = self.deadlines.next(self.now)

    @precondition(lambda self: self.opened_at is not None)
    @rule()
    def hear_a_pong(self) -> None:
        self.deadlines.heard_at = self.now
        self.heard.append(self.now)

    @precondition(lambda self: self.opened_at is not None)
    @rule(inbound=st.booleans())
    def pass_a_message(self, inbound: bool) -> None:
        self.deadlines.data_at = self.now
        self.passed.append(self.now)
        if inbound:
            self.hear_a_pong()

    @precondition(lambda self: self.opened_at is not None)
    @rule()
    def stop_the_heartbeat(self) -> None:
        self.deadlines.stop_heartbeat()
        self.interval = self.asked_at = None

    @rule(step=st.integers(1, 12))
    def wait(self, step: int) -> None:
        self.now += step

    def due(self, reading: bool) -> Action:
        """What is due, computed from the recorded history."""
        if self.opened_at is None:
            return Action.NOT_ACCEPTED if over(0, self.accept, self.now) else Action.NOTHING
        if over(self.opened_at, self.age, self.now):
            return Action.TOO_OLD
        if over(max(self.passed), self.idle, self.now):
            return Action.IDLE
        return self.heartbeat_due(reading)

    def heartbeat_due(self, reading: bool) -> Action:
        if self.asked_at is None or max(self.heard) >= self.asked_at:
            self.asked_at = self.now if over(max(self.heard), self.interval, self.now) else None
            return Action.NOTHING if self.asked_at is None else Action.PING
        if not reading:
            self.asked_at = self.now
        return Action.DEAD if over(self.asked_at, self.timeout, self.now) else Action.NOTHING

    @invariant()
    def it_is_never_looked_at_too_late(self) -> None:
        """Nothing is due before the time that ``next`` gave, whatever has happened since."""
        if hasattr(self, "now") and (self.look_at is None or self.now < self.look_at):
            asked_at = self.asked_at
            assert self.due(reading=True) is Action.NOTHING
            self.asked_at = asked_at


def over(since: int, span: int | None, now: int) -> bool:
    """Whether ``span`` has passed at ``now``; never, where there is no span."""
    return span is not None and now >= since + span


TestDeadlinesAgainstHistory = DeadlinesAgainstHistory.TestCase
