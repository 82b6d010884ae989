"""Who hears of events: the only event mechanism there is.

A callback may be plain or async. What it raises is logged and harms no connection.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from .events import Event
from .options import Hooks
from .tasks import current_loop

__all__ = ["Subscribers"]

logger = logging.getLogger("wsstab")

CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])

LOOK_AGAIN = 0.01
"""Seconds between two looks at what is still under way."""
MAX_PENDING = 10_000
"""How many async callbacks may be under way; a callback that hangs must not eat the memory."""


class Subscribers:
    """Callbacks by class of event.

    Args:
        hooks: those of the configuration.
    """

    def __init__(self, hooks: Hooks | None = None) -> None:
        self._callbacks: dict[type[Event], list[Callable[..., Any]]] = {}
        self._pending = 0
        for event_class, callback in hooks.pairs() if hooks is not None else ():
            self.add(event_class, callback)

    def add(self, event_class: type[Event], callback: CallbackT) -> CallbackT:
        """Call ``callback(event)`` for each event of this class or of one below it.

        Raises:
            TypeError: not a class of events, or not callable.
        """
        if not (isinstance(event_class, type) and issubclass(event_class, Event)):
            raise TypeError(f"on() takes a class of wsstab events, not {event_class!r}")
        if not callable(callback):
            raise TypeError(f"on() takes a callable, not {callback!r}")
        self._callbacks.setdefault(event_class, []).append(callback)
        return callback

    def wants(self, event_class: type[Event]) -> bool:
        """Whether anybody listens for this class: an event that nobody hears need not be made."""
        return bool(self._callbacks) and any(issubclass(event_class, listened) for listened in self._callbacks)

    def emit(self, event: Event) -> None:
        """Tell everyone, in the order of registration. Never raises."""
        for event_class in type(event).__mro__:
            for callback in self._callbacks.get(event_class, ()):
                self._call(callback, event)

    async def idle(self, within: float) -> None:
        """Wait until no async callback is under way, at most so many seconds."""
        with anyio.move_on_after(within):
            while self._pending:
                await anyio.sleep(LOOK_AGAIN)

    def _call(self, callback: Callable[..., Any], event: Event) -> None:
        try:
            answer = callback(event)
        except Exception:
            logger.exception("! callback %r failed for %s", callback, type(event).__name__)
            return
        if inspect.isawaitable(answer):
            self._spawn(callback, answer, event)

    def _spawn(self, callback: Callable[..., Any], answer: Awaitable[Any], event: Event) -> None:
        try:
            loop = current_loop()
        except RuntimeError:
            loop = None
        if loop is None or self._pending >= MAX_PENDING:
            if inspect.iscoroutine(answer):
                answer.close()
            logger.error("! callback %r skipped for %s: %s are pending", callback, type(event).__name__, self._pending)
            return
        self._pending += 1
        loop.spawn(self._finish, callback, answer, event)

    async def _finish(self, callback: Callable[..., Any], answer: Awaitable[Any], event: Event) -> None:
        try:
            await answer
        except Exception:
            logger.exception("! callback %r failed for %s", callback, type(event).__name__)
        finally:
            self._pending -= 1
