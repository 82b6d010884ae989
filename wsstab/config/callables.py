"""Callables: what can be known about a function before it is called.

Only mistakes that are certain are reported. A callable that cannot be inspected passes, as do many that are not
written in Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

__all__ = ["fits", "is_async", "is_generator", "is_plain"]

AWAITABLE = ("Awaitable", "Coroutine", "Future", "Task")
"""Words in a return annotation by which a plain function counts as async."""


def fits(function: Callable[..., Any], arguments: int) -> bool:
    """Whether ``function`` accepts this number of positional arguments."""
    try:
        signature = inspect.signature(function)
    except Exception:
        # It has no signature, or its own __signature__ is broken.
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
    # Unwrapped, because a decorator's plain wrapper returns the awaitable of the async function in it.
    called = inspect.unwrap(_called(function))
    if not isinstance(called, FunctionType) or inspect.iscoroutinefunction(called):
        return False
    returned = called.__annotations__.get("return", "")
    return not any(word in str(returned) for word in AWAITABLE)


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a call runs in the end, as far as that can be found."""
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, MethodType):
        return function.__func__
    # Test doubles such as `AsyncMock`, and compiled functions, are marked as async themselves.
    if isinstance(function, (FunctionType, type)) or inspect.iscoroutinefunction(function):
        return function
    method = vars(type(function)).get("__call__")
    return method if isinstance(method, FunctionType) else function
