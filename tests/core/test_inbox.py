"""The inbox, by examples and against a plain list."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wsstab.core.inbox import Inbox


def build(*events: str, max_messages: int = 3, max_bytes: int = 100) -> Inbox[str]:
    """An inbox with events in it, each as large as its text is long."""
    inbox: Inbox[str] = Inbox(max_messages, max_bytes)
    for event in events:
        inbox.put(event, len(event))
    return inbox


def test_events_leave_in_the_order_they_came() -> None:
    """First in, first out, with the size of each."""
    inbox = build("a", "bb")
    assert (bool(inbox), len(inbox), inbox.bytes) == (True, 2, 3)
    assert inbox.take() == ("a", 1)
    assert inbox.take() == ("bb", 2)
    assert (bool(inbox), len(inbox), inbox.bytes) == (False, 0, 0)


def test_an_inbox_is_full_at_its_maximum_number_of_messages() -> None:
    """It is not full with one message less."""
    inbox = build("a", "b")
    assert not inbox.full
    inbox.put("c", 1)
    assert inbox.full
    inbox.take()
    assert not inbox.full


def test_an_inbox_is_full_at_its_maximum_number_of_bytes() -> None:
    """It is not full with one byte less."""
    inbox = build("x" * 99)
    assert not inbox.full
    inbox.put("", 0)
    assert not inbox.full
    inbox.put("y", 1)
    assert inbox.full


def test_fills_tells_whether_an_inbox_is_full_several_times_over() -> None:
    """Either messages or bytes suffice; no amount reaches an infinite factor."""
    inbox = build("a", "b", "c")
    assert (inbox.fills(1), inbox.fills(2), inbox.fills(math.inf)) == (True, False, False)
    inbox.put("x" * 197, 197)
    assert (inbox.fills(2), inbox.fills(3)) == (True, False)


def test_a_message_put_into_a_full_inbox_is_kept() -> None:
    """The reader checks for room beforehand; a message that was read is not lost silently."""
    inbox = build("a", "b", "c", "d")
    assert len(inbox) == 4


def test_the_oldest_event_can_be_dropped() -> None:
    """The call returns the size of that event."""
    inbox = build("old", "b")
    assert inbox.drop_oldest() == 3
    assert (len(inbox), inbox.bytes) == (1, 1)
    assert inbox.take() == ("b", 1)


def test_an_empty_inbox_has_nothing_to_take_or_drop() -> None:
    """Both calls raise ``IndexError``."""
    inbox = build()
    with pytest.raises(IndexError, match="empty"):
        inbox.take()
    with pytest.raises(IndexError, match="empty"):
        inbox.drop_oldest()


def test_an_empty_inbox_holds_no_container() -> None:
    """Each of fifty thousand idle connections then pays for one small object only, before and after its traffic."""
    inbox = build()
    assert sys.getsizeof(inbox) < 128
    assert inbox.waiting is None
    inbox.put("a", 1)
    inbox.take()
    assert inbox.waiting is None
    inbox.put("a", 1)
    inbox.drop_oldest()
    assert inbox.waiting is None


@pytest.mark.parametrize(("max_messages", "max_bytes"), [(0, 1), (1, 0), (-1, 1)])
def test_bounds_below_one_are_refused(max_messages: int, max_bytes: int) -> None:
    """An inbox with such a bound would always be full, so nothing would ever be read into it."""
    with pytest.raises(ValueError, match="must be at least 1"):
        Inbox(max_messages, max_bytes)


def test_the_repr_tells_how_much_is_waiting() -> None:
    inbox = build("a", "bb")
    inbox.drop_oldest()
    assert repr(inbox) == "<Inbox [1 messages, 2 bytes]>"


class InboxAgainstList(RuleBasedStateMachine):
    """An inbox agrees with a list of events that is added up at each call."""

    @initialize(max_messages=st.integers(1, 6), max_bytes=st.integers(1, 60))
    def build(self, max_messages: int, max_bytes: int) -> None:
        self.inbox: Inbox[int] = Inbox(max_messages, max_bytes)
        self.max_messages, self.max_bytes = max_messages, max_bytes
        self.waiting: list[tuple[int, int]] = []
        self.number = 0

    @rule(size=st.integers(0, 40))
    def put(self, size: int) -> None:
        self.number += 1
        self.waiting.append((self.number, size))
        self.inbox.put(self.number, size)

    @rule()
    def take(self) -> None:
        if self.waiting:
            assert self.inbox.take() == self.waiting.pop(0)

    @rule()
    def drop(self) -> None:
        if self.waiting:
            assert self.inbox.drop_oldest() == self.waiting.pop(0)[1]

    @invariant()
    def counts_are_equal(self) -> None:
        if hasattr(self, "inbox"):
            size = sum(size for _, size in self.waiting)
            assert (len(self.inbox), self.inbox.bytes) == (len(self.waiting), size)
            assert self.inbox.full == (len(self.waiting) >= self.max_messages or size >= self.max_bytes)


TestInboxAgainstList = InboxAgainstList.TestCase
