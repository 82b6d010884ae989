"""The client of wsstab.v1: each rule of the protocol by examples, and a server that says anything by hypothesis."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstab.client.actions import (
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
from wsstab.client.heartbeat import Timeouts
from wsstab.client.machine import ClientMachine
from wsstab.client.states import ClientState
from wsstab.core.protocol import ESCAPE, Ack, Bye, Hello, Offer, Outcome, Ping, Pong
from wsstab.core.protocol import Gap as GapMessage

from .driving import HELLO, Driver, attached, greeting, name_of, only, plain

MALFORMED = ESCAPE + "{"


# Negotiation.


def test_a_first_attempt_offers_the_protocol_then_the_applications_then_a_new_session() -> None:
    """In this order, and with exactly one offer."""
    driver = Driver(subprotocols=["chat", "chat.v2"])
    assert driver.machine.connect(driver.now) == [
        Connect(1, ("wsstab.v1", "chat", "chat.v2", f"wsstab.new.1.{name_of(1)}"))
    ]
    assert driver.machine.state is ClientState.CONNECTING


def test_the_clients_name_stays_the_same_until_a_hello_has_come() -> None:
    """So that a hello that is lost starts no second handler."""
    driver = greeting()
    driver.end()
    driver.come_back()
    driver.end()
    assert driver.come_back() == Offer(3, name_of(1))
    driver.open()
    driver.hello()
    driver.end()
    assert driver.come_back() == Offer(4, name_of(2), "session")


def test_an_attempt_to_resume_says_how_many_messages_were_received() -> None:
    """And which session of its own the client would begin in its place."""
    driver = attached()
    driver.say("a", b"b", "c")
    driver.end()
    assert driver.come_back() == Offer(2, name_of(2), "session", 3)


def test_no_attempt_has_the_number_of_another() -> None:
    """Those of a plain client count as well, and so do those that were cut short."""
    driver = Driver()
    attempts = [driver.machine.connect(driver.now)]
    driver.end()
    attempts.append(driver.wait(1))
    attempts += [driver.machine.connect(driver.now) for _ in range(3)]
    assert [only(Connect, actions).attempt for actions in attempts] == [1, 2, 3, 4, 5]


def test_nothing_is_said_before_hello() -> None:
    """Neither what the application sends, nor a probe when it wakes up."""
    driver = Driver()
    assert driver.send("a") == []
    driver.connect()
    assert driver.send("b") == []
    assert driver.open() == []
    assert driver.send("c") == driver.wake() == []
    assert driver.data(driver.hello()) == ["a", "b", "c"]


def test_a_client_whose_attempts_fail_tries_plain_and_the_protocol_in_turn() -> None:
    """Until one opens."""
    driver = Driver(subprotocols=["chat"])
    offered = [driver.machine.connect(driver.now)]
    for _ in range(3):
        driver.end()
        offered.append(driver.wait(20))
    assert [len(only(Connect, actions).subprotocols) for actions in offered] == [3, 1, 3, 1]
    assert driver.open("chat") == [Plain("chat")]
    assert driver.machine.state is ClientState.PLAIN


def test_after_a_plain_carrier_the_protocol_is_offered_again() -> None:
    """The server may have been updated meanwhile."""
    driver = Driver()
    driver.connect()
    driver.end()
    assert driver.come_back() is None
    driver.open(None)
    assert driver.end() == [Detached(1006)]
    assert driver.come_back() == Offer(3, name_of(1))


def test_a_server_that_selects_no_subprotocol_is_a_plain_one() -> None:
    """Or another than wsstab.v1."""
    driver = Driver()
    driver.connect()
    assert driver.open(None) == [Plain(None)]


def test_a_server_that_selects_what_is_offered_first_is_found_out() -> None:
    """It sends data before hello, or nothing at all; such a server breaks no promise, however often it does it."""
    driver = greeting()
    for _ in range(4):
        assert driver.say("welcome") == [CloseCarrier(driver.machine.attempt, 1002, "message before hello")]
        assert driver.come_back() is None
        driver.open(None)
        assert driver.say("welcome") == [Deliver("welcome")]
        driver.end()
        driver.come_back()
        driver.open()
    assert driver.wait(10) == [CloseCarrier(driver.machine.attempt)]
    assert driver.come_back() is None


def test_a_client_that_has_had_a_hello_never_falls_back() -> None:
    """A server that selects something else then is not the one that knows the session."""
    driver = attached()
    driver.end()
    driver.come_back()
    driver.end()
    assert driver.come_back() == Offer(3, name_of(2), "session")
    assert driver.open(None) == [CloseCarrier(3)]
    assert driver.come_back() == Offer(4, name_of(2), "session")


def test_a_bye_in_place_of_hello_shows_that_the_server_speaks_the_protocol() -> None:
    """So the client does not fall back."""
    driver = greeting()
    driver.say(Bye(1013, "limit", "new"))
    assert driver.come_back() == Offer(2, name_of(2))
    driver.end()
    assert driver.come_back() == Offer(3, name_of(2))


def test_a_subprotocol_of_the_application_may_not_look_like_an_offer() -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="subprotocols"):
        Driver(subprotocols=["wsstab.v1"])


# Hello.


def test_hello_is_answered_at_once_by_an_acknowledgement() -> None:
    """It confirms the session, and the application hears that it is open."""
    driver = greeting()
    assert driver.hello(why="unknown") == [Send(1, str(Ack(0))), Opened("chat", "unknown")]
    assert driver.machine.state is ClientState.ATTACHED


def test_after_a_resume_the_acknowledgement_comes_first_then_the_replay_then_what_is_new() -> None:
    """What the server has, by its hello, is not sent again."""
    driver = attached()
    driver.send("a", "b", "c")
    driver.say("x")
    driver.end()
    driver.send("d")
    driver.now += 1
    driver.come_back()
    driver.open()
    driver.now += 1
    actions = driver.hello(outcome=Outcome.RESUMED, received=1)
    assert driver.sent(actions) == [str(Ack(1)), "b", "c", "d"]
    assert driver.told(actions) == [Resumed(after=2.0, replayed=2)]


def test_a_handover_goes_on_as_a_resume() -> None:
    """What was dropped may be unknown."""
    driver = attached()
    driver.send("a")
    actions = driver.resume(outcome=Outcome.HANDOVER, lost=None)
    assert driver.data(actions) == ["a"]
    assert only(Resumed, actions).outcome is Outcome.HANDOVER


def test_at_a_fresh_hello_both_sides_count_from_zero() -> None:
    """What was sent and not acknowledged is told as lost; what is unsent goes out in the new life."""
    driver = attached()
    driver.send("a", "b")
    driver.say("x", Ack(1))
    driver.end()
    driver.send("c")
    driver.come_back()
    driver.open()
    actions = driver.hello(session="other", why="unknown")
    assert driver.sent(actions) == [str(Ack(0)), "c"]
    assert driver.told(actions) == [Lost(("b",)), Opened("chat", "unknown")]
    driver.say("y")
    driver.end()
    assert driver.come_back() == Offer(3, name_of(3), "other", 1)


@pytest.mark.parametrize("received", [0, 4])
def test_a_hello_outside_of_what_was_acknowledged_and_sent_ends_the_life(received: int) -> None:
    """The server has another's state; the client begins anew, under another name."""
    driver = attached()
    driver.send("a", "b", "c")
    driver.say(Ack(1))
    driver.end()
    driver.come_back()
    driver.open()
    actions = driver.hello(outcome=Outcome.RESUMED, received=received)
    assert actions == [CloseCarrier(2, 1002, "hello of another session"), Lost(("b", "c"))]
    assert driver.come_back() == Offer(3, name_of(3))


