"""Wheel: deadlines in one ring of slots.

Scheduling and cancelling take constant time, however many deadlines wait. A
deadline further away than one turn of the ring stays in its slot and is skipped
until it is due. ``advance(now)`` returns exactly the items that are due at
``now``, so a deadline is late by the time between two calls at most, which is
usually one tick.

Does not read the clock, makes no callbacks, and is not thread-safe.

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
"""Deadlines beyond this tick share one slot: a double cannot tell their ticks apart."""

_by_deadline = attrgetter("deadline")


class Entry(Generic[T]):
    """One deadline in a wheel; `Wheel.schedule` returns it and `Wheel.cancel` accepts it.

    Attributes:
        item: the item that becomes due.
        deadline: when it becomes due, in seconds on the wheel's clock.
        slot: index of its slot; -1 once it has fired or was cancelled.
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
        tick: width of a slot, in seconds; 0.1.
        slots: number of slots; 512. ``tick * slots`` is one turn (51.2 s by default). Deadlines
            within one turn are examined once or twice, longer ones once more each turn.

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
        # Dicts are sets that keep the order of insertion, in which equal deadlines fire.
        self._slots: list[dict[Entry[T], None]] = [{} for _ in range(slots)]
        self._cursor = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<Wheel [{self._count} deadlines | {len(self._slots)} slots of {self._tick:g} s]>"

    def schedule(self, item: T, deadline: float) -> Entry[T]:
        """Schedule ``item`` for ``deadline``.

        Args:
            item: anything; the same item may be scheduled more than once.
            deadline: in seconds on the wheel's clock; one in the past is due at the next `advance`.

        Returns:
            The entry, for `cancel`.

        Raises:
            ValueError: ``deadline`` is infinite or not a number.
        """
        ticks = (_finite("deadline", deadline) - self._origin) / self._tick
        # The slot of a deadline in the past is behind the cursor, where it would wait for a whole turn.
        tick = int(max(min(ticks, LAST_TICK), self._cursor))
        entry = Entry(item, deadline, tick % len(self._slots))
        self._slots[entry.slot][entry] = None
        self._count += 1
        return entry

    def cancel(self, entry: Entry[T]) -> None:
        """Cancel an entry of this wheel; one that has fired or was cancelled before is ignored.

        Raises:
            KeyError: the entry waits in another wheel.
        """
        if entry.slot != NOWHERE:
            del self._slots[entry.slot][entry]
            entry.slot = NOWHERE
            self._count -= 1

    def advance(self, now: float) -> list[T]:
        """Advance the wheel, and remove the items that have become due.

        A jump over many turns, as after the machine was suspended, visits each slot once.

        Args:
            now: the present, in seconds.

        Returns:
            The items whose deadline is at or before ``now``, by deadline, and for equal deadlines
            in the order they were scheduled. Empty when time went backwards.

        Raises:
            ValueError: ``now`` is infinite or not a number.
        """
        if _finite("now", now) < self._now:
            return []
        first, self._cursor, self._now = self._cursor, self._tick_of(now), now
        # The cursor's own slot is visited again next time, because some of its deadlines may still lie ahead.
        visits = min(self._cursor - first + 1, len(self._slots))
        due = [entry for tick in range(first, first + visits) for entry in self._take_due(tick, now)]
        # Stable, so that equal deadlines stay in the order in which they were scheduled.
        due.sort(key=_by_deadline)
        return [entry.item for entry in due]

    def _tick_of(self, time: float) -> int:
        # Subtraction, division and truncation keep the order of times: a due entry is never in a later slot.
        return int(max(-LAST_TICK, min((time - self._origin) / self._tick, LAST_TICK)))

    def _take_due(self, tick: int, now: float) -> list[Entry[T]]:
        index = tick % len(self._slots)
        due = [entry for entry in self._slots[index] if entry.deadline <= now]
        if due:
            # A new dict, because a dict that shrinks keeps its memory: each slot would stay at its peak size.
            self._slots[index] = {entry: None for entry in self._slots[index] if entry.deadline > now}
            self._count -= len(due)
            for entry in due:
                entry.slot = NOWHERE
        return due


def _finite(name: str, time: float) -> float:
    if not isfinite(time):
        raise ValueError(f"{name}={time!r}: must be a finite number of seconds")
    return time
