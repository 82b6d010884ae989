"""Spawns work on asyncio and on trio; the only module that knows how they differ.

All work that outlives one ``await`` goes through an `EventLoop`: background work, callbacks in a
later turn, and calls from another thread. Sockets of one manager may live on several loops (a test
client gives each its own), so each connection remembers its loop and hands over to it calls that
come from other loops or threads.

This module uses no anyio task group: a group that is entered in one call and left in another breaks
the cancellation of both.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import anyio

from ..wording import shown
from .usercode import ends_the_process, is_cancellation

__all__ = ["EventLoop", "Latch", "Task", "begin", "begins_in_creator", "current_loop", "eager_loop"]

logger = logging.getLogger("wsstab")


class Task(Protocol):
    """Spawned background work."""

    def cancel(self) -> object:
        """Ask the work to stop at its next checkpoint."""


class EventLoop(Protocol):
    """One running event loop.

    Attributes:
        cancel_scope: the class that `anyio.CancelScope` instantiates here; skips detecting the async library.
    """

    cancel_scope: type[anyio.CancelScope]

    def time(self) -> float:
        """The time of the monotonic clock, in seconds."""

    def spawn(
        self, function: Callable[..., Awaitable[None]], *args: Any, context: contextvars.Context | None = None
    ) -> Task:
        """Run ``function(*args)`` in the background; an exception that escapes it is logged.

        Functions start in the order in which they were spawned, and none runs before this call returns.

        Args:
            function: the coroutine function to run.
            args: its arguments.
            context: the work runs in a copy of this context; ``None`` (the default) for an empty one, which suits
                work for many connections.
        """

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Run ``callback(*args)`` in the next turn of this loop. Only from the loop's own thread."""

    def call_from_thread(self, callback: Callable[..., object], *args: Any) -> bool:
        """Run ``callback(*args)`` on this loop, from any thread. Returns ``False`` if the loop is closed."""


async def _guard(function: Callable[..., Awaitable[None]], args: tuple[Any, ...]) -> None:
    try:
        await function(*args)
    except BaseException as error:
        # On trio, an exception that escapes from here ends the whole run.
        if ends_the_process(error) or is_cancellation(error):
            raise
        logger.exception("! background work failed: %s", getattr(function, "__qualname__", None) or shown(function))


def _new_task(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Awaitable[None]], args: tuple[Any, ...]
) -> asyncio.Task[None]:
    return asyncio.Task(_guard(function, args), loop=loop)


EAGER = sys.version_info >= (3, 12)
BEGINNING: dict[str, Any] = {"eager_start": True}
_begun: set[asyncio.Task[None]] = set()
"""Tasks of `begin` that did not finish at once; the loop itself holds only weak references to them."""


def eager_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop, for `begin`; ``None`` unless it is asyncio or uvloop on Python 3.12 or later."""
    return asyncio._get_running_loop() if EAGER else None


def begin(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> Task | None:
    """Run a coroutine in its own task, at once, until it first waits; in a copy of the caller's context.

    A task that starts in the ordinary way costs a turn of the loop before it runs at all.

    Args:
        coroutine: the coroutine to run; it must not let any exception escape.
        loop: the result of `eager_loop`.

    Returns:
        The task that runs the rest in the background; ``None`` if the coroutine has finished.
    """
    task = asyncio.Task(coroutine, loop=loop, **BEGINNING)
    if task.done():
        return None
    _begun.add(task)
    task.add_done_callback(_begun.discard)
    return task


def begins_in_creator() -> bool:
    """Whether tasks of the running loop may start inside the call that creates them.

    An ASGI call that starts this way runs in the middle of a function of its server, before the server has recorded the
    task. This happens only with `asyncio.eager_task_factory` or a similar factory that the application has set.
    """
    loop = asyncio._get_running_loop()
    return loop is not None and loop.get_task_factory() is not None


class AsyncioLoop:
    """asyncio or uvloop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # A weak reference: this object is the value in a table whose key is the loop, and must not keep it alive.
        self._loop = weakref.ref(loop)
        self.time = time.monotonic
        self.cancel_scope = type(anyio.CancelScope())
        # The loop itself holds only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(
        self, function: Callable[..., Awaitable[None]], *args: Any, context: contextvars.Context | None = None
    ) -> Task:
        # Not the current context: background work for all connections must not run in the context of the handler that
        # happened to start it. Not the given context itself either: two tasks must not enter the same one at a time.
        inside = Context() if context is None else context.copy()
        # Bypasses the loop's task factory: an eager one runs the task, perhaps to its end, before the caller has it.
        task = inside.run(_new_task, asyncio.get_running_loop(), function, args)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        loop = self._loop()
        if loop is not None:
            loop.call_soon(callback, *args)

    def call_from_thread(self, callback: Callable[..., object], *args: Any) -> bool:
        loop = self._loop()
        if loop is None:
            return False
        try:
            # Not the caller's context: its current task and async library are not those of this loop.
            loop.call_soon_threadsafe(callback, *args, context=Context())
        except RuntimeError:
            return False
        return True


