"""The outbound queue, by examples and against a plain list."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wsstab.core.queue import POLICIES, OutboundQueue, Verdict

WITHOUT_KEYS = [policy for policy in POLICIES if policy != "latest"]


@dataclass(frozen=True)
class Message:
    """A message that is recognised by its name."""

    name: str
    size: int = 10


A, B, C, D = (Message(name) for name in "abcd")


def build(
    policy: str, *waiting: Message, max_bytes: int | None = 25, max_messages: int | None = None
) -> OutboundQueue[Message]:
    """A queue with messages in it, each under its name as key."""
    queue: OutboundQueue[Message] = OutboundQueue(max_bytes, max_messages, policy)
    for message in waiting:
        assert queue.put(message, message.name) is Verdict.QUEUED
    return queue


@pytest.mark.parametrize("policy", POLICIES)
def test_messages_leave_in_the_order_they_came(policy: str) -> None:
    """First in, first out, and what is taken is no longer counted."""
    queue = build(policy, A, B, C, max_bytes=None)
    assert queue
    assert (len(queue), queue.bytes) == (3, 30)
    assert queue.take(1000) == [A, B, C]
    assert not queue
    assert (len(queue), queue.bytes, queue.dropped) == (0, 0, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_take_returns_as_many_messages_as_fit(policy: str) -> None:
    """A message that would exceed the limit of the take stays in the queue."""
    queue = build(policy, A, B, C, max_bytes=None)
    assert queue.take(29) == [A, B]
    assert queue.bytes == 10
    assert queue.take(10) == [C]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("limit", [9, 1, 0, -1])
def test_a_take_returns_at_least_one_message(policy: str, limit: int) -> None:
    """A message larger than the limit of the take is returned alone."""
    queue = build(policy, A, B, max_bytes=None)
    assert queue.take(limit) == [A]
    assert queue.take(limit) == [B]
    assert queue.take(limit) == []
    assert (len(queue), queue.bytes) == (0, 0)


def test_empty_messages_do_not_use_up_the_limit_of_a_take() -> None:
    """All empty messages at the front are taken together, even with a limit of 0."""
    queue = build("close", Message("x", 0), Message("y", 0), A)
    assert queue.take(0) == [Message("x", 0), Message("y", 0)]
    assert queue.take(0) == [A]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_message_always_fits_into_an_empty_queue(policy: str) -> None:
    """A message of any size must be able to leave."""
    queue = build(policy)
    huge = Message("huge", 10**9)
    assert queue.fits(huge.size)
    assert queue.put(huge) is Verdict.QUEUED
    assert not queue.fits(0)
    assert queue.take(1) == [huge]
    assert queue.fits(huge.size)


def test_a_queue_may_be_filled_exactly_to_its_bounds() -> None:
    """Only a message that would exceed a bound does not fit."""
    queue = build("close", A, B, max_bytes=20, max_messages=3)
    assert queue.fits(0)
    assert not queue.fits(1)
    assert queue.put(Message("empty", 0)) is Verdict.QUEUED
    assert not queue.fits(0)


@pytest.mark.parametrize(
    ("policy", "verdict"),
    [("close", Verdict.OVERFLOW), ("block", Verdict.DROPPED), ("drop_newest", Verdict.DROPPED)],
)
@pytest.mark.parametrize("bounds", [(25, None), (None, 2), (25, 2)])
def test_beyond_a_bound_the_new_message_is_refused(
    policy: str, verdict: Verdict, bounds: tuple[int | None, int | None]
) -> None:
    """These three policies leave the queue as it is, and count the refused message as dropped."""
    queue = build(policy, A, B, max_bytes=bounds[0], max_messages=bounds[1])
    assert queue.put(C) is verdict
    assert (queue.bytes, queue.dropped) == (20, 1)
    assert queue.take(1000) == [A, B]


@pytest.mark.parametrize("policy", ["drop_oldest", "latest"])
@pytest.mark.parametrize("bounds", [(25, None), (None, 2), (25, 2)])
def test_beyond_a_bound_the_oldest_messages_make_room(policy: str, bounds: tuple[int | None, int | None]) -> None:
    """These two policies drop messages from the front until the new one fits."""
    queue = build(policy, A, B, max_bytes=bounds[0], max_messages=bounds[1])
    assert queue.put(C, "c") is Verdict.QUEUED
    assert (queue.bytes, queue.dropped) == (20, 1)
    assert queue.take(1000) == [B, C]


@pytest.mark.parametrize("policy", ["drop_oldest", "latest"])
def test_a_message_larger_than_the_bound_replaces_the_whole_queue(policy: str) -> None:
    """All others are dropped, because it fits only alone."""
    queue = build(policy, A, B)
    huge = Message("huge", 26)
    assert queue.put(huge, "huge") is Verdict.QUEUED
    assert (queue.bytes, queue.dropped) == (26, 2)
    assert queue.take(1000) == [huge]


def test_the_latest_message_of_a_key_replaces_the_one_before() -> None:
    """The old message is removed, and the new one goes to the end."""
    queue = build("latest", A, B, max_bytes=None)
    newer = Message("newer", 3)
    assert queue.put(newer, "a") is Verdict.QUEUED
    assert (queue.bytes, queue.dropped) == (13, 1)
    assert queue.take(1000) == [B, newer]


def test_messages_without_a_key_replace_each_other() -> None:
    """Under "latest", no key is a key like any other."""
    queue = build("latest", A, max_bytes=None)
    queue.put(B)
    queue.put(C)
    assert queue.take(1000) == [A, C]
    assert queue.dropped == 1


def test_a_replaced_message_makes_room_before_others_are_dropped() -> None:
    """The room it leaves is enough, so no message of another key is dropped."""
    queue = build("latest", A, B)
    assert queue.put(Message("newer", 15), "b") is Verdict.QUEUED
    assert [message.name for message in queue.take(1000)] == ["a", "newer"]
    assert queue.dropped == 1


def test_the_only_message_can_be_replaced_by_a_message_of_any_size() -> None:
    """The queue is empty for a moment, and an empty queue takes a message of any size."""
    queue = build("latest", A)
    assert queue.put(Message("huge", 1000), "a") is Verdict.QUEUED
    assert (len(queue), queue.bytes, queue.dropped) == (1, 1000, 1)


def test_a_message_that_was_taken_is_not_replaced() -> None:
    """A key is forgotten together with its message."""
    queue = build("latest", A, B)
    queue.take(10)
    assert queue.put(C, "a") is Verdict.QUEUED
    assert queue.dropped == 0
    assert queue.take(1000) == [B, C]


@pytest.mark.parametrize("policy", WITHOUT_KEYS)
def test_other_policies_ignore_keys(policy: str) -> None:
    """Two messages of one key both stay, and a key need not be hashable."""
    queue = build(policy, max_bytes=None)
    unhashable: Hashable = []  # type: ignore[assignment]
    queue.put(A, unhashable)
    queue.put(B, unhashable)
    assert queue.take(1000) == [A, B]


@pytest.mark.parametrize("waiting", [[], [A]])
def test_an_unhashable_key_leaves_the_queue_unchanged(waiting: list[Message]) -> None:
    """The caller's mistake loses no message and changes no count."""
    queue = build("latest", *waiting)
    unhashable: Hashable = []  # type: ignore[assignment]
    with pytest.raises(TypeError):
        queue.put(B, unhashable)
    assert (bool(queue), queue.bytes, queue.dropped) == (bool(waiting), 10 * len(waiting), 0)
    assert queue.take(1000) == waiting