def test_a_hello_that_resumes_a_session_of_another_name_ends_the_life() -> None:
    """Its counters are those of somebody else."""
    driver = attached()
    driver.send("a")
    assert Lost(("a",)) in driver.resume(session="other")
    assert driver.come_back() == Offer(3, name_of(3))


def test_a_fresh_hello_that_counts_already_is_no_beginning() -> None:
    """Nothing was sent in this life."""
    driver = greeting()
    assert driver.hello(received=1) == [CloseCarrier(1, 1002, "hello of another session")]


# Messages.


def test_a_text_that_begins_with_the_escape_gets_another_in_front() -> None:
    """And the receiver takes it off."""
    driver = attached()
    assert driver.send(ESCAPE + "a") == [Send(1, ESCAPE * 2 + "a")]
    assert driver.say(ESCAPE * 2 + "b", b"\x1e") == [Deliver(ESCAPE + "b"), Deliver(b"\x1e")]
    assert driver.data(driver.resume()) == [ESCAPE * 2 + "a"]


@pytest.mark.parametrize(("bound", "messages"), [((3, 1000), ["a", "b", "c"]), ((1000, 6), ["ab", "\xe9", b"cd"])])
def test_an_acknowledgement_is_due_after_so_many_messages_or_bytes(
    bound: tuple[int, int], messages: list[Message]
) -> None:
    """As the server has asked for; it leaves before the application hears of the last message."""
    driver = attached({"ack": bound})
    for _ in range(2):
        assert driver.sent(driver.say(*messages[:-1])) == []
        assert [type(action) for action in driver.say(messages[-1])] == [Send, Deliver]
    assert driver.machine.received == 6


def test_every_message_that_acknowledges_begins_the_count_anew() -> None:
    """A pong is as good as an acknowledgement."""
    driver = attached({"ack": (2, 1000)})
    assert driver.say("a", Ping(0), "b") == [Deliver("a"), Send(1, str(Pong(1))), Deliver("b")]
    assert driver.sent(driver.say("c")) == [str(Ack(3))]


def test_an_older_acknowledgement_changes_nothing() -> None:
    """It may have been on its way for long."""
    driver = attached()
    driver.send("a", "b")
    driver.say(Ack(2), Ack(1))
    assert driver.machine.kept == 0


@pytest.mark.parametrize("message", [Ack(1), Ping(1), Pong(1)])
def test_an_acknowledgement_of_what_was_not_sent_closes_the_carrier(message: Ack | Ping | Pong) -> None:
    """The session goes on, on another one."""
    driver = attached()
    assert driver.say(message) == [CloseCarrier(1, 1002, "acknowledgement of what was not sent"), Detached(1002)]
    assert driver.come_back() == Offer(2, name_of(2), "session")


@pytest.mark.parametrize(
    "message",
    [MALFORMED, ESCAPE, ESCAPE + "[]", ESCAPE + '{"t":"ack","h":-1}', ESCAPE + '{"t":"' + "x" * 4096 + '"}', HELLO],
    ids=["cut off", "empty", "no object", "negative", "over 4 KiB", "hello twice"],
)
def test_what_breaks_the_protocol_closes_the_carrier(message: str | Hello) -> None:
    """With 1002; nothing is thrown."""
    driver = attached()
    assert only(CloseCarrier, driver.say(message)).code == 1002


