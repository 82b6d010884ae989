"""The timing wheel, by examples and against a sorted list."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wsstab.core.wheel import Entry, Wheel


def test_due_items_are_returned_and_the_others_stay() -> None:
    """An item is due when its deadline is at or before the present."""
    wheel: Wheel[str] = Wheel(100.0)
    wheel.schedule("soon", 101.0)
    wheel.schedule("later", 102.0)
    assert wheel.advance(101.0) == ["soon"]
    assert len(wheel) == 1
    assert wheel.advance(102.0) == ["later"]
    assert len(wheel) == 0


def test_no_item_is_early_within_its_slot() -> None:
    """A deadline in the current slot still waits for its exact time."""
    wheel: Wheel[str] = Wheel(0.0, tick=10.0)
    wheel.schedule("x", 5.0)
    assert wheel.advance(4.999) == []
    assert wheel.advance(5.0) == ["x"]


def test_items_are_returned_in_the_order_of_their_deadlines() -> None:
    """Items with equal deadlines keep the order in which they were scheduled."""
    wheel: Wheel[str] = Wheel(0.0, tick=0.1, slots=4)
    for item, deadline in (("d", 2.0), ("b", 1.0), ("a", 0.31), ("c", 1.0)):
        wheel.schedule(item, deadline)
    assert wheel.advance(3.0) == ["a", "b", "c", "d"]


def test_a_deadline_in_the_past_is_due_at_once() -> None:
    """An item that is scheduled too late does not wait for another turn of the wheel."""
    wheel: Wheel[str] = Wheel(0.0, tick=1.0, slots=8)
    wheel.advance(5.0)
    wheel.schedule("past", 2.0)
    wheel.schedule("before the wheel", -1000.0)
    assert wheel.advance(5.0) == ["before the wheel", "past"]


def test_a_deadline_beyond_one_turn_stays_in_its_slot() -> None:
    """Turns that pass over it neither lose it nor return it."""
    wheel: Wheel[str] = Wheel(0.0, tick=1.0, slots=4)
    wheel.schedule("far", 10.5)
    assert [wheel.advance(float(now)) for now in range(1, 11)] == [[]] * 10
    assert wheel.advance(11.0) == ["far"]


def test_a_jump_over_many_turns_visits_each_slot_once() -> None:
    """After a suspension the machine pays for one turn, not for all that it missed."""
    visited: list[int] = []

    class Counting(Wheel[str]):
        def _take_due(self, tick: int, now: float) -> list[Entry[str]]:
            visited.append(tick % 8)
            return super()._take_due(tick, now)

    wheel = Counting(0.0, tick=0.1, slots=8)
    for number in range(20):
        wheel.schedule(str(number), number * 0.37)
    assert wheel.advance(1e9) == [str(number) for number in range(20)]
    assert sorted(visited) == list(range(8))


def test_a_jump_of_less_than_one_turn_visits_only_the_slots_between() -> None:
    """An ordinary call examines the slot it leaves and those it reaches."""
    visited: list[int] = []

    class Counting(Wheel[str]):
        def _take_due(self, tick: int, now: float) -> list[Entry[str]]:
            visited.append(tick)
            return super()._take_due(tick, now)

    wheel = Counting(0.0, tick=1.0, slots=512)
    wheel.advance(2.5)
    wheel.advance(3.5)
    assert visited == [0, 1, 2, 2, 3]


def test_a_clock_that_goes_backwards_returns_and_loses_nothing() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    wheel.advance(50.0)
    wheel.schedule("x", 20.0)
    assert wheel.advance(49.0) == []
    assert len(wheel) == 1
    assert wheel.advance(50.0) == ["x"]


def test_a_cancelled_item_is_never_returned() -> None:
    """Its entry is removed at once; cancelling it again has no effect."""
    wheel: Wheel[str] = Wheel(0.0)
    entry = wheel.schedule("x", 1.0)
    wheel.schedule("y", 1.0)
    wheel.cancel(entry)
    wheel.cancel(entry)
    assert len(wheel) == 1
    assert wheel.advance(2.0) == ["y"]


def test_cancelling_an_item_that_has_fired_has_no_effect() -> None:
    """A late cancel does not remove another entry from the count."""
    wheel: Wheel[str] = Wheel(0.0)
    entry = wheel.schedule("x", 1.0)
    wheel.advance(1.0)
    wheel.schedule("y", 2.0)
    wheel.cancel(entry)
    assert len(wheel) == 1


def test_an_entry_of_another_wheel_cannot_be_cancelled() -> None:
    """The call raises, and both wheels stay as they were."""
    ours: Wheel[str] = Wheel(0.0)
    theirs: Wheel[str] = Wheel(0.0)
    entry = theirs.schedule("x", 1.0)
    ours.schedule("y", 1.0)
    with pytest.raises(KeyError):
        ours.cancel(entry)
    assert ours.advance(1.0) == ["y"]
    assert theirs.advance(1.0) == ["x"]


def test_an_empty_slot_frees_its_memory() -> None:
    """A burst of deadlines does not leave its large table behind."""
    wheel: Wheel[int] = Wheel(0.0, slots=1)
    empty = wheel._slots[0].__sizeof__()
    for number in range(10_000):
        wheel.schedule(number, 1.0)
    wheel.advance(1.0)
    assert wheel._slots[0].__sizeof__() == empty


def test_extremely_large_deadlines_do_not_break_the_wheel() -> None:
    """The largest doubles are deadlines like any other."""
    wheel: Wheel[str] = Wheel(-1e308, tick=1e-3)
    wheel.schedule("never", 1e308)
    wheel.schedule("first", -1e308)
    assert wheel.advance(-1e308) == ["first"]
    assert wheel.advance(1e307) == []
    assert wheel.advance(1e308) == ["never"]


@pytest.mark.parametrize("time", [inf, -inf, nan])
def test_times_that_are_not_finite_are_refused(time: float) -> None:
    """This applies to deadlines and to the present."""
    wheel: Wheel[str] = Wheel(0.0)
    with pytest.raises(ValueError, match="deadline="):
        wheel.schedule("x", time)
    with pytest.raises(ValueError, match="now="):
        wheel.advance(time)
    with pytest.raises(ValueError, match="now="):
        Wheel(time)
    assert len(wheel) == 0


@pytest.mark.parametrize("tick", [0.0, -1.0, inf, nan])
def test_a_tick_must_be_positive_and_finite(tick: float) -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="tick="):
        Wheel(0.0, tick=tick)


def test_a_wheel_without_slots_is_refused() -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="slots=0"):
        Wheel(0.0, slots=0)


def test_the_reprs_of_a_wheel_and_an_entry_tell_what_they_hold() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    assert repr(wheel.schedule("x", 1.5)) == "<Entry ['x' at 1.5]>"
    assert repr(wheel) == "<Wheel [1 deadlines | 512 slots of 0.1 s]>"


@settings(deadline=None)
@given(
    origin=st.floats(0, 1e9),
    tick=st.floats(1e-3, 10),
    delays=st.lists(st.floats(0, 300), max_size=50),
)
def test_a_wheel_that_ticks_is_never_early_and_at_most_one_tick_late(
    origin: float, tick: float, delays: list[float]
) -> None:
    """When it advances once per tick, each item is returned by the first call at or after its deadline."""
    wheel: Wheel[float] = Wheel(origin, tick, slots=16)
    for delay in delays:
        wheel.schedule(origin + delay, origin + delay)
    before = origin
    for step in range(100):
        now = origin + step * tick
        for deadline in wheel.advance(now):
            assert deadline <= now
            assert deadline > before or step == 0
        before = now
    assert len(wheel) == sum(origin + delay > before for delay in delays)


class WheelAgainstSortedList(RuleBasedStateMachine):
    """A wheel agrees with a list of deadlines that is sorted at each call."""

    @initialize(
        origin=st.sampled_from([0.0, -7.3, 1_700_000_000.123]),
        tick=st.sampled_from([0.1, 1.0, 3.7]),
        slots=st.integers(1, 9),
    )
    def build(self, origin: float, tick: float, slots: int) -> None:
        self.wheel: Wheel[int] = Wheel(origin, tick, slots)
        self.now = origin
        self.waiting: list[tuple[float, int, Entry[int]]] = []
        self.gone: list[Entry[int]] = []
        self.number = 0

    @rule(delay=st.floats(-5, 200) | st.integers(-5, 200))
    def schedule(self, delay: float) -> None:
        self.number += 1
        deadline = self.now + delay
        self.waiting.append((deadline, self.number, self.wheel.schedule(self.number, deadline)))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waiting:
            row = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
            self.wheel.cancel(row[2])
            self.gone.append(row[2])

    @rule()
    def cancel_what_is_gone(self) -> None:
        for entry in self.gone:
            self.wheel.cancel(entry)

    @rule(step=st.floats(0, 5) | st.integers(0, 3) | st.floats(0, 1000))
    def advance(self, step: float) -> None:
        self.now += step
        due = sorted(row[:2] for row in self.waiting if row[0] <= self.now)
        self.gone.extend(row[2] for row in self.waiting if row[0] <= self.now)
        self.waiting = [row for row in self.waiting if row[0] > self.now]
        assert self.wheel.advance(self.now) == [number for _, number in due]

    @rule(step=st.floats(0.5, 1000))
    def go_backwards(self, step: float) -> None:
        assert self.wheel.advance(self.now - step) == []

    @invariant()
    def counts_are_equal(self) -> None:
        if hasattr(self, "wheel"):
            assert len(self.wheel) == len(self.waiting)


TestWheelAgainstSortedList = WheelAgainstSortedList.TestCase
