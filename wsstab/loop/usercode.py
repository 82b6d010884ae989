"""Code of the application that is called in the middle of ours: whatever it raises, we go on.

An ``Exception`` is the caller's to catch. What is none, such as the ``CancelledError`` that the result of a cancelled
task raises, would take us along with it: it becomes an `Uncaught`. Our own cancellation passes, and so does what is
meant to end the process.
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
"""Whether an asyncio task knows that it was cancelled."""


class Uncaught(Exception):
    """Code of the application raised what is no ``Exception``; that is its cause.

    Args:
        error: what it raised.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__} was raised, which is no Exception")


def call(function: Callable[..., T], *args: Any) -> T:
    """``function(*args)``, plain code of the application.

    Raises:
        Uncaught: it raised what is no ``Exception``; not even a cancellation, because nothing in it can be cancelled.
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
    """Await what code of the application has given.

    Raises:
        Uncaught: it raised what is no ``Exception``, and we are not cancelled.
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
    """Whether it is meant for the whole process, alone or in a group."""
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return True
    return any(map(ends_the_process, _inside(error)))


def is_cancellation(error: BaseException) -> bool:
    """Whether the running task is cancelled, and that is what arrives here; a cancellation of others is not.

    Where asyncio cannot tell (Python 3.10), each one counts that comes alone.
    """
    try:
        cancelled = anyio.get_cancelled_exc_class()
    except Exception:
        # No event loop: a coroutine that is thrown away is closed.
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
    # Only who waits is cancelled from outside: what is left inside is the application's own.
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
    # By name: Python 3.10 has no exception groups, and those of a package.
    inside = getattr(error, "exceptions", ()) if not isinstance(error, OSError) else ()
    return (
        tuple(each for each in inside if isinstance(each, BaseException)) if isinstance(inside, (tuple, list)) else ()
    )