@pytest.mark.parametrize("message", ["a", b"b", Ack(0), Ping(0), Pong(0), GapMessage(1)])
def test_a_message_before_hello_breaks_the_protocol(message: Message | Ack | Ping | Pong | GapMessage) -> None:
    """It could be of any session."""
    assert greeting().say(message) == [CloseCarrier(1, 1002, "message before hello")]


def test_control_messages_of_another_day_are_ignored() -> None:
    """So that the protocol can grow."""
    assert greeting().say(ESCAPE + '{"t":"later"}') == []
    assert attached().say(ESCAPE + '{"t":"later"}', ESCAPE + '{"t":"ack","h":0,"more":1}') == []


def test_a_server_that_breaks_the_protocol_three_times_in_a_row_is_left() -> None:
    """The application is told what is lost."""
    driver = attached()
    driver.send("a")
    driver.say(MALFORMED)
    for _ in range(2):
        driver.come_back()
        driver.open()
        driver.hello(outcome=Outcome.RESUMED)
        actions = driver.say(MALFORMED)
    violation = "control message is not JSON"
    assert actions == [CloseCarrier(3, 1002, violation), Lost(("a",)), Closed(1002, violation)]


def test_a_carrier_that_held_makes_earlier_violations_forgotten() -> None:
    """Three in a row, not three in a month."""
    driver = attached()
    for _ in range(5):
        driver.now += 5
        assert driver.say(MALFORMED)[-1] == Detached(1002)
        driver.come_back()
        driver.open()
        driver.hello(outcome=Outcome.RESUMED)


def test_a_gap_is_told_before_the_next_message() -> None:
    """As the number of messages that were dropped since the last one was told; the protocol tells totals."""
    driver = attached({"lost": 1})
    assert driver.say(GapMessage(3), "a", GapMessage(3), GapMessage(2)) == [Gap(2), Deliver("a")]


def test_a_gap_that_was_lost_with_its_carrier_is_told_by_the_next_hello() -> None:
    """After the application has heard that the session goes on."""
    driver = attached()
    driver.say(GapMessage(2))
    assert driver.told(driver.resume(lost=5)) == [Resumed(0.5, 0), Gap(3)]


def test_what_was_dropped_is_counted_anew_in_each_life() -> None:
    """The total belongs to a session."""
    driver = attached({"lost": 4})
    driver.end()
    driver.come_back()
    driver.open()
    assert driver.told(driver.hello(session="other", lost=1))[-1] == Gap(1)


# The window.


def test_a_message_is_kept_until_it_is_acknowledged() -> None:
    """Unsent or sent."""
    driver = greeting()
    driver.send("a", "b")
    driver.hello()
    driver.send("c")
    assert driver.machine.kept == 3
    driver.say(Ack(2))
    assert driver.machine.kept == 1


def test_beyond_the_window_nothing_is_taken_until_there_is_room() -> None:
    """The application is told both."""
    driver = attached(max_messages=2)
    driver.send("a", "b")
    assert driver.told(driver.send("c")) == [Full()]
    assert driver.machine.kept == 2
    assert driver.told(driver.say(Ack(1), Ack(2))) == [Room()]
    assert driver.data(driver.send("c")) == ["c"]


def test_the_window_is_bounded_in_bytes_and_takes_one_message_of_any_size() -> None:
    """Otherwise a large one could never be sent."""
    driver = Driver(max_bytes=4)
    assert driver.send("a" * 10) == []
    assert driver.send("") == [Full()]
    driver.connect()
    driver.open()
    driver.hello()
    driver.say(Ack(1))
    assert driver.told(driver.send("\xe9", "ab", "c")) == [Full()]


def test_room_is_told_when_a_life_ends_too() -> None:
    """What was kept is lost then."""
    driver = attached(max_messages=1)
    driver.send("a", "b")
    driver.end()
    driver.come_back()
    driver.open()
    assert driver.told(driver.hello(session="other")) == [Lost(("a",)), Room(), Opened("chat")]


def test_a_full_window_asks_the_server_by_one_ping() -> None:
    """At most one is unanswered."""
    driver = attached(max_messages=2)
    assert driver.sent(driver.send("a", "b")) == ["a", "b", str(Ping(0))]
    assert driver.sent(driver.send("c")) == []
    driver.say(Pong(2))
    assert driver.sent(driver.send("c", "d")) == ["c", "d", str(Ping(0))]


def test_a_message_that_finds_no_room_asks_the_server_too() -> None:
    """A window may be too full for one message and not for another."""
    driver = attached(max_bytes=5)
    driver.send("abc")
    assert driver.send("def") == [Send(1, str(Ping(0))), Full()]


def test_a_pong_that_brings_no_room_is_followed_by_another_ping() -> None:
    """The first ping may have left before the messages."""
    driver = attached(max_bytes=5)
    driver.wake()
    driver.send("abc", "def")
    assert driver.sent(driver.say(Pong(0))) == [str(Ping(0))]


def test_a_full_window_does_not_ask_for_what_comes_unasked() -> None:
    """The server acknowledges so much by itself, and takes too many pings for a flood."""
    driver = attached({"ack": (2, 1000)}, max_messages=2)
    assert driver.sent(driver.send("a", "b", "c")) == ["a", "b"]


