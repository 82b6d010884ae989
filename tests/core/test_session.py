"""The server's side of a session: who has it, what is counted, and what leaves in which order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from wsstab.core.frames import Block, Outgoing
from wsstab.core.protocol import ESCAPE, Ack, Bye, Offer, Ping, Pong, ViolationError
from wsstab.core.queue import OutboundQueue
from wsstab.core.session import (
    STATES,
    Ending,
    FloodError,
    Refusal,
    Session,
    SessionState,
    SessionStep,
    ending_of,
)

NEXT = "n" * 22
BYE = Bye(1000)
WHOLE = 65536


@dataclass
class Handed:
    """Counts what was handed to carriers, as a sender does."""

    messages: int = 0
    bytes: int = 0


class Stand:
    """A session, its queue, and a carrier that takes everything."""

    def __init__(
        self, max_messages: int = 10, max_bytes: int = 1000, policy: str = "drop_oldest", room: int = 4
    ) -> None:
        self.handed = Handed()
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(None, room, policy)
        self.session = Session("s1", NEXT, 1, self.handed, self.queue, max_messages=max_messages, max_bytes=max_bytes)

    def say(self, *texts: str) -> None:
        """The handler sends."""
        for text in texts:
            message = Outgoing(text)
            if self.session.takes(message.size):
                self.handed.messages += 1
                self.handed.bytes += message.size
                self.session.keep(message)
            else:
                self.queue.put(message)

    def leaves(self, max_bytes: int = WHOLE) -> list[str | bytes]:
        """Everything that leaves now."""
        left: list[str | bytes] = []
        while messages := self.session.next(max_bytes):
            left += [each.data for each in messages]
        return left

    def resume(self, received: int) -> list[str | bytes]:
        """Another carrier takes over; what it brings."""
        self.session.admit(self.session.attempt + 1)
        self.session.attach(received)
        return self.leaves()


def attached(max_messages: int = 10, max_bytes: int = 1000, policy: str = "drop_oldest", room: int = 4) -> Stand:
    """A session with its first carrier."""
    stand = Stand(max_messages, max_bytes, policy, room)
    stand.session.attach(0)
    return stand


def gap(lost: int) -> str:
    """The message that tells of a gap."""
    return f'{ESCAPE}{{"t":"gap","lost":{lost}}}'


# States.


def test_every_state_has_a_row_and_the_last_one_is_final() -> None:
    """The table is complete."""
    assert set(STATES) == set(SessionState)
    assert STATES[SessionState.OVER] == {}
    assert all(SessionStep.END in row for state, row in STATES.items() if state is not SessionState.OVER)


def test_a_session_begins_detached_and_is_attached_by_its_first_carrier() -> None:
    """It begins with the admission, before the accept."""
    session = Stand().session
    assert (session.state, session.attached) == (SessionState.DETACHED, False)
    session.attach(0)
    assert (session.state, session.attached) == (SessionState.ATTACHED, True)
    session.detach()
    session.detach()
    assert (session.state, session.attached) == (SessionState.DETACHED, False)


def test_a_session_whose_handler_has_ended_lingers_with_or_without_a_carrier() -> None:
    """A resume gets the rest and the goodbye, and no second conversation."""
    session = attached().session
    session.handler_ended(BYE)
    session.handler_ended(Bye(1011))
    assert (session.state, session.attached, session.goodbye) == (SessionState.LINGERING, True, BYE)
    session.detach()
    assert (session.state, session.attached) == (SessionState.LINGERING, False)
    session.attach(0)
    assert (session.state, session.attached) == (SessionState.LINGERING, True)
    session.end()
    session.end()
    assert (session.state, session.attached) == (SessionState.OVER, False)


def test_a_handler_may_end_after_its_session() -> None:
    """The session whose window has ended tells its handler, which ends then."""
    session = attached().session
    session.end()
    session.handler_ended(BYE)
    assert (session.state, session.goodbye) == (SessionState.OVER, None)


def test_an_illegal_step_raises_and_changes_nothing() -> None:
    """Only a mistake of this package can cause it."""
    session = attached().session
    with pytest.raises(RuntimeError, match=r"ATTACH is illegal in <Session \[attached"):
        session.attach(0)
    assert session.state is SessionState.ATTACHED


def test_a_session_does_not_show_its_names() -> None:
    """Who has a name has the session."""
    assert repr(attached().session) == "<Session [attached | 0 received, 0 sent]>"


# Offers.


@pytest.mark.parametrize(
    ("attempt", "received", "why"),
    [(1, 2, "late"), (2, 2, None), (2, 3, None), (2, 1, "counter"), (2, 4, "counter"), (9, 2, None)],
    ids=["late", "all acknowledged", "all sent", "below", "above", "attempts are skipped"],
)
def test_an_offer_needs_a_newer_attempt_and_a_counter_that_can_be(attempt: int, received: int, why: str | None) -> None:
    """Three messages were sent, and two of them acknowledged."""
    stand = attached()
    stand.say("a", "b", "c")
    stand.session.hear_ack(2)
    refused = stand.session.refusal_of(Offer(attempt, NEXT, "s1", received))
    assert refused == (None if why is None else Refusal(why, "new"))
    closing = stand.session.refusal_of(Offer(attempt, None, "s1", received))
    assert closing == (None if why is None else Refusal(why, None))


def test_an_offer_under_the_client_s_name_is_for_a_session_nobody_has_heard_of() -> None:
    """Its client has not had a hello, so it has neither sent nor acknowledged anything."""
    stand = attached()
    stand.say("a")
    assert stand.session.refusal_of(Offer(2, NEXT)) is None
    stand.session.hear_data(1)
    assert stand.session.refusal_of(Offer(2, NEXT)) == Refusal("counter", "new")
    stand = attached()
    stand.say("a")
    stand.session.hear_ack(1)
    assert stand.session.refusal_of(Offer(2, NEXT)) == Refusal("counter", "new")


def test_an_admitted_attempt_takes_the_session_from_the_older_carrier() -> None:
    """The older carrier counts for nothing, even before the newer one is accepted."""
    session = attached().session
    session.admit(4)
    assert (session.attempt, session.attached) == (4, False)
    assert session.refusal_of(Offer(3, NEXT, "s1")) == Refusal("late", "new")


# What leaves.


def test_messages_are_kept_until_they_are_acknowledged() -> None:
    """A resume brings what the client has not had, in order."""
    stand = attached()
    stand.say("a", "b", "c")
    assert stand.resume(1) == ["b", "c"]
    assert (stand.handed.messages, stand.session.replayed) == (3, 2)
    assert stand.resume(3) == []
    assert not stand.session.unacknowledged


def test_a_replay_comes_before_anything_new() -> None:
    """And in parts, as the wire drains."""
    stand = attached()
    stand.say("a", "b")
    stand.session.admit(2)
    stand.say("c")
    stand.session.attach(0)
    assert not stand.session.takes(1)
    assert [each.data for each in stand.session.next(1)] == ["a"]
    stand.say("d")
    assert stand.leaves(1) == ["b", "c", "d"]
    assert stand.session.takes(1)


def test_an_acknowledgement_during_a_replay_skips_what_it_acknowledges() -> None:
    """The client had these messages by an older carrier."""
    stand = attached()
    stand.say("a", "b", "c", "d")
    stand.session.admit(2)
    stand.session.attach(0)
    assert [each.data for each in stand.session.next(1)] == ["a"]
    stand.session.hear_ack(3)
    assert stand.leaves(1) == ["d"]


def test_while_nothing_is_attached_nothing_leaves() -> None:
    """Messages wait in the queue, without a number."""
    stand = Stand()
    stand.say("a")
    assert (stand.leaves(), stand.handed.messages, len(stand.queue)) == ([], 0, 1)
    stand.session.attach(0)
    assert (stand.leaves(), stand.handed.messages, len(stand.queue)) == (["a"], 1, 0)


def test_the_window_bounds_the_messages_that_are_unacknowledged() -> None:
    """The next ones wait in the queue until there is room."""
    stand = attached(max_messages=2)
    stand.say("a", "b", "c", "d", "e")
    assert (stand.handed.messages, stand.leaves()) == (2, [])
    stand.session.hear_ack(1)
    assert stand.leaves() == ["c"]
    stand.session.hear_ack(3)
    assert stand.leaves() == ["d", "e"]


def test_the_window_bounds_the_bytes_that_are_unacknowledged() -> None:
    """One message passes when there is no other, however large."""
    stand = attached(max_bytes=10)
    stand.say("x" * 100, "y")
    assert (stand.handed.messages, stand.leaves()) == (1, [])
    stand.session.hear_ack(1)
    assert stand.leaves() == ["y"]
    stand.say("z" * 9, "v")
    assert (stand.handed.messages, stand.leaves()) == (3, [])
    stand.session.hear_ack(2)
    assert stand.leaves() == ["v"]


def test_broadcasts_are_kept_as_the_shared_block() -> None:
    """A part of it may be acknowledged."""
    stand = attached()
    block = Block([Outgoing("a"), Outgoing("b")])
    stand.handed.messages += block.count
    stand.handed.bytes += block.size
    stand.session.keep(block)
    assert stand.resume(1) == ["b"]


def test_lost_messages_are_told_before_the_next_message() -> None:
    """The total, because a gap may be lost with its carrier."""
    stand = attached(max_messages=1, room=2)
    stand.say("a", "b", "c", "d", "e")
    stand.session.hear_ack(1)
    assert stand.leaves() == [gap(2), "d"]
    stand.session.hear_ack(2)
    assert stand.leaves() == ["e"]
    stand.session.hear_ack(3)
    assert stand.session.takes(1)


def test_no_message_passes_a_gap_that_was_not_told() -> None:
    """A message that is dropped while the queue is empty is lost as well: the newest under ``drop_newest``."""
    stand = attached(max_messages=1, policy="drop_newest", room=1)
    stand.say("a", "b", "c")
    stand.session.hear_ack(1)
    assert stand.leaves() == [gap(1), "b"]


def test_a_hello_tells_what_is_lost_so_far() -> None:
    """It is not told again."""
    stand = attached(max_messages=1, room=1)
    stand.say("a", "b", "c")
    assert stand.session.lost == 1
    stand.session.admit(2)
    stand.session.attach(1)
    assert stand.leaves() == ["c"]


def test_the_goodbye_comes_behind_everything() -> None:
    """And again to each carrier, until the client has answered it."""
    stand = attached(max_messages=1)
    stand.say("a", "b")
    stand.session.handler_ended(BYE)
    assert (stand.leaves(), stand.session.said_goodbye) == ([], False)
    stand.session.hear_ack(1)
    assert (stand.leaves(), stand.session.said_goodbye) == (["b", str(BYE)], True)
    assert stand.leaves() == []
    assert stand.resume(1) == ["b", str(BYE)]


def test_a_gap_is_told_before_the_goodbye() -> None:
    """The client learns the total in any case."""
    stand = attached(max_messages=1, policy="drop_newest", room=1)
    stand.say("a", "b", "c")
    stand.session.hear_ack(1)
    stand.leaves()
    stand.say("d", "e")
    stand.session.hear_ack(2)
    assert stand.leaves() == [gap(2), "d"]
    stand.say("f", "g")
    stand.queue.clear()
    stand.session.handler_ended(BYE)
    assert stand.leaves() == [gap(4), str(BYE)]


# What arrives.


def test_an_acknowledgement_is_due_after_so_many_messages_or_bytes() -> None:
    """Less where the window is small: a client with a full window waits for it."""
    assert Stand(1000, 1 << 20).session.ack_due == (64, 65536)
    assert Stand(10, 100).session.ack_due == (2, 25)
    assert Stand(1, 1).session.ack_due == (1, 1)
    session = attached(10, 100).session
    assert [session.hear_data(1) for _ in range(4)] == [None, Ack(2), None, Ack(4)]
    assert [session.hear_data(25), session.hear_data(24)] == [Ack(5), None]


def test_a_client_that_only_talks_is_told_that_it_is_heard() -> None:
    """A server that has sent nothing for long acknowledges each message."""
    session = attached(1000, 1 << 20).session
    assert session.hear_data(1, quiet=True) == Ack(1)
    assert session.hear_data(1) is None


def test_a_pong_acknowledges() -> None:
    """So does a ping of the server."""
    session = attached(1000, 1 << 20).session
    session.hear_data(1)
    assert session.hear_control(ESCAPE + '{"t":"ping","h":0}', 0.0) == Ping(0)
    assert session.pong() == Pong(1)
    session.hear_data(1)
    assert session.ping() == Ping(2)


def test_any_message_confirms_the_hello() -> None:
    """A session whose client has never confirmed one waits for a shorter time."""
    session = attached().session
    assert not session.confirmed
    with pytest.raises(ViolationError):
        session.hear_control(ESCAPE, 0.0)
    assert not session.confirmed
    session.hear_control(ESCAPE + '{"t":"ack","h":0}', 0.0)
    assert session.confirmed
    session = attached().session
    session.hear_data(1)
    assert session.confirmed


def test_an_acknowledgement_above_what_was_sent_violates_the_protocol() -> None:
    """Its carrier is closed with 1002."""
    stand = attached()
    stand.say("a")
    for kind in ("ack", "ping", "pong"):
        with pytest.raises(ViolationError):
            stand.session.hear_control(f'{ESCAPE}{{"t":"{kind}","h":2}}', 0.0)
    stand.session.hear_control(ESCAPE + '{"t":"ack","h":1}', 0.0)
    stand.session.hear_control(ESCAPE + '{"t":"ack","h":0}', 0.0)
    assert stand.session.unacknowledged.messages == 1


def test_control_messages_that_acknowledge_nothing_new_have_a_rate() -> None:
    """100 at once, then 10 a second."""
    stand, ping = attached(1000, 1 << 20), ESCAPE + '{"t":"ping","h":0}'
    for _ in range(100):
        stand.session.hear_control(ping, 5.0)
    with pytest.raises(FloodError):
        stand.session.hear_control(ESCAPE + '{"t":"unknown"}', 5.0)
    stand.say("a")
    stand.session.hear_control(ESCAPE + '{"t":"ack","h":1}', 5.0)
    stand.session.hear_control(ESCAPE + '{"t":"ack","h":1}', 5.1)
    with pytest.raises(FloodError):
        stand.session.hear_control(ESCAPE + '{"t":"ack","h":1}', 5.1)


def test_a_client_with_a_full_window_may_ping_behind_its_data() -> None:
    """It asks for an acknowledgement, which is due only later if its window is small."""
    session, ping = attached(1000, 1 << 20).session, ESCAPE + '{"t":"ping","h":0}'
    for _ in range(1000):
        session.hear_data(1)
        session.hear_control(ping, 5.0)
    for _ in range(100):
        session.hear_control(ping, 5.0)
    with pytest.raises(FloodError):
        session.hear_control(ping, 5.0)


# Ends.


@pytest.mark.parametrize(
    ("code", "by_server", "ending"),
    [
        (1000, False, Ending.OVER),
        (3000, False, Ending.OVER),
        (4999, False, Ending.OVER),
        (1001, False, Ending.RELOAD),
        (1005, False, Ending.WINDOW),
        (1006, False, Ending.WINDOW),
        (1011, False, Ending.WINDOW),
        (1002, False, Ending.WINDOW),
        (1002, True, Ending.OVER),
        (1003, True, Ending.OVER),
        (1007, True, Ending.OVER),
        (1009, True, Ending.OVER),
        (1011, True, Ending.WINDOW),
        (1000, True, Ending.WINDOW),
    ],
)
def test_what_a_close_means_for_the_session(code: int, by_server: bool, ending: Ending) -> None:
    """A page cannot abort a socket; it closes the one it has given up without a code, and that ends nothing."""
    assert ending_of(code, by_server) is ending
    assert attached().session.closed(code, by_server) is ending


def test_a_close_without_a_code_answers_a_goodbye() -> None:
    """Only if nothing is unacknowledged: a client that has not read the goodbye may have missed messages."""
    stand = attached()
    stand.say("a")
    stand.session.handler_ended(Bye(1011, again="new"))
    assert stand.session.closed(1005, by_server=False) is Ending.WINDOW
    stand.leaves()
    assert stand.session.closed(1005, by_server=False) is Ending.WINDOW
    stand.session.hear_ack(1)
    assert stand.session.closed(1006, by_server=False) is Ending.WINDOW
    assert stand.session.closed(1005, by_server=False) is Ending.OVER


def test_a_final_goodbye_is_answered_with_1000_only() -> None:
    """A client that did not read it must not be told to begin anew."""
    stand = attached()
    stand.session.handler_ended(BYE)
    stand.leaves()
    assert stand.session.closed(1005, by_server=False) is Ending.WINDOW
    assert stand.session.closed(1000, by_server=False) is Ending.OVER


def test_an_ended_session_keeps_nothing() -> None:
    """Nobody can ask for it any more."""
    stand = attached()
    stand.say("a")
    stand.session.end()
    assert (bool(stand.session.unacknowledged), stand.leaves()) == (False, [])
