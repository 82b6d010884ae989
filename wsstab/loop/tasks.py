"""How work is spawned, on asyncio and on trio; the only place that knows.

Everything that outlives one ``await`` goes through an `EventLoop`: background work, callbacks in a
later turn, and calls from another thread. Sockets of one manager may live on several loops (a test
client gives each its own), so each connection remembers its loop and hands over what comes from
elsewhere.

No anyio task group is used here: one that is entered in a call and left in another breaks the
cancellation of both.
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
    """Work that was spawned."""

    def cancel(self) -> object:
        """Ask it to stop at its next checkpoint."""


class EventLoop(Protocol):
    """One running event loop.

    Attributes:
        cancel_scope: makes what `anyio.CancelScope` makes here, without its look at which library this is.
    """

    cancel_scope: type[anyio.CancelScope]

    def time(self) -> float:
        """Monotonic seconds."""

    def spawn(
        self, function: Callable[..., Awaitable[None]], *args: Any, context: contextvars.Context | None = None
    ) -> Task:
        """Run ``function(*args)`` in the background; an exception that escapes it is logged.

        What is spawned first starts first, and nothing of it runs before this returns.

        Args:
            function: what to run.
            args: its arguments.
            context: it runs in a copy of this context; ``None`` for an empty one, as befits work for many connections.
        """

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Run ``callback(*args)`` in the next turn of this loop. Only from the loop's own thread."""

    def call_from_thread(self, callback: Callable[..., object], *args: Any) -> bool:
        """Run ``callback(*args)`` on this loop, from any thread. ``False``: the loop is closed."""


async def _guard(function: Callable[..., Awaitable[None]], args: tuple[Any, ...]) -> None:
    try:
        await function(*args)
    except BaseException as error:
        # On trio, what escapes from here ends the whole run.
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
"""What `begin` has begun and did not end at once; the loop itself holds only weak references."""


def eager_loop() -> asyncio.AbstractEventLoop | None:
    """The running loop for `begin`: on asyncio and uvloop, from Python 3.12 on."""
    return asyncio._get_running_loop() if EAGER else None


def begin(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> Task | None:
    """Run it in a task of its own, at once, as far as it goes without waiting; in a copy of the caller's context.

    A task costs a turn of the loop where it must only be started.

    Args:
        coroutine: lets no exception escape.
        loop: an `eager_loop`.

    Returns:
        The task that does the rest in the background; ``None`` where it is done.
    """
    task = asyncio.Task(coroutine, loop=loop, **BEGINNING)
    if task.done():
        return None
    _begun.add(task)
    task.add_done_callback(_begun.discard)
    return task


def begins_in_creator() -> bool:
    """Whether tasks of the running loop may run inside of what creates them.

    An ASGI call that runs so begins before its server has noted that there is one, and in the middle of a function of
    the server's. Only `asyncio.eager_task_factory` and others of its kind, which an application sets, do this.
    """
    loop = asyncio._get_running_loop()
    return loop is not None and loop.get_task_factory() is not None


class AsyncioLoop:
    """asyncio or uvloop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak: this object is the value of a table whose key is the loop, and must not keep it alive.
        self._loop = weakref.ref(loop)
        self.time = time.monotonic
        self.cancel_scope = type(anyio.CancelScope())
        # The loop itself holds only weak references to its tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(
        self, function: Callable[..., Awaitable[None]], *args: Any, context: contextvars.Context | None = None
    ) -> Task:
        # A context of its own: background work for all must not run as the handler that happened to start it.
        # A copy of the one that is given: two tasks may not enter the same one at a time.
        inside = Context() if context is None else context.copy()
        # Past the loop's task factory: an eager one runs the task, perhaps to its end, before its creator has it.
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
            # Not the caller's context: who runs there, and on which library, does not hold here.
            loop.call_soon_threadsafe(callback, *args, context=Context())
        except RuntimeError:
            return False
        return True


class TrioTask:
    """Work for a trio system task, with a cancel scope of its own."""

    def __init__(
        self, function: Callable[..., Awaitable[None]], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> None:
        self._function = function
        self._args = args
        self._context = context
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        # trio gives each system task a context when it spawns it, and here any of them may run this one.
        for variable, value in self._context.items() if self._context is not None else ():
            variable.set(value)
        self._context = None
        with self._scope:
            await _guard(self._function, self._args)

    def cancel(self) -> None:
        self._scope.cancel()


class TrioLoop:
    """trio: spawned work runs as system tasks, which nothing but the run itself cancels."""

    def __init__(self, token: Any) -> None:
        import trio

        self._trio = trio
        # Weak: as above.
        self._token = weakref.ref(token)
        self.time = time.monotonic
        self.cancel_scope = type(anyio.CancelScope())
        self._starting: deque[TrioTask] = deque()

    def spawn(
        self, function: Callable[..., Awaitable[None]], *args: Any, context: contextvars.Context | None = None
    ) -> Task:
        task = TrioTask(function, args, context)
        # trio starts what was spawned together in any order: whichever is first takes what was spawned first.
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


_asyncio_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncioLoop] = WeakKeyDictionary()
_trio_loops: WeakKeyDictionary[Any, TrioLoop] = WeakKeyDictionary()


def current_loop() -> EventLoop:
    """The loop that runs this code; the same object for the same loop.

    Raises:
        RuntimeError: no event loop is running here.
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
        """Wake all who wait, each on its own loop."""
        self.is_set = True
        waiting, self._waiting = self._waiting, None
        for loop, event in waiting or ():
            loop.call_from_thread(event.set)

    async def wait(self) -> None:
        """Return once it is set."""
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