def test_a_message_larger_than_the_server_takes_is_refused() -> None:
    """It would end the session."""
    driver = attached({"max": 4})
    with pytest.raises(ValueError, match="5 bytes: the server takes 4"):
        driver.send("abcde")
    assert driver.data(driver.send("abcd")) == ["abcd"]


def test_a_text_that_utf_8_cannot_encode_is_refused() -> None:
    """Nothing of it is kept."""
    driver = attached()
    with pytest.raises(ValueError, match="surrogates"):
        driver.send("\ud800")
    assert driver.machine.kept == 0


# Carriers.


def test_what_a_given_up_carrier_still_says_is_not_heard() -> None:
    """Neither its messages, nor its end, nor that it has opened."""
    driver = attached()
    assert driver.machine.connect(driver.now) == [
        CloseCarrier(1),
        Connect(2, ("wsstab.v1", f"wsstab.resume.session.2.0.{name_of(2)}")),
        Detached(None),
    ]
    assert driver.say("a", HELLO, MALFORMED, attempt=1) == []
    assert driver.open(attempt=1) == driver.end(1008, attempt=1) == []
    assert driver.machine.state is ClientState.CONNECTING
    driver.open()
    driver.hello(outcome=Outcome.RESUMED)
    assert driver.say("a", HELLO, MALFORMED, Bye(1000), attempt=1) == driver.end(1008, attempt=1) == []
    assert (driver.machine.state, driver.machine.received) == (ClientState.ATTACHED, 0)


def test_a_carrier_ends_once() -> None:
    """An error and a close of one socket begin one attempt."""
    driver = attached()
    assert driver.end() == [Detached(1006)]
    assert driver.end() == driver.say("a") == driver.open() == []
    assert only(Connect, driver.wait(0.5)).attempt == 2
    assert driver.open() == driver.open() == []


def test_every_carrier_gets_ten_seconds_for_the_handshake_and_ten_for_hello() -> None:
    """After that it is closed without a code, and another one follows."""
    driver = Driver()
    driver.connect()
    assert (driver.due, driver.wait(9.9)) == (10, [])
    driver.open()
    assert (driver.due, driver.wait(9.9)) == (10, [])
    assert driver.wait(0.1) == [CloseCarrier(1)]
    driver.come_back()
    assert driver.wait(10) == [CloseCarrier(2)]


def test_only_hello_counts_before_hello_and_only_the_answer_after_a_close() -> None:
    """Other messages are no reason to wait for longer."""
    driver = greeting()
    driver.wait(5)
    driver.say(ESCAPE + '{"t":"later"}')
    assert driver.due == 5
    driver.hello()
    driver.close()
    driver.wait(5)
    driver.say("a")
    assert driver.due == 5


def test_times_can_be_chosen() -> None:
    """Each by its name."""
    driver = Driver(timeouts=Timeouts(handshake=1, hello=2, probe=3, close=4))
    driver.connect()
    assert driver.due == 1
    driver.open()
    assert driver.due == 2
    driver.hello()
    driver.wake()
    assert driver.due == 3
    driver.close()
    assert driver.due == 4


def test_the_end_of_an_attempt_that_failed_is_not_told() -> None:
    """The application knows already that it is detached."""
    driver = attached()
    driver.end()
    driver.come_back()
    assert driver.end() == []
    driver.come_back()
    driver.open()
    assert driver.end() == []


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010])
def test_a_close_that_no_bye_has_explained_may_be_final(code: int) -> None:
    """The same would happen again."""
    driver = attached()
    driver.send("a")
    assert driver.end(code, "why", clean=True) == [Lost(("a",)), Closed(code, "why")]
    assert driver.machine.deadline is None


@pytest.mark.parametrize("code", [None, 1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000, 4401])
def test_after_every_other_close_the_client_comes_back(code: int | None) -> None:
    """To its session."""
    driver = attached()
    assert driver.end(code) == [Detached(code)]
    assert driver.come_back() == Offer(2, name_of(2), "session")


def test_a_handshake_that_fails_is_never_final() -> None:
    """Whatever code the library finds for it."""
    driver = Driver()
    driver.connect()
    assert driver.end(1008) == []
    assert driver.due == 0.5


# Coming back.


def test_delays_double_from_half_a_second_to_twenty() -> None:
    """They are drawn below that bound."""
    driver = attached(chance=0.5)
    delays = []
    driver.end()
    for _ in range(8):
        delays.append(driver.due)
        driver.come_back()
        driver.end()
    assert delays == [0.25, 0.5, 1, 2, 4, 8, 10, 10]


def test_delays_begin_anew_after_a_hello_that_held_for_five_seconds() -> None:
    """A server that accepts and fails at once is not hammered."""
    driver = attached()
    for held, delay in [(0.0, 0.5), (4.9, 1), (4.9, 2), (5.0, 0.5)]:
        driver.now += held
        driver.end()
        assert driver.due == delay
        driver.come_back()
        driver.open()
        driver.hello(outcome=Outcome.RESUMED)


def test_a_slot_of_the_server_comes_before_the_clients_own_delays() -> None:
    """It is kept to the millisecond, and not cut short by a wake; then the client's own delays begin."""
    driver = attached(chance=0.5)
    driver.say(Bye(1012, "drain", "new", 1234))
    assert driver.due == 1.234
    assert driver.wake() == driver.wait(1.233) == []
    driver.come_back()
    driver.end()
    assert driver.due == 0.25


