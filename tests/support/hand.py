"""An event loop that is turned by hand: its clock stands still, and nothing runs by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any

import anyio

__all__ = ["HandLoop", "HandTask"]


class HandTask:
    """Work that was spawned; it runs when a test says so.

    Attributes:
        function: what was spawned.
        arguments: what it was spawned with.
        cancelled: whether it was told to stop.
    """

    def __init__(self, function: Callable[..., Awaitable[None]], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.cancelled = False

    def cancel(self) -> None:
        """Note that it was told to stop."""
        self.cancelled = True

    async def run(self) -> None:
        """Do the work now."""
        await self.function(*self.arguments)


class HandLoop:
    """A `wsstab.loop.tasks.EventLoop` whose every step is taken by the test.

    Attributes:
        now: what the clock says, in seconds; set it.
        soon: callbacks of the next turn.
        tasks: what was spawned, in order.
        closed: whether calls from other threads come too late.
    """

    def __init__(self, now: float = 100.0) -> None:
        self.now = now
        self.soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.tasks: list[HandTask] = []
        self.closed = False
        self.cancel_scope = anyio.CancelScope

    def time(self) -> float:
        """The clock."""
        return self.now

    def spawn(self, function: Callable[..., Awaitable[None]], *args: Any, context: Context | None = None) -> HandTask:
        """Keep the work for the test to run."""
        self.tasks.append(HandTask(function, args))
        return self.tasks[-1]

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Keep the callback for the next turn."""
        self.soon.append((callback, args))

    def call_from_thread(self, callback: Callable[..., object], *args: Any) -> bool:
        """The same, unless the loop is closed."""
        if not self.closed:
            self.call_soon(callback, *args)
        return not self.closed

    def turn(self) -> int:
        """Run the callbacks of this turn, and return how many there were."""
        count = len(self.soon)
        for _ in range(count):
            callback, args = self.soon.popleft()
            callback(*args)
        return count

    def turn_until_idle(self) -> int:
        """Turn until nothing is left, and return how many turns that took."""
        turns = 0
        while self.turn():
            turns += 1
        return turns
