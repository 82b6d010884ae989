"""What the application has sent: by examples, and against plain lists by hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wsstab.client.outbox import Outbox, size_of


def test_the_size_of_a_message_is_that_of_its_payload() -> None:
    """A text is counted as UTF-8."""
    assert (size_of(b"abc"), size_of("abc"), size_of("\xe9"), size_of("\U0001f600")) == (3, 3, 2, 4)
    assert size_of("\ud800", "replace") == 1
    with pytest.raises(ValueError, match="surrogates"):
        size_of("\ud800")


def test_messages_get_their_numbers_when_they_are_taken() -> None:
    """Until then they are unsent."""
    outbox = Outbox()
    outbox.put("a", 1)
    outbox.put(b"bb", 2)
    assert (outbox.sent, len(outbox), outbox.bytes, outbox.unacknowledged()) == (0, 2, 3, [])
    assert outbox.take() == outbox.unacknowledged() == ["a", b"bb"]
    assert (outbox.sent, outbox.acknowledged, outbox.take()) == (2, 0, [])
    assert repr(outbox) == "<Outbox [0 unsent, 2 unacknowledged, 3 bytes]>"


def test_one_message_of_any_size_fits_into_an_empty_outbox() -> None:
    """And then nothing else does."""
    outbox = Outbox(10, 10)
    assert outbox.fits(1000)
    outbox.put(b"", 1000)
    assert not outbox.fits(0)
    assert outbox.full


def test_another_life_begins_with_what_is_unsent() -> None:
    """What was sent and not acknowledged is lost."""
    outbox = Outbox()
    for text in "abc":
        outbox.put(text, 1)
    outbox.take()
    outbox.acknowledge(1)
    outbox.put("d", 1)
    assert outbox.begin_anew() == ["b", "c"]
    assert (outbox.sent, outbox.acknowledged, outbox.bytes, outbox.take()) == (0, 0, 1, ["d"])


@pytest.mark.parametrize(("messages", "size", "named"), [(0, 1, "max_messages"), (1, 0, "max_bytes")])
def test_a_bound_that_takes_nothing_is_refused(messages: int, size: int, named: str) -> None:
    """The error names it."""
    with pytest.raises(ValueError, match=f"^{named}=0"):
        Outbox(messages, size)


class AgainstLists(RuleBasedStateMachine):
    """The outbox does what two lists and two numbers would do."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(5, 20)
        self.sent: list[bytes] = []
        self.unsent: list[bytes] = []
        self.acknowledged = 0

    @property
    def kept(self) -> list[bytes]:
        """What is unacknowledged, then what is unsent."""
        return self.sent[self.acknowledged :] + self.unsent

    @rule(message=st.binary(max_size=25))
    def put(self, message: bytes) -> None:
        """A message of the application, if it fits."""
        fits = not self.kept or (len(self.kept) < 5 and sum(map(len, self.kept)) + len(message) <= 20)
        assert self.outbox.fits(len(message)) == fits
        if fits:
            self.outbox.put(message, len(message))
            self.unsent.append(message)

    @rule()
    def take(self) -> None:
        """There is a carrier."""
        assert self.outbox.take() == self.unsent
        self.sent += self.unsent
        self.unsent = []

    @rule(part=st.floats(0, 1))
    def acknowledge(self, part: float) -> None:
        """Any number up to what was sent."""
        number = round(part * len(self.sent))
        assert self.outbox.acknowledge(number) == (number > self.acknowledged)
        self.acknowledged = max(self.acknowledged, number)

    @rule()
    def begin_anew(self) -> None:
        """The session is gone."""
        assert self.outbox.begin_anew() == self.sent[self.acknowledged :]
        self.sent, self.acknowledged = [], 0

    @invariant()
    def counts_agree(self) -> None:
        """With what the lists hold."""
        outbox = self.outbox
        assert (outbox.sent, outbox.acknowledged) == (len(self.sent), self.acknowledged)
        assert (len(outbox), outbox.bytes) == (len(self.kept), sum(map(len, self.kept)))
        assert outbox.unacknowledged() == self.sent[self.acknowledged :]
        assert outbox.full == (len(self.kept) >= 5 or sum(map(len, self.kept)) >= 20)


TestAgainstLists = AgainstLists.TestCase