def test_the_application_may_come_back_before_its_time() -> None:
    """The attempt that was planned is not made a second time."""
    driver = attached()
    driver.end()
    assert driver.connect() == Offer(2, name_of(2), "session")
    assert driver.wait(1) == []


def test_a_tick_before_its_time_does_nothing() -> None:
    """Timers may fire early."""
    driver = Driver()
    assert (driver.due, driver.wait(1)) == (None, [])
    driver.connect()
    driver.end()
    assert driver.wait(0.49) == []


# Signs of life.


def test_a_ping_is_answered_with_what_was_received() -> None:
    """And acknowledges itself."""
    driver = attached()
    driver.send("a")
    assert driver.say("x", Ping(1)) == [Deliver("x"), Send(1, str(Pong(1)))]
    assert driver.machine.kept == 0


def test_a_carrier_is_dead_after_ping_and_timeout_without_any_message() -> None:
    """Each message is a sign of life."""
    driver = attached()
    assert driver.due == 30
    driver.wait(29)
    driver.say("a")
    assert driver.wait(29.9) == []
    assert driver.wait(0.1) == [CloseCarrier(1), Detached(None)]


def test_a_server_that_never_pings_is_never_dead() -> None:
    """Its silence says nothing."""
    assert attached({"ping": 0}).due is None


def test_after_a_wake_the_carrier_gets_five_seconds() -> None:
    """A pong ends the probe."""
    driver = attached()
    assert driver.wake() == [Send(1, str(Ping(0)))]
    assert driver.due == 5
    driver.now += 0.25
    driver.say(Pong(0))
    assert (driver.due, driver.machine.latency) == (30, 0.25)
    driver.wake()
    assert driver.wait(5) == [CloseCarrier(1), Detached(None)]


def test_a_message_prolongs_a_probe_and_does_not_end_it() -> None:
    """It may have arrived before the sleep, or the pong may be behind it on a slow line."""
    driver = attached()
    driver.wake()
    driver.wait(4)
    driver.say("a")
    assert driver.wait(4.9) == []
    assert driver.wait(0.1) == [CloseCarrier(1), Detached(None)]


def test_a_second_wake_sends_no_second_ping() -> None:
    """At most one is unanswered."""
    driver = attached()
    driver.wake()
    assert driver.wake() == []


def test_a_wake_without_a_carrier_connects_at_once() -> None:
    """But begins no second attempt while one is under way."""
    driver = attached()
    driver.end()
    assert only(Connect, driver.wake()).attempt == 2
    assert driver.wake() == []


def test_a_timer_that_fires_far_too_late_is_a_wake() -> None:
    """This process was asleep, and not the server; it is given one probe."""
    driver = attached()
    assert driver.wait(3600) == [Send(1, str(Ping(0)))]
    assert driver.wait(3600) == [CloseCarrier(1), Detached(None)]


def test_a_pong_that_nobody_asked_for_is_a_sign_of_life_and_nothing_more() -> None:
    """It measures nothing."""
    driver = attached()
    assert driver.say(Pong(0)) == []
    assert driver.machine.latency is None


# Bye.


def test_a_final_bye_is_answered_by_an_acknowledgement_and_a_close_with_1000() -> None:
    """The application is told what was lost, unsent messages among it."""
    driver = attached()
    driver.send("a", "b")
    driver.say("x", Ack(1))
    assert driver.say(Bye(4000, "over")) == [
        Send(1, str(Ack(1))),
        CloseCarrier(1, 1000),
        Lost(("b",)),
        Closed(4000, "over"),
    ]
    assert driver.machine.state is ClientState.CLOSED


def test_what_was_never_sent_is_lost_when_all_is_over() -> None:
    """Behind what was sent and not acknowledged."""
    driver = attached()
    driver.send("a")
    driver.end()
    driver.send(ESCAPE + "b")
    driver.come_back()
    driver.open()
    assert driver.say(Bye(1008, "no")) == [CloseCarrier(2, 1000), Lost(("a", ESCAPE + "b")), Closed(1008, "no")]


def test_a_bye_that_lets_the_session_go_on_is_answered_by_a_close_without_a_code() -> None:
    """The client resumes."""
    driver = attached()
    driver.say("x")
    assert driver.say(Bye(1012, "age", "resume")) == [Send(1, str(Ack(1))), CloseCarrier(1), Detached(1012)]
    assert driver.come_back() == Offer(2, name_of(2), "session", 1)


def test_a_bye_that_ends_the_session_begins_another_life() -> None:
    """Under another name."""
    driver = attached()
    driver.send("a")
    assert driver.say(Bye(1012, "drain", "new")) == [
        Send(1, str(Ack(0))),
        CloseCarrier(1),
        Lost(("a",)),
        Detached(1012),
    ]
    assert driver.come_back() == Offer(2, name_of(3))


def test_a_bye_in_place_of_hello_is_not_acknowledged() -> None:
    """Nothing is said before hello."""
    assert greeting().say(Bye(1008, "no")) == [CloseCarrier(1, 1000), Closed(1008, "no")]
    assert greeting().say(Bye(1008, "full", "new")) == [CloseCarrier(1)]


def test_a_resume_that_is_refused_for_now_keeps_the_session() -> None:
    """And what was sent in it."""
    driver = attached()
    driver.send("a")
    driver.end()
    driver.come_back()
    driver.open()
    assert driver.say(Bye(1013, "full", "resume", 1000)) == [CloseCarrier(2)]
    assert driver.come_back() == Offer(3, name_of(2), "session")
    driver.open()
    assert driver.data(driver.hello(outcome=Outcome.RESUMED)) == ["a"]


