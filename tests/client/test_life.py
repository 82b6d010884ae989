"""What a client knows of its session, and what it counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from wsstab.client.life import Life
from wsstab.client.outbox import Outbox
from wsstab.core.protocol import Ack, Offer, Ping, Pong, ViolationError

from .driving import HELLO, name_of


def names() -> Iterator[str]:
    """One name after another."""
    return map(name_of, range(1, 10))


def life(session: str | None = "session", *, sent: int = 0) -> Life:
    """A life in which so many messages were sent; its names are counted."""
    outbox = Outbox()
    made = Life(names().__next__, outbox)
    made.begin(session)
    for _ in range(sent):
        outbox.put("a", 1)
    outbox.take()
    return made


def test_an_offer_names_the_session_and_the_one_to_begin_in_its_place() -> None:
    """Who closes begins none, unless there is none to close and something left to say."""
    known, none = life(), life(None)
    known.hear_data("a")
    assert known.offer(7, closing=False) == Offer(7, name_of(2), "session", 1)
    assert known.offer(7, closing=True) == Offer(7, None, "session", 1)
    assert none.offer(7, closing=False) == none.offer(7, closing=True) == Offer(7, name_of(2))


def test_another_life_has_another_name_and_other_counters() -> None:
    """What was sent and not acknowledged is returned."""
    old = life(sent=2)
    old.hear_data("a")
    old.hear_acknowledgement(1)
    old.hear_lost(3)
    assert old.begin("other") == ["a"]
    assert (old.session, old.received, old.lost) == ("other", 0, 0)
    assert old.offer(1, closing=False) == Offer(1, name_of(3), "other", 0)


@pytest.mark.parametrize(
    ("session", "received", "agrees"),
    [("session", 1, True), ("session", 3, True), ("session", 0, False), ("session", 4, False), ("other", 2, False)],
)
def test_a_hello_agrees_if_it_counts_between_what_was_acknowledged_and_what_was_sent(
    session: str, received: int, agrees: bool
) -> None:
    """And if it names this session."""
    this = life(sent=3)
    this.hear_acknowledgement(1)
    assert this.agrees(replace(HELLO, session=session, received=received)) == agrees


def test_each_message_to_the_server_acknowledges_what_has_arrived() -> None:
    """So that none is due after it."""
    this = life()
    this.ack = (2, 1000)
    for message in (Ack(2), Ping(4), Pong(6)):
        assert [this.hear_data("a"), this.hear_data("a")] == [False, True]
        assert {Ack: this.acknowledgement, Ping: this.ping, Pong: this.pong}[type(message)]() == message


def test_an_acknowledgement_is_due_after_so_many_bytes_too() -> None:
    """A text that cannot be encoded has a size all the same."""
    this = life()
    this.ack = (1000, 4)
    assert [this.hear_data(b"ab"), this.hear_data("\ud800"), this.hear_data("\xe9")] == [False, False, True]


def test_an_acknowledgement_may_be_news_or_not_or_a_lie() -> None:
    """A lie is a violation of the protocol."""
    this = life(sent=2)
    assert [this.hear_acknowledgement(number) for number in (0, 1, 1, 0, 2)] == [False, True, False, False, True]
    with pytest.raises(ViolationError):
        this.hear_acknowledgement(3)


def test_totals_of_lost_messages_become_differences() -> None:
    """An older total and an unknown one say nothing."""
    this = life()
    assert [this.hear_lost(total) for total in (2, 2, 5, 4, None, 6)] == [2, 0, 3, 0, 0, 1]


def test_the_server_acknowledges_unasked_after_so_many_messages_or_bytes() -> None:
    """Before hello nobody knows after how many."""
    this = life(sent=3)
    assert not this.acknowledgement_comes
    this.ack = (3, 1000)
    assert this.acknowledgement_comes
    this.ack = (1000, 3)
    assert this.acknowledgement_comes
    this.ack = (4, 4)
    assert not this.acknowledgement_comes


def test_its_representation_has_numbers_and_no_name() -> None:
    """Names are secrets."""
    assert repr(life(sent=2)) == "<Life [0 received, 2 sent]>"
