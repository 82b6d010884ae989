"""All deadlines of one event loop, kept by one timer wheel and one task.

The clock stands still while the loop lags: a late tick counts for two ticks at most, so that a stall
of our own process does not time out any peer.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeAlias

import anyio

from ..core.wheel import Entry, Wheel
from .tasks import EventLoop, Task
from .usercode import ends_the_process

__all__ = ["Deadline", "Timekeeper"]

logger = logging.getLogger("wsstab")

TICK = 0.1
"""Seconds between two ticks, which check the wheel."""
LONGEST_STEP = 2 * TICK
"""The most seconds that one tick counts for, however late it is."""
BUDGET = 0.001
"""Seconds that callbacks may take in one turn of the loop; the rest run in the next turn."""

Visit: TypeAlias = Callable[[float], object]
"""Callback of a deadline; called with the current time of the clock when it is due."""
Deadline: TypeAlias = Entry[Visit]


class Timekeeper:
    """Deadlines of one event loop.

    The ticking task exists only while a deadline or a watcher needs it.

    Args:
        loop: the event loop whose deadlines these are.

    Attributes:
        now: seconds on a clock that ignores lag of the loop; advances with each tick.
    """

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._ticked_at = loop.time()
        self.now = self._ticked_at
        self._wheel: Wheel[Visit] = Wheel(self.now, TICK)
        self._due: deque[Visit] = deque()
        self._task: Task | None = None
        self._watchers: list[Callable[[float], bool]] = []

    def schedule(self, visit: Visit, at: float) -> Deadline:
        """Call ``visit`` at ``at`` or up to a tick later."""
        if self._task is None:
            self.wake()
        return self._wheel.schedule(visit, at)

    def cancel(self, deadline: Deadline) -> None:
        """Cancel a deadline; does nothing if it was called already."""
        self._wheel.cancel(deadline)

    def read(self) -> float:
        """The current time; brings the clock up to date if no task ticks."""
        if self._task is None:
            time = self._loop.time()
            self.now += max(time - self._ticked_at, 0.0)
            self._ticked_at = time
        return self.now

    def soon(self, visits: Iterable[Visit]) -> None:
        """Call these as if they were due now, some in each turn of the loop. Only from a deadline's callback."""
        self._due.extend(visits)

    def watch(self, watcher: Callable[[float], bool]) -> None:
        """Call ``watcher(now)`` at every tick; it returns whether it still needs ticks."""
        self._watchers.append(watcher)

    def wake(self) -> None:
        """Start ticking, if no task ticks yet."""
        if self._task is None:
            self.read()
            self._task = self._loop.spawn(self._run)

    def rest(self) -> None:
        """Stop ticking at once, if no deadline is left."""
        if self._task is not None and not self._wheel and not self._due:
            self._task.cancel()
            self._task = None

    def tick(self) -> bool:
        """Advance the clock and call what is due; return whether more ticks are needed."""
        time = self._loop.time()
        # The clock of a loop may go backwards, and the time of a stall must not be charged to any peer.
        self.now += min(max(time - self._ticked_at, 0.0), LONGEST_STEP)
        self._ticked_at = time
        self._due.extend(self._wheel.advance(self.now))
        self._visit_some()
        # A list, because any() would stop at the first watcher that needs ticks, and leave out the others.
        busy = [self._look(watcher) for watcher in self._watchers]
        return bool(self._wheel) or bool(self._due) or any(busy)

    async def _run(self) -> None:
        task = self._task
        try:
            while True:
                await anyio.sleep(TICK)
                if not self.tick():
                    break
        finally:
            # rest() and wake() may have put another task in its place before this one has ended.
            if self._task is task:
                self._task = None

    def _call(self, visit: Visit) -> None:
        try:
            visit(self.now)
        except BaseException as error:
            # One failing callback must not stop the clock for all others.
            if ends_the_process(error):
                raise
            logger.exception("! a deadline failed")

    def _look(self, watcher: Callable[[float], bool]) -> bool:
        try:
            return watcher(self.now)
        except BaseException as error:
            if ends_the_process(error):
                raise
            logger.exception("! a watcher failed")
            return True

    def _visit_some(self) -> None:
        until = self._loop.time() + BUDGET
        while self._due:
            self._call(self._due.popleft())
            if self._loop.time() > until:
                self._loop.call_soon(self._visit_some)
                return
