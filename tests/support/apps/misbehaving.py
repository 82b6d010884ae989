"""Callbacks that do what callbacks must not do."""

from __future__ import annotations

import asyncio

import anyio

from wsstab.events import Event

__all__ = ["cancelled", "never", "odd"]


class Odd(BaseException):
    """Neither an ``Exception`` nor meant for the process."""


def cancelled(event: Event) -> None:
    """Ask for the result of a task that was cancelled."""
    raise asyncio.CancelledError


async def odd(event: Event) -> None:
    """Raise what is no exception."""
    raise Odd


async def never(event: Event) -> None:
    """Never come back."""
    await anyio.sleep_forever()
