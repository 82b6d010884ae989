"""Wheel: every deadline there is, in one ring of slots.

Scheduling and cancelling cost the same however many deadlines there are. A
deadline further away than one turn of the ring stays in its slot, and is
passed over until its time has come. Nothing is given out early, and nothing
is left behind: what is due at ``now`` comes with ``advance(now)``, so that the
lateness of a deadline is the time between two calls, one tick by habit.

Does not read the clock, does not call back, and is not for several threads.

Source: G. Varghese, T. Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 6.
"""

from __future__ import annotations

from math import isfinite
from operator import attrgetter
from typing import Generic, TypeVar

__all__ = ["Entry", "Wheel"]

T = TypeVar("T")

NOWHERE = -1
"""The slot of an entry that has fired or was cancelled."""

LAST_TICK = 2.0**53
"""Deadlines beyond it share one slot: a double cannot tell their ticks apart."""

_by_deadline = attrgetter("deadline")


class Entry(Generic[T]):
    """One deadline in a wheel; `Wheel.schedule` makes it and `Wheel.cancel` takes it.

    Attributes:
        item: what becomes due.
        deadline: when, in seconds on the wheel's clock.
        slot: where in the ring it waits, -1 once it has fired or was cancelled.
    """

    __slots__ = ("deadline", "item", "slot")

    def __init__(self, item: T, deadline: float, slot: int) -> None:
        self.item = item
        self.deadline = deadline
        self.slot = slot

    def __repr__(self) -> str:
        return f"<Entry [{self.item!r} at {self.deadline:g}]>"


class Wheel(Generic[T]):
    """A hashed timing wheel.

    Args:
        now: the present, in seconds; the ring begins here.
        tick: width of a slot, in seconds.
        slots: how many there are; ``tick * slots`` is one turn (51.2 s by default). Deadlines
            within one turn are looked at once or twice, longer ones once more each turn.

    Raises:
        ValueError: ``now`` is not finite, ``tick`` not finite and above 0, or ``slots`` below 1.
    """

    __slots__ = ("_count", "_cursor", "_now", "_origin", "_slots", "_tick")

    def __init__(self, now: float, tick: float = 0.1, slots: int = 512) -> None:
        if not (isfinite(tick) and tick > 0):
            raise ValueError(f"tick={tick!r}: must be a finite number of seconds greater than 0")
        if slots < 1:
            raise ValueError(f"slots={slots!r}: must be at least 1")
        self._origin = self._now = _finite("now", now)
        self._tick = tick
        self._slots: list[dict[Entry[T], None]] = [{} for _ in range(slots)]
        self._cursor = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<Wheel [{self._count} deadlines | {len(self._slots)} slots of {self._tick:g} s]>"

    def schedule(self, item: T, deadline: float) -> Entry[T]:
        """Have ``item`` become due at ``deadline``.

        Args:
            item: anything; the same item may be scheduled more than once.
            deadline: in seconds on the wheel's clock; one in the past is due at the next `advance`.

        Returns:
            The entry, for `cancel`.

        Raises:
            ValueError: ``deadline`` is infinite or not a number.
        """
        ticks = (_finite("deadline", deadline) - self._origin) / self._tick
        # A deadline in the past belongs to a slot that the cursor has left, and would wait for a whole turn.
        tick = int(max(min(ticks, LAST_TICK), self._cursor))
        entry = Entry(item, deadline, tick % len(self._slots))
        self._slots[entry.slot][entry] = None
        self._count += 1
        return entry

    def cancel(self, entry: Entry[T]) -> None:
        """Forget an entry of this wheel; one that has fired or was cancelled is left alone.

        Raises:
            KeyError: the entry waits in another wheel.
        """
        if entry.slot != NOWHERE:
            del self._slots[entry.slot][entry]
            entry.slot = NOWHERE
            self._count -= 1

    def advance(self, now: float) -> list[T]:
        """Move the wheel on, and take out what has become due.

        A jump over many turns, as after a suspended machine, visits each slot once.

        Args:
            now: the present, in seconds.

        Returns:
            The items whose deadline is at or before ``now``, by deadline, equal ones in the order
            they were scheduled. Nothing when time went backwards.

        Raises:
            ValueError: ``now`` is infinite or not a number.
        """
        if _finite("now", now) < self._now:
            return []
        first, self._cursor, self._now = self._cursor, self._tick_of(now), now
        # The cursor's own slot is visited again next time: its last deadlines may still lie ahead.
        visits = min(self._cursor - first + 1, len(self._slots))
        due = [entry for tick in range(first, first + visits) for entry in self._take_due(tick, now)]
        due.sort(key=_by_deadline)
        return [entry.item for entry in due]

    def _tick_of(self, time: float) -> int:
        # Subtraction, division and truncation keep the order of times: what is due is never in a later slot.
        return int(max(-LAST_TICK, min((time - self._origin) / self._tick, LAST_TICK)))

    def _take_due(self, tick: int, now: float) -> list[Entry[T]]:
        index = tick % len(self._slots)
        due = [entry for entry in self._slots[index] if entry.deadline <= now]
        if due:
            # A new dict, because one that shrinks keeps its memory: each slot would grow to the largest burst.
            self._slots[index] = {entry: None for entry in self._slots[index] if entry.deadline > now}
            self._count -= len(due)
            for entry in due:
                entry.slot = NOWHERE
        return due


def _finite(name: str, time: float) -> float:
    if not isfinite(time):
        raise ValueError(f"{name}={time!r}: must be a finite number of seconds")
    return time