@pytest.mark.parametrize("policy", POLICIES)
def test_clearing_a_queue_counts_its_messages_as_dropped(policy: str) -> None:
    """They were never sent."""
    queue = build(policy, A, B)
    assert queue.clear() == 2
    assert (bool(queue), queue.bytes, queue.dropped) == (False, 0, 2)
    assert queue.clear() == 0
    assert queue.dropped == 2


@pytest.mark.parametrize("policy", POLICIES)
def test_a_take_may_bound_the_messages_too(policy: str) -> None:
    """A session takes no more than its window has room for."""
    queue = build(policy, A, B, C, max_bytes=None)
    assert queue.take(1000, 2) == [A, B]
    assert queue.take(1000, 0) == []
    assert (len(queue), queue.bytes) == (1, 10)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_take_may_leave_a_first_message_that_is_too_large(policy: str) -> None:
    """Other messages of the session are unacknowledged, so this one has to wait."""
    queue = build(policy, A, B, max_bytes=None)
    assert queue.take(9, alone=False) == []
    assert queue.take(-1, alone=False) == []
    assert queue.bytes == 20
    assert queue.take(10, alone=False) == [A]
    assert queue.take(10, alone=False) == [B]


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_queue_holds_no_container(policy: str) -> None:
    """Each of fifty thousand idle connections then pays for one small object only, before and after its traffic."""
    queue = build(policy)
    assert sys.getsizeof(queue) < 128
    assert queue.waiting is None
    for _ in range(3):
        queue.put(A, "a")
        queue.put(B, "b")
        queue.take(10)
        queue.take(10)
        assert queue.waiting is None
    queue.put(A, "a")
    queue.clear()
    assert queue.waiting is None


