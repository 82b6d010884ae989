"""What can be told of a function before it is called."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from wsstab.config.callables import fits, is_async, is_generator, is_plain


def plain(event: object) -> None:
    """An ordinary one."""


async def asynchronous(event: object) -> None:
    """One that is awaited."""


def generator(event: object) -> Iterator[None]:
    """One that does nothing when it is called."""
    yield


async def async_generator(event: object) -> AsyncIterator[None]:
    """Nor this one."""
    yield


def promising(event: object) -> Awaitable[None]:
    """A plain one that gives what is awaited."""
    return asynchronous(event)


@functools.wraps(asynchronous)
def wrapping(*args: Any) -> Any:
    """A plain one around an async one."""
    return asynchronous(*args)


class Runs:
    """An instance that is called, and a method."""

    async def __call__(self, event: object) -> None:
        """Called."""

    def method(self, event: object) -> None:
        """A plain method."""


class Strange:
    """One whose signature is broken."""

    __signature__ = "none"

    def __call__(self) -> None:
        """Called."""


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
def test_what_a_call_gives_is_told_where_it_is_certain(
    function: Callable[..., Any], asynchronous: bool, generates: bool, is_certainly_plain: bool
) -> None:
    """Through partials, methods and instances."""
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
def test_whether_it_can_be_called_is_told_unless_it_cannot_be_looked_into(
    function: Callable[..., Any], arguments: int, expected: bool
) -> None:
    """What has no signature fits."""
    assert fits(function, arguments) is expected
