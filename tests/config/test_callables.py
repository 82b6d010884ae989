"""What can be known about a callable before it is called."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from wsstab.config.callables import fits, is_async, is_generator, is_plain


def plain(event: object) -> None:
    """An ordinary function."""


async def asynchronous(event: object) -> None:
    """A coroutine function."""


def generator(event: object) -> Iterator[None]:
    """A generator function, whose body does not run when it is called."""
    yield


async def async_generator(event: object) -> AsyncIterator[None]:
    """An async generator function, whose body does not run when it is called."""
    yield


def promising(event: object) -> Awaitable[None]:
    """A plain function that returns an awaitable."""
    return asynchronous(event)


@functools.wraps(asynchronous)
def wrapping(*args: Any) -> Any:
    """A plain function that wraps an async one."""
    return asynchronous(*args)


class Runs:
    """A class whose instances are callable, with a method."""

    async def __call__(self, event: object) -> None:
        """An async call."""

    def method(self, event: object) -> None:
        """A plain method."""


class Strange:
    """A callable whose signature is broken."""

    __signature__ = "none"

    def __call__(self) -> None:
        """A plain call."""


@pytest.mark.parametrize(
    ("function", "asynchronous", "generates", "is_certainly_plain"),
    [
        (plain, False, False, True),
        (asynchronous, True, False, False),
        (generator, False, True, True),
        (async_generator, False, True, True),
        (promising, False, False, False),
        (wrapping, False, False, False),
        (partial(partial(asynchronous)), True, False, False),
        (Runs(), True, False, False),
        (Runs().method, False, False, True),
        (Runs, False, False, False),
        (AsyncMock(), True, False, False),
        (Mock(), False, False, False),
        (print, False, False, False),
    ],
)
def test_the_kind_of_a_callable_is_recognised_where_it_is_certain(
    function: Callable[..., Any], asynchronous: bool, generates: bool, is_certainly_plain: bool
) -> None:
    """The check sees through partials, methods and instances."""
    assert (is_async(function), is_generator(function)) == (asynchronous, generates)
    assert is_plain(function) is is_certainly_plain


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (plain, 1, True),
        (plain, 0, False),
        (plain, 2, False),
        (Strange(), 3, True),
        (lambda *all_of_them: None, 9, True),
    ],
)
def test_fits_checks_whether_a_callable_takes_so_many_arguments(
    function: Callable[..., Any], arguments: int, expected: bool
) -> None:
    """A callable without a readable signature is assumed to fit."""
    assert fits(function, arguments) is expected