# The application closes.


def test_a_close_is_over_when_it_is_answered() -> None:
    """Behind all that was said; what was sent before has arrived with it."""
    driver = attached()
    driver.send("a")
    assert driver.close(4000, "done") == [CloseCarrier(1, 4000, "done")]
    assert driver.machine.state is ClientState.CLOSING
    assert driver.answer(4000) == [Closed(4000, "done")]


@pytest.mark.parametrize("code", [None, 1000, 1005, 4000])
def test_servers_answer_a_close_with_different_codes(code: int | None) -> None:
    """The same, 1000, or none."""
    driver = attached()
    driver.close(4000)
    assert driver.answer(code) == [Closed(4000)]


@pytest.mark.parametrize(("code", "clean"), [(1006, False), (1000, False), (None, False), (1001, True), (1012, True)])
def test_a_close_that_was_not_answered_is_said_again(code: int | None, clean: bool) -> None:
    """On another carrier, for which the client offers no other session."""
    driver = attached()
    driver.send("a")
    driver.close(4000, "done")
    assert driver.end(code, clean=clean) == []
    assert driver.come_back() == Offer(2, None, "session")
    driver.open()
    actions = driver.hello(outcome=Outcome.RESUMED)
    assert actions[:3] == [Send(2, str(Ack(0))), Send(2, "a"), CloseCarrier(2, 4000, "done")]


def test_a_close_whose_answer_does_not_come_is_said_again() -> None:
    """After ten seconds."""
    driver = attached()
    driver.close()
    assert driver.wait(10) == [CloseCarrier(1)]
    assert driver.come_back() == Offer(2, None, "session")


def test_a_close_that_finds_no_session_is_over() -> None:
    """The server has forgotten it, or has heard the close; the application hears its own code."""
    driver = attached()
    driver.send("a")
    driver.end()
    driver.close(4000, "done")
    driver.come_back()
    driver.open()
    assert driver.say(Bye(1008, "finished")) == [CloseCarrier(2, 1000), Lost(("a",)), Closed(4000, "done")]


def test_a_close_while_detached_comes_back_for_what_was_said() -> None:
    """The replay and the unsent messages go before it."""
    driver = attached()
    driver.send("a")
    driver.end()
    driver.send("b")
    assert driver.close() == []
    assert driver.come_back() == Offer(2, None, "session")
    driver.open()
    actions = driver.hello(outcome=Outcome.RESUMED, received=1)
    assert actions[1:] == [Send(2, "b"), CloseCarrier(2, 1000), Resumed(0.5, 0)]


def test_a_close_before_any_session_is_over_at_once() -> None:
    """Whatever the attempt would bring."""
    assert Driver().close(4000, "done") == [Closed(4000, "done")]
    driver = greeting()
    assert driver.close() == [CloseCarrier(1), Closed(1000)]
    assert driver.machine.connect(driver.now) == driver.wake() == driver.hello() == []


def test_a_close_before_any_session_waits_for_what_was_said() -> None:
    """It begins a session for it."""
    driver = greeting()
    driver.send("a")
    assert driver.close() == []
    driver.end()
    driver.come_back()
    driver.end()
    assert driver.come_back() == Offer(3, name_of(1))
    driver.open()
    assert driver.hello()[1:3] == [Send(3, "a"), CloseCarrier(3, 1000)]


def test_a_close_is_over_when_the_server_must_have_forgotten_the_session() -> None:
    """After the window, or the time of one attempt if there is no session."""
    driver = attached()
    driver.send("a")
    driver.end()
    driver.close()
    driver.come_back()
    driver.now += 119.5
    assert driver.machine.tick(driver.now) == [CloseCarrier(2), Lost(("a",)), Closed(1000)]
    driver = Driver()
    driver.send("a")
    driver.close()
    assert driver.due == 30


def test_a_hello_gives_a_close_more_time() -> None:
    """The server remembers the session for another window."""
    driver = attached()
    driver.end()
    driver.close()
    driver.come_back()
    driver.open()
    driver.now += 100
    driver.hello(outcome=Outcome.RESUMED)
    driver.end()
    driver.come_back()
    driver.now += 100
    assert driver.machine.tick(driver.now) == [CloseCarrier(3)]
    driver.come_back()
    assert driver.wait(20) == [CloseCarrier(4), Closed(1000)]


def test_a_bye_that_crosses_the_close_changes_nothing() -> None:
    """No second close is sent; the answer decides."""
    driver = attached()
    driver.close()
    assert driver.say(Bye(1012, "age", "resume")) == driver.say(Bye(1000, "over")) == []
    assert driver.answer() == [Closed(1000)]


def test_a_client_that_has_closed_hears_on_and_says_nothing() -> None:
    """What is heard counts, should it have to come back."""
    driver = attached({"ack": (1, 1)})
    driver.close()
    assert driver.say("a", Ping(0), Pong(0)) == [Deliver("a")]
    driver.end()
    assert driver.come_back() == Offer(2, None, "session", 1)


def test_a_violation_after_the_close_sends_no_second_close_frame() -> None:
    """The carrier is given up, and the close is said again."""
    driver = attached()
    driver.close()
    assert driver.say(MALFORMED) == [CloseCarrier(1)]
    assert driver.come_back() == Offer(2, None, "session")


