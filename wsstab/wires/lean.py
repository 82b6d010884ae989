"""Replacements for asyncio's queue and event that take hardly any memory while idle.

An empty deque takes 0.7 KiB, and the two originals contain five: more than the rest of a connection needs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

__all__ = ["LeanEvent", "LeanQueue", "make_lean"]

T = TypeVar("T")


class LeanQueue(Generic[T]):
    """An unbounded queue with one reader at a time."""

    __slots__ = ("_first", "_reader", "_rest")

    def __init__(self) -> None:
        # Hardly ever does more than one item wait, and one needs no deque.
        self._first: T | None = None
        self._rest: deque[T] | None = None
        self._reader: asyncio.Future[None] | None = None

    def put_nowait(self, item: T) -> None:
        """Add an item, which must not be ``None``."""
        if self._first is None:
            self._first = item
        elif self._rest is None:
            self._rest = deque((item,))
        else:
            self._rest.append(item)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self) -> T:
        """Remove and return the oldest item; wait for one if the queue is empty. A cancelled call loses nothing.

        Raises:
            RuntimeError: another call is already waiting.
        """
        while self._first is None:
            if self._reader is not None:
                raise RuntimeError("two calls of receive() at a time")
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.get_nowait()

    def get_nowait(self) -> T:
        """Remove and return the oldest item.

        Raises:
            asyncio.QueueEmpty: the queue is empty.
        """
        item, rest = self._first, self._rest
        if item is None:
            raise asyncio.QueueEmpty
        self._first = rest.popleft() if rest is not None else None
        # An empty deque is given up again: its memory is what this class saves.
        self._rest = rest or None
        return item

    def empty(self) -> bool:
        """Whether the queue is empty."""
        return self._first is None

    def qsize(self) -> int:
        """The number of items in the queue."""
        return (self._first is not None) + len(self._rest or ())


class LeanEvent:
    """An event that is set initially."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = True
        self._waiting: list[asyncio.Future[None]] | None = None

    def is_set(self) -> bool:
        """Whether the event is set."""
        return self._set

    def set(self) -> None:
        """Set the event and wake all waiting tasks."""
        self._set = True
        waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            # The future of a waiter that was cancelled is done already, and setting a result would raise.
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        """Clear the event, so that `wait` blocks."""
        self._set = False

    async def wait(self) -> bool:
        """Wait until the event is set."""
        if not self._set:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._waiting = self._waiting or []
            waiting.append(future)
            try:
                await future
            finally:
                # Not from the attribute: set() may have replaced the list.
                waiting.remove(future)
        return True


def make_lean(protocol: Any) -> None:
    """Replace ``queue`` and ``writable`` of a server's protocol object by the lean versions.

    Only before any task has read from the object: a task that waits for the old ones would wait for ever.
    """
    # uvicorn puts ``websocket.connect`` into the queue before the call begins: while something is in it, no task waits
    # for it.
    if isinstance(protocol.queue, asyncio.Queue) and not protocol.queue.empty() and protocol.writable.is_set():
        queue: LeanQueue[Any] = LeanQueue()
        while not protocol.queue.empty():
            queue.put_nowait(protocol.queue.get_nowait())
        protocol.queue, protocol.writable = queue, LeanEvent()
