"""Signals that a server handles with ``loop.add_signal_handler``.

``signal.signal`` cannot intercept those, because the loop learns of a signal by a byte in its own pipe. Our handler
replaces the server's in the loop's table; when the drain is over, the server's is put back.

Private details used: ``_signal_handlers`` of asyncio's loop (Python 3.10 to 3.13), and the same table in uvloop (0.23),
which is a field of an extension class and is found among the objects that the loop refers to.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import SignalOwner

__all__ = ["LoopSignals", "take_from_loop"]


class LoopSignals:
    """Handlers in the table of an event loop, replaced by ours.

    Args:
        owner: the owner that is told of the signals.
        loop: the event loop.
        table: the handles of the loop, by signal.
        numbers: the signals.
    """

    def __init__(
        self, owner: SignalOwner, loop: asyncio.AbstractEventLoop, table: dict[int, Any], numbers: list[int]
    ) -> None:
        self._table = table
        self._before = {number: table[number] for number in numbers}
        for number in numbers:
            # By the public method, so that the loop makes the handle; only the server's handle is kept and put back.
            loop.add_signal_handler(number, owner.on_signal, number)
        self._ours = {number: table[number] for number in numbers}

    def stands(self) -> bool:
        return all(self._table.get(number) is handle for number, handle in self._ours.items())

    def give_back(self) -> None:
        for number, handle in self._ours.items():
            if self._table.get(number) is handle:
                self._table[number] = self._before[number]

    def let_stop(self, number: int | None) -> None:
        self.give_back()
        if number in self._before:
            signal.raise_signal(number)


def take_from_loop(owner: SignalOwner, module: str, numbers: tuple[int, ...]) -> list[LoopSignals]:
    """Take over the signals whose handlers on the running loop are functions of ``module``."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    table = table_of(loop)
    found = [number for number in numbers if number in table and is_from(module, table[number])]
    return [LoopSignals(owner, loop, table, found)] if found else []


def table_of(loop: asyncio.AbstractEventLoop) -> dict[int, Any]:
    """The handles of a loop, by signal; empty if the table is not found."""
    for table in (getattr(loop, "_signal_handlers", None), *gc.get_referents(loop)):
        # Other tables are keyed by file descriptors, whose numbers may be the same as those of signals.
        if isinstance(table, dict) and any(isinstance(number, signal.Signals) for number in table):
            return table
    return {}


def is_from(module: str, handle: object) -> bool:
    """Whether a handle calls a function of ``module``."""
    called = [each for each in gc.get_referents(handle) if isinstance(each, FunctionType)]
    return any(function.__module__ == module for function in called)