class TrioTask:
    """Work for a trio system task, with its own cancel scope."""

    def __init__(
        self, function: Callable[..., Awaitable[None]], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._function = function
        self._args = args
        self._context = context
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        # trio assigns a context to each system task when it spawns it, but any of our system tasks may run this work.
        # So the variables are copied one by one.
        for variable, value in self._context.items() if self._context is not None else ():
            variable.set(value)
        self._context = None
        with self._scope:
            await _guard(self._function, self._args)

    def cancel(self) -> None:
        self._scope.cancel()


class TrioLoop:
    """trio: spawned work runs as system tasks, which only the end of the trio run cancels."""

    def __init__(self, token: Any) -> None:
        import trio

        self._trio = trio
        # A weak reference, for the same reason as in `AsyncioLoop`.
        self._token = weakref.ref(token)
        self.time = time.monotonic
        self.cancel_scope = type(anyio.CancelScope())
        self._starting: deque[TrioTask] = deque()

    def spawn(
        self, function: Callable[..., Awaitable[None]], *args: Any, context: contextvars.Context | None = None
    ) -> Task:
        task = TrioTask(function, args, context)
        # trio starts system tasks that were spawned together in any order, so each one takes the oldest waiting work.
        self._starting.append(task)
        self._trio.lowlevel.spawn_system_task(self._start_next)
        return task

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        token = self._token()
        if token is not None:
            token.run_sync_soon(callback, *args)

    def call_from_thread(self, callback: Callable[..., object], *args: Any) -> bool:
        token = self._token()
        if token is None:
            return False
        try:
            token.run_sync_soon(Context().run, callback, *args)
        except self._trio.RunFinishedError:
            return False
        return True

    async def _start_next(self) -> None:
        await self._starting.popleft().run()


# Weak keys, so that the tables keep no loop alive that has ended.
_asyncio_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncioLoop] = WeakKeyDictionary()
_trio_loops: WeakKeyDictionary[Any, TrioLoop] = WeakKeyDictionary()


def current_loop() -> EventLoop:
    """The `EventLoop` for the running loop; always the same object for the same loop.

    Raises:
        RuntimeError: no event loop is running in this thread.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return _current_trio_loop()
    loop = _asyncio_loops.get(running)
    if loop is None:
        loop = _asyncio_loops[running] = AsyncioLoop(running)
    return loop


def _current_trio_loop() -> EventLoop:
    try:
        import trio

        token = trio.lowlevel.current_trio_token()
    except (ImportError, RuntimeError):
        raise RuntimeError("no event loop is running in this thread") from None
    loop = _trio_loops.get(token)
    if loop is None:
        loop = _trio_loops[token] = TrioLoop(token)
    return loop


class Latch:
    """An event that is set once and may be awaited on any loop."""

    __slots__ = ("_waiting", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._waiting: list[tuple[EventLoop, anyio.Event]] | None = None

    def set(self) -> None:
        """Set the event and wake all waiting tasks, each on its own loop."""
        self.is_set = True
        waiting, self._waiting = self._waiting, None
        for loop, event in waiting or ():
            loop.call_from_thread(event.set)

    async def wait(self) -> None:
        """Wait until the event is set."""
        if self.is_set:
            return
        waiter = (current_loop(), anyio.Event())
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(waiter)
        try:
            if not self.is_set:  # another thread may have set it in between
                await waiter[1].wait()
        finally:
            if self._waiting is not None and waiter in self._waiting:
                self._waiting.remove(waiter)
