"""Callables: what can be told of a function before it is called.

Only what is certain is told: what cannot be looked into, as much of what is not written in Python, fits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

__all__ = ["fits", "is_async", "is_generator", "is_plain"]

AWAITABLE = ("Awaitable", "Coroutine", "Future", "Task")
"""Words of a return annotation that make a plain function as good as an async one."""


def fits(function: Callable[..., Any], arguments: int) -> bool:
    """Whether it can be called with so many positional arguments."""
    try:
        signature = inspect.signature(function)
    except Exception:  # it has none, or what it has instead is broken
        return True
    try:
        signature.bind(*[None] * arguments)
    except TypeError:
        return False
    return True


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call gives something that must be awaited: certain for what ``async def`` has made."""
    return inspect.iscoroutinefunction(_called(function))


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether a call runs nothing of it, because it has a ``yield``."""
    called = _called(function)
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether a call gives nothing that can be awaited: certain for what ``def`` or ``lambda`` has made.

    A plain function around an async one, made by ``functools.wraps``, is none, nor is one whose annotation says that
    it returns what can be awaited.
    """
    called = inspect.unwrap(_called(function))
    if not isinstance(called, FunctionType) or inspect.iscoroutinefunction(called):
        return False
    returned = called.__annotations__.get("return", "")
    return not any(word in str(returned) for word in AWAITABLE)


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a call runs in the end, as far as it can be seen."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, MethodType):
        return function.__func__
    # Doubles of tests and compiled functions say of themselves that they are async.
    if isinstance(function, (FunctionType, type)) or inspect.iscoroutinefunction(function):
        return function
    method = vars(type(function)).get("__call__")
    return method if isinstance(method, FunctionType) else function
