"""Unacknowledged: the messages of a session that have a number and that the peer has not acknowledged.

A message gets its number when it is first handed to a carrier, and is kept from then on until the peer has acknowledged
it. What is kept are references: one message, or a block of messages that many sessions share.

Does not count what is handed over: its owner does, and every method that needs to know is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from .queue import Sized

__all__ = ["Kept", "Unacknowledged"]

M = TypeVar("M", bound=Sized, covariant=True)
K = TypeVar("K", bound=Sized)


class Kept(Protocol[M]):
    """One or several messages that were handed over together, in order."""

    @property
    def messages(self) -> Sequence[M]:
        """The messages."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def size(self) -> int:
        """Their payload, in bytes."""


class Unacknowledged(Generic[K]):
    """What a session has sent and must be able to send again.

    Attributes:
        messages: how many messages the peer has acknowledged, which is the number of the last one that is not kept.
        bytes: their payload, in bytes.
    """

    # No list while nothing is kept: that is the state of an idle session.

    __slots__ = ("_kept", "_skipped", "_skipped_bytes", "bytes", "messages")

    def __init__(self) -> None:
        self._kept: list[Kept[K]] | None = None
        # The peer may acknowledge a part of the messages that were handed over together.
        self._skipped = self._skipped_bytes = 0
        self.messages = self.bytes = 0

    def __bool__(self) -> bool:
        return self._kept is not None

    def __repr__(self) -> str:
        return f"<Unacknowledged [{len(self._kept or ())} kept after {self.messages} messages]>"

    def keep(self, kept: Kept[K]) -> None:
        """Keep what was just handed to a carrier for the first time."""
        if self._kept is None:
            self._kept = [kept]
        else:
            self._kept.append(kept)

    def acknowledge(self, messages: int) -> None:
        """Forget what the peer has received.

        Args:
            messages: how many messages of the session it has received, in all. A number that is not above an earlier
                one changes nothing. The caller has checked that so many were sent.
        """
        if self._kept is None or messages <= self.messages:
            return
        through = messages - self.messages + self._skipped
        self.bytes -= self._skipped_bytes
        done = 0
        for kept in self._kept:
            if kept.count > through:
                break
            through -= kept.count
            self.bytes += kept.size
            done += 1
        del self._kept[:done]
        self.messages = messages
        self._skipped = through
        self._skipped_bytes = sum(message.size for message in self._kept[0].messages[:through]) if through else 0
        self.bytes += self._skipped_bytes
        if not self._kept:
            self._kept = None

    def after(self, number: int, max_bytes: int) -> list[K]:
        """Messages to send again.

        Args:
            number: the number of the last message that need not be sent; those that the peer has acknowledged are
                never sent again.
            max_bytes: payload bytes to return at most; the first message is returned even when it is larger.

        Returns:
            The messages after it, in order; empty if there are none.
        """
        again: list[K] = []
        skip = max(number, self.messages) - self.messages + self._skipped
        for kept in self._kept or ():
            if skip >= kept.count:
                skip -= kept.count
                continue
            for message in kept.messages[skip:]:
                if again and message.size > max_bytes:
                    return again
                again.append(message)
                max_bytes -= message.size
            skip = 0
        return again

    def clear(self) -> None:
        """Forget everything: the session is over."""
        self._kept = None
        self._skipped = self._skipped_bytes = 0
