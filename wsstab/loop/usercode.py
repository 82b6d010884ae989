"""Calls application code from the middle of ours, so that our code survives whatever it raises.

An ``Exception`` is left to the caller to catch. Any other ``BaseException``, such as the ``CancelledError`` that the
result of a cancelled task raises, would unwind our code too; it is turned into an `Uncaught`. A cancellation of our own
task passes through, and so does an exception that is meant to end the process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, TypeVar

import anyio

__all__ = ["Uncaught", "awaited", "call", "ends_the_process", "is_cancellation"]

T = TypeVar("T")

COUNTS_CANCELLATIONS = sys.version_info >= (3, 11)
"""Whether an asyncio task counts the requests to cancel it (Python 3.11 and later)."""


class Uncaught(Exception):
    """Application code raised a ``BaseException`` that is no ``Exception``; that error is the ``__cause__``.

    Args:
        error: the error that was raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__} was raised, which is no Exception")


def call(function: Callable[..., T], *args: Any) -> T:
    """Call a synchronous function of the application and return its result.

    Raises:
        Uncaught: the function raised a ``BaseException`` that is no ``Exception``. This includes a cancellation error,
            because synchronous code cannot be cancelled.
    """
    try:
        return function(*args)
    except Exception:
        raise
    except BaseException as error:
        if ends_the_process(error):
            raise
        raise Uncaught(error) from error


async def awaited(answer: Awaitable[T]) -> T:
    """Await an awaitable of the application.

    Raises:
        Uncaught: it raised a ``BaseException`` that is no ``Exception``, and the running task is not cancelled.
    """
    if not COUNTS_CANCELLATIONS and asyncio._get_running_loop() is not None:
        return await _in_its_task(answer)
    try:
        return await answer
    except Exception:
        raise
    except BaseException as error:
        if ends_the_process(error) or is_cancellation(error):
            raise
        raise Uncaught(error) from error


def ends_the_process(error: BaseException) -> bool:
    """Whether the error is meant to end the process, on its own or inside an exception group."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return True
    return any(map(ends_the_process, _inside(error)))


def is_cancellation(error: BaseException) -> bool:
    """Whether the error is the cancellation of the running task, not that of another task.

    Where asyncio cannot tell (Python 3.10), every cancellation error counts that is not inside a group.
    """
    try:
        cancelled = anyio.get_cancelled_exc_class()
    except Exception:
        # Without an event loop, the error can only come from closing a coroutine that was thrown away.
        return isinstance(error, GeneratorExit)
    if not COUNTS_CANCELLATIONS and asyncio._get_running_loop() is not None:
        return isinstance(error, cancelled)
    return _contains(error, cancelled) and _is_cancelled()


def _is_cancelled() -> bool:
    if asyncio._get_running_loop() is None:
        return anyio.current_effective_deadline() == -inf
    task = asyncio.current_task()
    return task is None or bool(getattr(task, "cancelling", int)())


async def _in_its_task(answer: Awaitable[T]) -> T:
    # A cancellation from outside reaches only this waiting task, so any that comes out of the inner task is the
    # application's own.
    task = asyncio.ensure_future(answer)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        raise
    return call(task.result)


def _contains(error: BaseException, kind: type[BaseException]) -> bool:
    return isinstance(error, kind) or any(_contains(each, kind) for each in _inside(error))


def _inside(error: BaseException) -> tuple[BaseException, ...]:
    # Found by attribute name, because Python 3.10 has no exception groups of its own, only those of a backport package.
    inside = getattr(error, "exceptions", ()) if not isinstance(error, OSError) else ()
    return (
        tuple(each for each in inside if isinstance(each, BaseException)) if isinstance(inside, (tuple, list)) else ()
    )
