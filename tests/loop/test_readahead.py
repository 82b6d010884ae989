"""Reading ahead for handlers that are away from ``receive()``, on a clock moved by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hand import HandLoop
from wsstab.connection.carrier import Carrier
from wsstab.loop.readahead import EVERY, ReadAhead
from wsstab.loop.timekeeper import TICK, Timekeeper


class AbsentHandler:
    """A carrier whose handler is away; it records when a reader was started."""

    def __init__(self, at: Studio) -> None:
        self.closing = SimpleNamespace(event=None)
        self.receiver = SimpleNamespace(over=False, full=False)
        self.wire = SimpleNamespace(left=False)
        self.peer = SimpleNamespace(closing=self.closing, receiver=self.receiver)
        self.watched = self.away_seen = self.attended = False
        self.readers: list[float] = []
        self._at = at

    def read_ahead(self) -> None:
        """Start a reader: somebody reads again."""
        self.readers.append(self._at.timekeeper.now)
        self.back()

    def look_behind(self) -> None:
        """See whether the peer has left; then nothing is too much any more."""
        if self.wire.left:
            self.receiver.full = False
            self.read_ahead()

    def leave(self) -> None:
        """The handler leaves ``receive()``."""
        self.attended = False
        self._at.readahead.away(cast(Carrier, self))

    def back(self) -> None:
        """Somebody reads again."""
        self._at.readahead.back(cast(Carrier, self))


class Studio:
    """A timekeeper, and a watch on it."""

    def __init__(self) -> None:
        self.loop = HandLoop()
        self.timekeeper = Timekeeper(self.loop)
        self.readahead = ReadAhead(self.timekeeper)

    def handler(self) -> AbsentHandler:
        """A handler that has just left ``receive()``."""
        handler = AbsentHandler(self)
        handler.leave()
        return handler

    def wait(self, seconds: float) -> bool:
        """Let time pass, tick by tick; what the last tick answered."""
        answer = False
        for _ in range(round(seconds / TICK)):
            self.loop.now += TICK
            answer = self.timekeeper.tick()
        return answer

    @property
    def ticking(self) -> bool:
        """Whether there is a task that ticks."""
        return bool(self.loop.tasks)


@given(st.integers(0, 30))
def test_a_handler_that_stays_away_gets_a_reader_within_a_second(ticks_before: int) -> None:
    """The second look starts the reader: after one round at least, and after a second at most."""
    at = Studio()
    at.timekeeper.watch(lambda now: True)
    at.wait(ticks_before * TICK)
    left = at.timekeeper.now
    handler = at.handler()
    at.wait(3.0)
    (started,) = handler.readers
    assert EVERY - 1e-6 <= started - left <= 1.0


def test_a_handler_that_comes_back_in_time_gets_no_reader() -> None:
    """The time begins anew whenever the handler leaves."""
    at = Studio()
    handler = at.handler()
    for _ in range(20):
        at.wait(0.4)
        handler.back()
        at.wait(0.1)
        handler.leave()
    assert handler.readers == []


def test_a_handler_that_leaves_again_has_its_full_time_again() -> None:
    """An earlier look does not count for a later absence."""
    at = Studio()
    handler = at.handler()
    at.wait(0.7)
    assert handler.readers == []
    handler.back()
    left = at.timekeeper.now
    handler.leave()
    at.wait(2.0)
    assert handler.readers[0] - left >= EVERY - 1e-6


def test_the_clock_ticks_only_while_a_handler_is_away() -> None:
    """A handler that waits in ``receive()`` costs nothing."""
    at = Studio()
    assert not at.ticking
    handler = at.handler()
    assert at.ticking
    assert at.wait(TICK) is True
    handler.back()
    handler.back()
    assert at.wait(TICK) is False


def test_a_handler_that_reads_during_a_look_is_watched_no_more() -> None:
    """Taking it off the list at each message would cost more than the look."""
    at = Studio()
    handler = at.handler()
    handler.attended = True
    assert at.wait(1.0) is False
    assert (handler.readers, handler.watched) == ([], False)
    handler.leave()
    assert handler.watched
    at.wait(1.0)
    assert len(handler.readers) == 1


def test_a_connection_that_has_ended_is_neither_read_nor_watched() -> None:
    """Nothing more can arrive."""
    at = Studio()
    handler = AbsentHandler(at)
    handler.closing.event = object()
    handler.leave()
    assert not at.ticking
    at.wait(2.0)
    assert handler.readers == []


def test_a_connection_with_nothing_left_to_read_is_watched_no_more() -> None:
    """Its disconnect has arrived."""
    at = Studio()
    handler = at.handler()
    handler.receiver.over = True
    assert at.wait(2.0) is False
    assert handler.readers == []


def test_no_reader_is_started_while_the_inbox_is_full() -> None:
    """Otherwise its bound would mean nothing; a reader starts when there is room again."""
    at = Studio()
    handler = at.handler()
    handler.receiver.full = True
    assert at.wait(5.0) is True
    assert handler.readers == []
    handler.receiver.full = False
    at.wait(0.5)
    assert len(handler.readers) == 1


def test_the_departure_of_a_peer_is_noticed_behind_a_full_inbox() -> None:
    """Then everything that it sent is read, however much: no more can arrive."""
    at = Studio()
    handler = at.handler()
    handler.receiver.full = True
    handler.wire.left = True
    at.wait(1.0)
    assert len(handler.readers) == 1
    assert not handler.receiver.full


def test_many_handlers_are_watched_at_once() -> None:
    """Each has a time of its own, also while readers are being started."""
    at = Studio()
    handlers = [at.handler() for _ in range(50)]
    for handler in handlers[::2]:
        handler.back()
    at.wait(2.0)
    assert [len(handler.readers) for handler in handlers] == [0, 1] * 25


def test_a_stall_of_the_loop_does_not_count_as_absence() -> None:
    """The handler still has its full time afterwards: one late tick is one look."""
    at = Studio()
    handler = at.handler()
    at.loop.now += 60.0
    at.timekeeper.tick()
    at.wait(0.2)
    assert handler.readers == []
    at.wait(1.0)
    assert handler.readers == [pytest.approx(at.timekeeper.now, abs=1.0)]
