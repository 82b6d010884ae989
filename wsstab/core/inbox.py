"""Inbox: messages that arrived before the handler asked for them.

The socket is read even while the handler is busy, so messages that the handler
has not asked for yet wait here. The inbox does not enforce its bounds: it only
says when it is `full`, and the reader then decides whether to stop reading or
to drop the oldest message. A message put into a full inbox is kept.

Does not read, does not wait, does not look into a message.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["Inbox"]

E = TypeVar("E")


class Inbox(Generic[E]):
    """Unread messages of one connection, in the order they arrived.

    Args:
        max_messages: messages at which the inbox is full, at least 1.
        max_bytes: payload bytes at which it is full, at least 1.

    Attributes:
        waiting: unread messages, each with its size; ``None`` exactly when there are none, so that an ``is None`` test
            is the cheapest check.
        bytes: unread payload bytes.

    Raises:
        ValueError: a bound below 1.
    """

    # A connection with nothing unread has no deque, because an empty one takes 0.7 KiB.

    __slots__ = ("_max_bytes", "_max_messages", "bytes", "waiting")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        for name, value in (("max_messages", max_messages), ("max_bytes", max_bytes)):
            if value < 1:
                raise ValueError(f"{name}={value!r}: must be at least 1")
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self.waiting: deque[tuple[E, int]] | None = None
        self.bytes = 0

    def __bool__(self) -> bool:
        return self.waiting is not None

    def __len__(self) -> int:
        return len(self.waiting) if self.waiting is not None else 0

    def __repr__(self) -> str:
        return f"<Inbox [{len(self)} messages, {self.bytes} bytes]>"

    @property
    def full(self) -> bool:
        """Whether either bound is reached."""
        return self.fills(1)

    def fills(self, times: float) -> bool:
        """Whether ``times`` times either bound is reached."""
        return len(self) >= self._max_messages * times or self.bytes >= self._max_bytes * times

    def put(self, event: E, size: int) -> None:
        """Keep an event, full or not.

        Args:
            event: the message that arrived.
            size: its payload, in bytes.
        """
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append((event, size))
        self.bytes += size

    def take(self) -> tuple[E, int]:
        """Remove the oldest event.

        Returns:
            The event and its size in bytes.

        Raises:
            IndexError: the inbox is empty.
        """
        waiting = self.waiting
        if waiting is None:
            raise IndexError("the inbox is empty")
        event, size = waiting.popleft()
        self.bytes -= size
        # The empty deque is dropped: None is the sign of an empty inbox, and takes no memory.
        self.waiting = waiting or None
        return event, size

    def drop_oldest(self) -> int:
        """Remove the oldest event.

        Returns:
            Its size, in bytes.

        Raises:
            IndexError: the inbox is empty.
        """
        _, size = self.take()
        return size
