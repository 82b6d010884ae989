"""The messages of a session that the peer has not acknowledged, by examples and against a plain list."""

from __future__ import annotations

import sys

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wsstab.core.frames import Block, Outgoing
from wsstab.core.unacknowledged import Unacknowledged

ENDLESS = sys.maxsize


def message(text: str) -> Outgoing:
    """A message."""
    return Outgoing(text)


def block(*texts: str) -> Block:
    """Messages that were handed over together."""
    return Block([Outgoing(text) for text in texts])


def build(*kept: Outgoing | Block) -> Unacknowledged[Outgoing]:
    """A store that keeps these."""
    store: Unacknowledged[Outgoing] = Unacknowledged()
    for each in kept:
        store.keep(each)
    return store


def texts(messages: list[Outgoing]) -> list[str | bytes]:
    """The messages as the application gave them."""
    return [each.data for each in messages]


def test_kept_messages_are_sent_again_in_their_order() -> None:
    """Single messages and blocks alike."""
    store = build(message("a"), block("b", "c"), message("d"))
    assert texts(store.after(0, ENDLESS)) == ["a", "b", "c", "d"]
    assert texts(store.after(1, ENDLESS)) == ["b", "c", "d"]
    assert texts(store.after(2, ENDLESS)) == ["c", "d"]
    assert texts(store.after(4, ENDLESS)) == []


def test_acknowledged_messages_are_forgotten() -> None:
    """The store counts them and their bytes."""
    store = build(message("a"), block("bb", "ccc"), message("d"))
    store.acknowledge(3)
    assert (store.messages, store.bytes, texts(store.after(0, ENDLESS))) == (3, 6, ["d"])
    store.acknowledge(4)
    assert (store.messages, store.bytes, bool(store)) == (4, 7, False)


def test_a_part_of_a_block_can_be_acknowledged() -> None:
    """The peer counts messages and knows nothing of blocks."""
    store = build(block("a", "bb", "ccc"), message("d"))
    store.acknowledge(1)
    assert (store.messages, store.bytes, texts(store.after(0, ENDLESS))) == (1, 1, ["bb", "ccc", "d"])
    store.acknowledge(2)
    assert (store.messages, store.bytes, texts(store.after(2, ENDLESS))) == (2, 3, ["ccc", "d"])
    store.acknowledge(3)
    assert (store.messages, store.bytes, texts(store.after(0, ENDLESS))) == (3, 6, ["d"])


def test_an_older_acknowledgement_changes_nothing() -> None:
    """It may have been on its way for long."""
    store = build(message("a"), message("b"))
    store.acknowledge(1)
    store.acknowledge(1)
    store.acknowledge(0)
    assert (store.messages, store.bytes, texts(store.after(0, ENDLESS))) == (1, 1, ["b"])


def test_a_replay_is_fed_in_parts() -> None:
    """A part holds at most so many bytes, or one message that is larger."""
    store = build(block("a", "bb"), message("cccc"), message("d"))
    assert texts(store.after(0, 3)) == ["a", "bb"]
    assert texts(store.after(2, 3)) == ["cccc"]
    assert texts(store.after(3, 0)) == ["d"]


def test_an_empty_store_has_no_list() -> None:
    """An idle session costs nothing for what it may keep later."""
    store = build()
    assert (bool(store), repr(store), store.after(0, ENDLESS)) == (
        False,
        "<Unacknowledged [0 kept after 0 messages]>",
        [],
    )
    store.acknowledge(0)
    store.keep(message("a"))
    assert bool(store)
    store.clear()
    assert (bool(store), store.after(0, ENDLESS)) == (False, [])


class AgainstAList(RuleBasedStateMachine):
    """The store does what a list of all messages and a number would do."""

    def __init__(self) -> None:
        super().__init__()
        self.store = build()
        self.sent: list[Outgoing] = []
        self.acknowledged = 0

    @rule(text=st.text("ab", max_size=5))
    def keep_a_message(self, text: str) -> None:
        """A message of the handler."""
        self.sent.append(message(text))
        self.store.keep(self.sent[-1])

    @rule(sizes=st.lists(st.text("ab", max_size=5), min_size=1, max_size=4))
    def keep_a_block(self, sizes: list[str]) -> None:
        """Several broadcasts in one write."""
        kept = block(*sizes)
        self.sent += kept.messages
        self.store.keep(kept)

    @rule(part=st.floats(0, 1))
    def acknowledge(self, part: float) -> None:
        """Any number up to what was sent."""
        number = round(part * len(self.sent))
        self.store.acknowledge(number)
        self.acknowledged = max(self.acknowledged, number)

    @rule(part=st.floats(0, 1), max_bytes=st.integers(0, 12))
    def replay(self, part: float, max_bytes: int) -> None:
        """From any number on, in parts of any size."""
        number = max(round(part * len(self.sent)), self.acknowledged)
        again: list[Outgoing] = []
        while more := self.store.after(number + len(again), max_bytes):
            assert len(more) == 1 or sum(each.size for each in more) <= max_bytes
            again += more
        assert again == self.sent[number:]

    @invariant()
    def counts_agree(self) -> None:
        """What is acknowledged and what is kept are all that was sent."""
        assert self.store.messages == self.acknowledged
        assert self.store.bytes == sum(each.size for each in self.sent[: self.acknowledged])
        assert bool(self.store) == (self.acknowledged < len(self.sent))


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(deadline=None, max_examples=60)
