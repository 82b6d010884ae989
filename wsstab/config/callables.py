"""Callables: what is known of a function before it is called.

Only certain mistakes are reported: a callable that cannot be inspected, as many not written in Python, passes.
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
    """Whether ``function`` accepts this number of positional arguments."""
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
    """Whether a call returns an awaitable: certain for functions made by ``async def``."""
    return inspect.iscoroutinefunction(_called(function))


def is_generator(function: Callable[..., Any]) -> bool:
    """Whether ``function`` contains a ``yield``, so that a call runs none of its code."""
    called = _called(function)
    return inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called)


def is_plain(function: Callable[..., Any]) -> bool:
    """Whether a call returns no awaitable: certain for functions made by ``def`` or ``lambda``.

    A plain function that wraps an async one by ``functools.wraps`` is not plain, nor is one whose annotation says that
    it returns an awaitable.
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
