"""Waiting for something to become true, with a deadline and no fixed sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually"]

T = TypeVar("T")

PAUSE = 0.02
"""Seconds between two checks."""


def eventually(condition: Callable[[], T], within: float = 5.0) -> T:
    """Wait until a condition holds.

    Args:
        condition: called again and again; a true result ends the wait.
        within: seconds to wait at most.

    Returns:
        What the condition returned.

    Raises:
        AssertionError: the condition never held; the message has its last result.
    """
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"still {value!r} after {within:g} s")
        time.sleep(PAUSE)
    return value