def test_a_policy_may_be_a_string_enum() -> None:
    """The enum of the configuration works like its value."""

    class Policy(str, Enum):
        LATEST = "latest"

    queue = build(Policy.LATEST, A)
    queue.put(B, "a")
    assert queue.take(1000) == [B]


def test_an_unknown_policy_is_refused() -> None:
    """The error gives the value and the policies that are allowed."""
    with pytest.raises(ValueError, match="policy='newest': must be one of close, block, drop_oldest"):
        OutboundQueue(1, 1, "newest")


def test_the_repr_tells_how_much_is_waiting() -> None:
    queue = build("drop_newest", A, B)
    queue.put(C)
    assert repr(queue) == "<OutboundQueue [2 messages, 20 bytes | 1 dropped]>"


@settings(deadline=None)
@given(policy=st.sampled_from(POLICIES), sizes=st.lists(st.integers(0, 100)), limit=st.integers(0, 150))
def test_taking_in_parts_gives_the_same_as_taking_all_at_once(policy: str, sizes: list[int], limit: int) -> None:
    """No message is lost, doubled or swapped, and only a take of a single message may exceed the limit."""
    messages = [Message(str(number), size) for number, size in enumerate(sizes)]
    queue = build(policy, *messages, max_bytes=None)
    taken: list[Message] = []
    while part := queue.take(limit):
        assert len(part) == 1 or sum(message.size for message in part) <= limit
        taken += part
    assert taken == messages


class QueueAgainstList(RuleBasedStateMachine):
    """A queue agrees with a list of messages that is added up at each call."""

    @initialize(
        policy=st.sampled_from(POLICIES),
        max_bytes=st.none() | st.integers(1, 60),
        max_messages=st.none() | st.integers(1, 6),
    )
    def build(self, policy: str, max_bytes: int | None, max_messages: int | None) -> None:
        self.queue: OutboundQueue[Message] = OutboundQueue(max_bytes, max_messages, policy)
        self.policy, self.max_bytes, self.max_messages = policy, max_bytes, max_messages
        self.waiting: list[tuple[Hashable, Message]] = []
        self.put_count = self.taken_count = 0

    def fits(self, size: int) -> bool:
        held = sum(message.size for _, message in self.waiting)
        bytes_fit = self.max_bytes is None or held + size <= self.max_bytes
        messages_fit = self.max_messages is None or len(self.waiting) + 1 <= self.max_messages
        return not self.waiting or (bytes_fit and messages_fit)

    @rule(size=st.integers(0, 70))
    def ask(self, size: int) -> None:
        assert self.queue.fits(size) == self.fits(size)

    @rule(size=st.integers(0, 70), key=st.none() | st.sampled_from("xyz"))
    def put(self, size: int, key: str | None) -> None:
        self.put_count += 1
        message = Message(str(self.put_count), size)
        if self.policy == "latest":
            self.waiting = [row for row in self.waiting if row[0] != key]
        if self.policy in ("drop_oldest", "latest"):
            while not self.fits(size):
                self.waiting.pop(0)
        refusal = Verdict.OVERFLOW if self.policy == "close" else Verdict.DROPPED
        expected = Verdict.QUEUED if self.fits(size) else refusal
        if self.fits(size):
            self.waiting.append((key, message))
        assert self.queue.put(message, key) is expected

    @rule(limit=st.integers(-1, 100))
    def take(self, limit: int) -> None:
        expected: list[Message] = []
        while self.waiting and (not expected or sum(m.size for m in expected) + self.waiting[0][1].size <= limit):
            expected.append(self.waiting.pop(0)[1])
        self.taken_count += len(expected)
        assert self.queue.take(limit) == expected

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == len(self.waiting)
        self.waiting = []

    @invariant()
    def counts_are_equal(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting)
            assert bool(self.queue) == bool(self.waiting)
            assert self.queue.bytes == sum(message.size for _, message in self.waiting)

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        if hasattr(self, "queue"):
            assert self.put_count == self.taken_count + len(self.queue) + self.queue.dropped


TestQueueAgainstList = QueueAgainstList.TestCase
