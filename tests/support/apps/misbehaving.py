"""Callbacks that do what callbacks must not do."""

from __future__ import annotations

import asyncio

import anyio

from wsstab.events import Event

__all__ = ["cancelled", "never", "odd"]


class Odd(BaseException):
    """Neither an ``Exception`` nor meant for the process."""


def cancelled(event: Event) -> None:
    """Fail as a callback does that asks for the result of a cancelled task."""
    raise asyncio.CancelledError


async def odd(event: Event) -> None:
    """Raise what is not an ``Exception``."""
    raise Odd


async def never(event: Event) -> None:
    """Never return."""
    await anyio.sleep_forever()
