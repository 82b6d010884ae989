"""OutboundQueue: the only queue of a connection, for messages not yet sent to its peer.

Payload bytes and messages are counted and bounded, and a policy says what
happens at the bound. `OutboundQueue.put` returns a verdict, because a slow
peer is normal and no error. An empty queue takes any message, however large:
otherwise it could never be sent.

Every message in the queue is unsent, so any of them may be dropped or
conflated. Once taken, a message belongs to the wire. A protocol that replays
messages (sent, but not acknowledged) keeps and charges them in a queue of its
own behind the wire, so that no policy touches a message twice.

Does not wait, does not write, and knows nothing of a message but its size.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Hashable
from enum import Enum
from typing import Generic, Protocol, TypeVar

__all__ = ["OutboundQueue", "Sized", "Verdict"]

POLICIES = ("close", "block", "drop_oldest", "drop_newest", "latest")
MAKING_ROOM = ("drop_oldest", "latest")


class Sized(Protocol):
    """Anything that can be queued: it knows its payload's size in bytes, which must not change."""

    @property
    def size(self) -> int: ...


M = TypeVar("M", bound=Sized)


class Verdict(Enum):
    """Outcome of `OutboundQueue.put`."""

    QUEUED = "queued"
    """The message is in the queue, and may have replaced others."""
    DROPPED = "dropped"
    """The policy dropped the message; the connection stays open."""
    OVERFLOW = "overflow"
    """The queue did not take the message, and the policy wants the connection closed."""


# Constants, because looking up a member on the class costs as much as the rest of a put on older Pythons.
_QUEUED = Verdict.QUEUED
_DROPPED = Verdict.DROPPED
_OVERFLOW = Verdict.OVERFLOW


class _Line(deque[M]):
    """Messages in the order they were put."""

    __slots__ = ()

    def add(self, message: M, key: Hashable) -> None:
        self.append(message)

    def first(self) -> M:
        return self[0]

    def everything(self) -> list[M]:
        return list(self)


class _ByKey(OrderedDict[Hashable, M]):
    """At most one message per key, in the order they were put."""

    # Not a plain dict: finding its first key walks over all entries that were removed in front of it.

    __slots__ = ()

    def add(self, message: M, key: Hashable) -> None:
        self[key] = message

    def first(self) -> M:
        return next(iter(self.values()))

    def popleft(self) -> M:
        return self.popitem(last=False)[1]

    def everything(self) -> list[M]:
        return list(self.values())


class OutboundQueue(Generic[M]):
    """Unsent messages to one peer, in the order they were put.

    Args:
        max_bytes: payload bytes that may wait; ``None`` for no bound.
        max_messages: messages that may wait; ``None`` for no bound.
        policy: what happens at a bound. ``close``: the message is refused and the connection is to
            be closed. ``block``: it is dropped; a sender that can wait calls `fits` first.
            ``drop_newest``: it is dropped. ``drop_oldest``: the oldest messages make room. ``latest``:
            a waiting message with the same key is removed first, then as ``drop_oldest``.

    Attributes:
        waiting: the unsent messages; ``None`` exactly when there are none, so that an ``is None`` test is the
            cheapest check.
        bytes: unsent payload bytes.
        dropped: messages ever put that will not be sent: refused, dropped, conflated or cleared.

    Raises:
        ValueError: no such policy.
    """

    # An idle connection has no deque, because an empty one takes 0.7 KiB.

    __slots__ = ("_max_bytes", "_max_messages", "_policy", "bytes", "dropped", "waiting")

    def __init__(self, max_bytes: int | None, max_messages: int | None, policy: str) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy={policy!r}: must be one of {', '.join(POLICIES)}")
        # A number in place of None saves `fits` two tests for every message.
        self._max_bytes = sys.maxsize if max_bytes is None else max_bytes
        self._max_messages = sys.maxsize if max_messages is None else max_messages
        self._policy = policy
        self.waiting: _Line[M] | _ByKey[M] | None = None
        self.bytes = 0
        self.dropped = 0

    def __bool__(self) -> bool:
        return self.waiting is not None

    def __len__(self) -> int:
        return len(self.waiting) if self.waiting is not None else 0

    def __repr__(self) -> str:
        return f"<OutboundQueue [{len(self)} messages, {self.bytes} bytes | {self.dropped} dropped]>"

    def fits(self, size: int) -> bool:
        """Whether a message of ``size`` bytes fits now; always true for an empty queue."""
        waiting = self.waiting
        return waiting is None or (self.bytes + size <= self._max_bytes and len(waiting) < self._max_messages)

    def put(self, message: M, key: Hashable = None) -> Verdict:
        """Add a message at the end, or apply the policy.

        Args:
            message: the message to send; its ``size`` must not change while it waits.
            key: under ``latest``, messages with the same key replace each other, and ``None`` is a
                key like any other; the other policies ignore it.

        Returns:
            What happened to the message.

        Raises:
            TypeError: ``key`` is not hashable under ``latest``; the queue is unchanged.
        """
        size = message.size
        # Before the message is measured against the bounds: the one that it replaces makes room for it.
        if isinstance(self.waiting, _ByKey):
            self._conflate(self.waiting, key)
        if not self.fits(size) and not self._make_room(size):
            self.dropped += 1
            return _OVERFLOW if self._policy == "close" else _DROPPED
        waiting = self.waiting
        if waiting is None:
            waiting = _ByKey() if self._policy == "latest" else _Line()
        waiting.add(message, key)
        self.waiting = waiting
        self.bytes += size
        return _QUEUED

    def take(self, max_bytes: int, max_messages: int = sys.maxsize, alone: bool = True) -> list[M]:
        """Remove messages from the front.

        Args:
            max_bytes: payload bytes to take at most.
            max_messages: messages to take at most.
            alone: whether the first message is taken even when it is larger.

        Returns:
            The messages in order; empty when the queue is, or when the first message is too large.
        """
        waiting = self.waiting
        if waiting is None or (self.bytes <= max_bytes and len(waiting) <= max_messages):
            return self._take_all()
        taken = [waiting.popleft()] if alone and max_messages else []
        room = max_bytes - sum(message.size for message in taken)
        while waiting and len(taken) < max_messages and waiting.first().size <= room:
            taken.append(waiting.popleft())
            room -= taken[-1].size
        # The bytes that were taken. After a first message above the limit, the room is negative.
        self.bytes -= max_bytes - room
        self.waiting = waiting or None
        return taken

    def clear(self) -> int:
        """Discard all messages and return how many there were."""
        discarded = len(self._take_all())
        self.dropped += discarded
        return discarded

    def _conflate(self, waiting: _ByKey[M], key: Hashable) -> None:
        if key in waiting:
            self._discard(waiting, waiting.pop(key))

    def _make_room(self, size: int) -> bool:
        if self._policy not in MAKING_ROOM:
            return False
        while self.waiting is not None and not self.fits(size):
            self._discard(self.waiting, self.waiting.popleft())
        return True

    def _discard(self, waiting: _Line[M] | _ByKey[M], message: M) -> None:
        self.bytes -= message.size
        self.dropped += 1
        self.waiting = waiting or None

    def _take_all(self) -> list[M]:
        waiting, self.waiting = self.waiting, None
        self.bytes = 0
        return waiting.everything() if waiting is not None else []
