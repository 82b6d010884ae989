"""Subscribers: the callbacks that hear of events. No other event mechanism exists in this package.

A callback may be plain or async. An error in it is logged and harms no connection. A callback that never ends is
cancelled when the manager stops.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio

from ..config import Hooks
from ..config.callables import fits
from ..events import Event
from ..loop.tasks import EventLoop, Task, current_loop
from ..loop.usercode import awaited, call
from ..wording import shown

__all__ = ["Subscribers"]

logger = logging.getLogger("wsstab")

CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])

LOOK_AGAIN = 0.01
"""Seconds between two checks for callbacks that are still running."""
MAX_DEPTH = 20
"""How deep events may nest, each emitted by a callback of the one before."""
MAX_PENDING = 10_000
"""How many async callbacks may run at once: a callback that hangs must not exhaust the memory."""


class Subscribers:
    """Callbacks by class of event.

    Args:
        hooks: the callbacks of the configuration.
        may_tell: whether one more log line of a kind may be written, since peers can cause events at will.
    """

    def __init__(self, hooks: Hooks | None = None, may_tell: Callable[[str], bool] = lambda kind: True) -> None:
        self._callbacks: dict[type[Event], list[Callable[..., Any]]] = {}
        self._may_tell = may_tell
        self._calls: set[_Call] = set()
        for event_class, callback in hooks.pairs() if hooks is not None else ():
            self.add(event_class, callback)

    def add(self, event_class: type[Event], callback: CallbackT) -> CallbackT:
        """Call ``callback(event)`` for each event of this class or of a subclass.

        Raises:
            TypeError: not a class of events, or not callable.
        """
        if not (isinstance(event_class, type) and issubclass(event_class, Event)):
            raise TypeError(f"on() takes a class of wsstab events, not {shown(event_class)}")
        if not callable(callback):
            raise TypeError(f"on() takes a callable, not {shown(callback)}")
        if not fits(callback, 1):
            raise TypeError(f"on() takes a callable of one argument, the event, not {shown(callback)}")
        self._callbacks.setdefault(event_class, []).append(callback)
        return callback

    def wants(self, event_class: type[Event]) -> bool:
        """Whether a callback listens for this class, so that events nobody hears need not be made."""
        return bool(self._callbacks) and any(issubclass(event_class, listened) for listened in self._callbacks)

    def emit(self, event: Event) -> None:
        """Call all callbacks, in the order of registration. Raises only errors that end the process."""
        if not self._callbacks:
            return
        depth = _depth.get()
        if depth >= MAX_DEPTH:
            logger.error("! %s is not told: callbacks cause each other's events without end", type(event).__name__)
            return
        token = _depth.set(depth + 1)
        try:
            for event_class in type(event).__mro__:
                # A copy: a callback may register another.
                for callback in tuple(self._callbacks.get(event_class, ())):
                    self._call(callback, event)
        finally:
            _depth.reset(token)

    async def idle(self, within: float) -> None:
        """Wait until no async callback but the calling one is running, for at most ``within`` seconds."""
        with anyio.move_on_after(within):
            while self._under_way():
                await anyio.sleep(LOOK_AGAIN)

    def cancel(self) -> None:
        """Cancel the async callbacks that are running, but not the calling one."""
        for under_way in self._under_way():
            under_way.cancel()

    @property
    def _pending(self) -> int:
        return len(self._calls)

    def _under_way(self) -> list[_Call]:
        own = _own_call.get()
        return [under_way for under_way in self._calls if under_way is not own]

    def _call(self, callback: Callable[..., Any], event: Event) -> None:
        try:
            answer = call(callback, event)
            # isawaitable() asks the answer for its class, and the answer may be any object of the application.
            if answer is not None and call(inspect.isawaitable, answer):
                self._spawn(callback, answer, event)
        except Exception:
            self._failed(callback, event)

    def _spawn(self, callback: Callable[..., Any], answer: Awaitable[Any], event: Event) -> None:
        try:
            loop = current_loop()
        except RuntimeError:
            loop = None
        if loop is None or self._pending >= MAX_PENDING:
            _throw_away(answer)
            told = (shown(callback), type(event).__name__, self._pending)
            if self._may_tell(f"callback skipped for {type(event).__name__}"):
                logger.error("! callback %s skipped for %s: %s are pending", *told)
            return
        under_way = _Call(loop)
        self._calls.add(under_way)
        under_way.task = loop.spawn(self._finish, under_way, callback, answer, event)

    async def _finish(
        self, under_way: _Call, callback: Callable[..., Any], answer: Awaitable[Any], event: Event
    ) -> None:
        _own_call.set(under_way)
        under_way.begun = True
        try:
            if under_way.cancelled:
                _throw_away(answer)
                return
            await awaited(answer)
        except Exception:
            self._failed(callback, event)
        finally:
            self._calls.discard(under_way)

    def _failed(self, callback: Callable[..., Any], event: Event) -> None:
        name = type(event).__name__
        if self._may_tell(f"callback failed for {name}"):
            logger.exception("! callback %s failed for %s", shown(callback), name)


class _Call:
    """An async callback that is running."""

    __slots__ = ("_loop", "begun", "cancelled", "task")

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self.task: Task | None = None
        self.begun = self.cancelled = False

    def cancel(self) -> None:
        """Cancel the callback, which may run on another event loop."""
        self.cancelled = True
        # A task that has not begun would be cancelled without closing its awaitable.
        if self.begun and self.task is not None:
            self._loop.call_from_thread(self.task.cancel)


def _throw_away(answer: Awaitable[Any]) -> None:
    if inspect.iscoroutine(answer):
        answer.close()


_own_call: ContextVar[_Call | None] = ContextVar("wsstab_callback", default=None)
"""The callback that runs this code."""
_depth: ContextVar[int] = ContextVar("wsstab_event_depth", default=0)
"""How deep the event that is being emitted is nested."""