def test_a_client_that_closes_does_not_begin_anew_for_nothing() -> None:
    """Its session is gone and nothing is left to say; a bye may tell, or its own call."""
    driver = attached()
    driver.end()
    driver.close()
    driver.come_back()
    driver.open()
    assert driver.say(Bye(1012, "drain", "new")) == [CloseCarrier(2), Closed(1000)]
    driver = plain()
    driver.close()
    assert driver.machine.connect(driver.now) == [CloseCarrier(1), Closed(1000)]


def test_a_second_close_does_nothing() -> None:
    """And nothing is sent after the first."""
    driver = attached()
    driver.close(4000)
    assert driver.close(4001) == []
    with pytest.raises(RuntimeError, match="send after the close"):
        driver.send("a")
    driver.answer(4000)
    assert driver.close() == []


def test_nothing_can_be_sent_when_it_is_over() -> None:
    """Whoever ended it."""
    driver = attached()
    driver.say(Bye(1000))
    with pytest.raises(RuntimeError, match="send after the close"):
        driver.send("a")


@pytest.mark.parametrize(("code", "reason"), [(1001, ""), (2999, ""), (5000, ""), (1000, "\xe9" * 62)])
def test_a_close_that_may_not_travel_is_refused(code: int, reason: str) -> None:
    """As in browsers."""
    driver = attached()
    with pytest.raises(ValueError, match=r"code=|reason="):
        driver.close(code, reason)
    assert driver.machine.state is ClientState.ATTACHED


# Plain.


def test_a_plain_carrier_takes_messages_as_they_are() -> None:
    """Nothing is escaped, counted or kept, and what looks like a control message is none."""
    driver = Driver()
    driver.send("a")
    driver.connect()
    assert driver.open(None) == [Send(1, "a"), Plain(None)]
    assert driver.send(ESCAPE + "b") == [Send(1, ESCAPE + "b")]
    assert driver.say(MALFORMED, str(Bye(1000))) == [Deliver(MALFORMED), Deliver(str(Bye(1000)))]
    assert (driver.machine.kept, driver.machine.received, driver.due) == (0, 0, None)
    assert driver.wake() == []


def test_a_plain_carrier_makes_room() -> None:
    """What was kept has left."""
    driver = Driver(max_messages=1)
    driver.send("a", "b")
    driver.connect()
    assert driver.told(driver.open(None)) == [Plain(None), Room()]


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4400, 4401, 4499])
def test_a_close_of_a_plain_server_may_be_final(code: int) -> None:
    """Codes have to say what byes say elsewhere."""
    assert plain().end(code, "why", clean=True) == [Closed(code, "why")]


@pytest.mark.parametrize("code", [None, 1001, 1005, 1006, 1011, 1012, 1013, 4000, 4500])
def test_after_every_other_close_of_a_plain_server_the_client_comes_back(code: int | None) -> None:
    """With the usual delays, begun anew by a carrier that held."""
    driver = plain()
    driver.now += 5
    assert driver.end(code) == [Detached(code)]
    assert driver.due == 0.5


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006])
def test_a_close_of_a_plain_carrier_is_over_with_it(code: int | None) -> None:
    """There is no session to come back to."""
    driver = plain()
    assert driver.close(4000, "done") == [CloseCarrier(1, 4000, "done")]
    assert driver.say("a") == [Deliver("a")]
    assert driver.end(code) == [Closed(4000, "done")]


def test_a_close_of_a_plain_carrier_is_over_after_ten_seconds() -> None:
    """Answered or not."""
    driver = plain()
    driver.close()
    assert driver.wait(10) == [CloseCarrier(1), Closed(1000)]


def test_a_client_without_a_session_may_find_it_later() -> None:
    """What was said to the plain server is not counted in it."""
    driver = plain()
    driver.send("a")
    driver.say("x")
    driver.end()
    assert driver.come_back() == Offer(2, name_of(1))
    driver.open()
    assert driver.data(driver.hello()) == []
    assert driver.data(driver.send("b")) == ["b"]


# The whole.


def test_carriers_come_before_the_application_in_what_is_to_be_done() -> None:
    """So an application that sends from within does not overtake what was sent before."""
    driver = attached({"ack": (1, 1000)})
    driver.send("a")
    for actions in (driver.say("x"), driver.resume(lost=2), driver.say(Bye(1000))):
        told = [action in Driver.told([action]) for action in actions]
        assert told == sorted(told)


def test_the_state_has_moved_on_before_the_application_acts() -> None:
    """It may send or close while it is told, and everything is counted."""
    driver = attached()
    only(Deliver, driver.say("x"))
    assert driver.machine.received == 1
    driver.end()
    driver.come_back()
    driver.open()
    only(Resumed, driver.hello(outcome=Outcome.RESUMED))
    assert driver.close() == [CloseCarrier(2, 1000)]


def test_no_name_of_a_session_is_in_a_representation() -> None:
    """They are secrets, like the cookie of a session."""
    driver = Driver()
    actions = driver.machine.connect(driver.now)
    driver.open()
    actions += driver.hello()
    driver.end()
    actions += driver.wait(0.5)
    shown = repr([driver.machine, actions, vars(driver.machine)])
    assert "session." not in shown
    assert "'session'" not in shown
    assert not any(name_of(number) in shown for number in range(1, 4))
    assert repr(driver.machine) == "<ClientMachine [connecting | 0 received, 0 sent]>"


