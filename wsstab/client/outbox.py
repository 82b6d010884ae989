"""Outbox: what the application has sent and the server has not acknowledged.

A message gets its number when it is first handed to a carrier, and is kept until the server has acknowledged it. What
waits for a carrier and what waits for an acknowledgement are bounded together, so all that waits for a carrier can be
handed over as soon as there is one. Does not send.
"""

from __future__ import annotations

from collections import deque

from .actions import Message

__all__ = ["Outbox", "size_of"]


def size_of(message: Message, errors: str = "strict") -> int:
    """Payload bytes of a message.

    Args:
        message: the message.
        errors: what to do with half of a surrogate pair, as in ``str.encode``.

    Raises:
        UnicodeEncodeError: a text with half of a surrogate pair, which UTF-8 cannot encode. It is a ``ValueError``.
    """
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode("utf-8", errors))


class Outbox:
    """The messages of an application, until they are acknowledged.

    Args:
        max_messages: messages that are kept at most.
        max_bytes: their payload in bytes; one message that is larger is taken when there is no other.

    Attributes:
        sent: messages of this life that have a number.
        bytes: payload of what is kept, in bytes.

    Raises:
        ValueError: a bound below 1.
    """

    def __init__(self, max_messages: int = 1000, max_bytes: int = 1024 * 1024) -> None:
        for name, value in (("max_messages", max_messages), ("max_bytes", max_bytes)):
            if value < 1:
                raise ValueError(f"{name}={value!r}: must be at least 1")
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._unsent: deque[tuple[Message, int]] = deque()
        self._unacknowledged: deque[tuple[Message, int]] = deque()
        self.bytes = 0
        self.sent = 0

    def __len__(self) -> int:
        return len(self._unsent) + len(self._unacknowledged)

    def __repr__(self) -> str:
        waiting = f"{len(self._unsent)} unsent, {len(self._unacknowledged)} unacknowledged"
        return f"<Outbox [{waiting}, {self.bytes} bytes]>"

    @property
    def acknowledged(self) -> int:
        """Messages of this life that the server has acknowledged."""
        return self.sent - len(self._unacknowledged)

    @property
    def full(self) -> bool:
        """Whether either bound is reached."""
        return len(self) >= self._max_messages or self.bytes >= self._max_bytes

    def fits(self, size: int) -> bool:
        """Whether there is room for a message of so many bytes; there always is when nothing is kept."""
        return not self or (len(self) < self._max_messages and self.bytes + size <= self._max_bytes)

    def put(self, message: Message, size: int) -> None:
        """Keep a message that fits, behind all others.

        Args:
            message: the message.
            size: its payload in bytes.
        """
        self._unsent.append((message, size))
        self.bytes += size

    def take(self) -> list[Message]:
        """Give what is unsent its numbers, and return it, in order."""
        taken = [message for message, _ in self._unsent]
        self._unacknowledged.extend(self._unsent)
        self._unsent.clear()
        self.sent += len(taken)
        return taken

    def unacknowledged(self) -> list[Message]:
        """What has a number and is not acknowledged, in order."""
        return [message for message, _ in self._unacknowledged]

    def acknowledge(self, received: int) -> bool:
        """Forget what the server has received.

        Args:
            received: how many messages of this life it has received, at most `sent`. A number that is not above an
                earlier one changes nothing.

        Returns:
            Whether anything was forgotten.
        """
        news = received > self.acknowledged
        while self.acknowledged < received:
            _, size = self._unacknowledged.popleft()
            self.bytes -= size
        return news

    def begin_anew(self) -> list[Message]:
        """Begin another life, in which what is unsent gets the first numbers.

        Returns:
            What was sent and not acknowledged.
        """
        lost = self.unacknowledged()
        self.acknowledge(self.sent)
        self.sent = 0
        return lost