def test_a_step_that_is_not_in_the_table_is_an_error_of_ours() -> None:
    """Not of a server's: nothing that it says leads there."""
    driver = Driver()
    driver.machine.state = ClientState.CLOSED
    with pytest.raises(RuntimeError, match=r"CONNECT is illegal in <ClientMachine \[closed"):
        driver.machine._begin_attempt(driver.now)


# A server that says anything.

numbers = st.integers(0, 8) | st.just(10**15 - 1)
controls = st.one_of(
    st.builds(
        replace,
        st.just(HELLO),
        session=st.sampled_from(["session", "other"]),
        outcome=st.sampled_from(Outcome),
        received=numbers,
        lost=st.none() | numbers,
        ping=numbers,
        timeout=numbers,
        window=numbers,
        ack=st.tuples(numbers, numbers),
        max=st.none() | numbers,
    ),
    st.builds(Ack, numbers),
    st.builds(Ping, numbers),
    st.builds(Pong, numbers),
    st.builds(GapMessage, numbers),
    st.builds(Bye, numbers, st.text(max_size=5), st.sampled_from(["resume", "new", None]), st.none() | numbers),
)
codes = st.sampled_from([None, 1000, 1001, 1002, 1005, 1006, 1008, 1012, 4000, 4401])
spoken = st.one_of(controls.map(str), st.text(max_size=5), st.text(max_size=5).map(ESCAPE.__add__), st.binary())
events = st.one_of(
    st.tuples(st.just("hears"), spoken),
    st.tuples(st.just("hears"), controls.map(str)),
    st.tuples(st.just("is opened"), st.sampled_from(["wsstab.v1", "wsstab.v1", None, "chat"])),
    st.tuples(st.just("ends"), codes),
    st.tuples(st.just("sends"), st.binary(max_size=3)),
    st.tuples(st.just("waits"), st.sampled_from([0.0, 0.5, 5.0, 30.0, 3600.0])),
    st.tuples(st.just("wakes"), st.none()),
    st.tuples(st.just("connects"), st.none()),
    st.tuples(st.just("closes"), st.none()),
)


class Watched:
    """A client whose actions are checked as they would be carried out.

    Args:
        driver: the client.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.carrier: int | None = None
        self.is_closed = False

    def happen(self, what: str, detail: object) -> None:
        """Let something happen, and check what follows."""
        driver, machine, now = self.driver, self.driver.machine, self.driver.now
        if what == "hears":
            self.check(machine.heard(machine.attempt, detail, now))  # type: ignore[arg-type]
        elif what == "is opened":
            self.check(machine.opened(machine.attempt, detail, now))  # type: ignore[arg-type]
        elif what == "ends":
            self.carrier = None
            self.check(machine.ended(machine.attempt, detail, "", True, now))  # type: ignore[arg-type]
        elif what == "waits":
            self.check(driver.wait(detail))  # type: ignore[arg-type]
        elif what == "connects":
            self.check(machine.connect(now))
        elif what == "wakes":
            self.check(driver.wake())
        else:
            self.act(what, detail)

    def act(self, what: str, detail: object) -> None:
        """The application sends or closes; both fail only where they should."""
        try:
            self.check(self.driver.close() if what == "closes" else self.driver.send(detail))  # type: ignore[arg-type]
        except RuntimeError:
            assert self.driver.machine._close or self.is_closed
        except ValueError:
            hello = self.driver.machine._hello
            assert hello is not None
            assert hello.max is not None

    def check(self, actions: list[Action]) -> None:
        """Whether these actions could be carried out."""
        for action in actions:
            assert not self.is_closed
            if isinstance(action, Connect):
                assert self.carrier is None
                self.carrier = action.attempt
            elif isinstance(action, Send):
                assert action.attempt == self.carrier
            elif isinstance(action, CloseCarrier):
                self.carrier = None
            elif isinstance(action, Closed):
                self.is_closed = True


@settings(max_examples=300, deadline=None)
@given(st.lists(events, max_size=60))
def test_no_server_makes_the_client_fail_or_keep_more_than_its_window(happenings: list[tuple[str, object]]) -> None:
    """Whatever it says, in whatever order; no carrier is used that is gone, and nothing follows the last close."""
    watched = Watched(Driver(max_messages=4, max_bytes=8))
    watched.happen("connects", None)
    for what, detail in happenings:
        watched.happen(what, detail)
        assert watched.driver.machine.kept <= 4
        assert (watched.driver.machine.state is ClientState.CLOSED) == watched.is_closed
        assert watched.driver.machine.deadline is not None or watched.driver.machine.state in (
            ClientState.CLOSED,
            ClientState.PLAIN,
            ClientState.ATTACHED,
        )


@settings(max_examples=300, deadline=None)
@given(st.lists(spoken, max_size=30))
def test_no_message_makes_an_attached_client_fail(messages: list[Message]) -> None:
    """It hears the message, closes the carrier, or is over."""
    driver = attached()
    driver.send("a", b"b")
    for message in messages:
        driver.say(message)
    assert driver.machine.kept <= 2


def test_a_machine_draws_names_and_chances_only_from_what_it_was_given() -> None:
    """A test or a simulation repeats itself."""
    names = iter(map(name_of, range(3)))
    machine = ClientMachine(lambda: next(names), lambda: 0.0)
    machine.connect(0.0)
    machine.ended(1, None, "", False, 0.0)
    assert machine.deadline == 0.0
