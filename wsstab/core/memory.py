"""Memory: how many bytes each connection holds, the total, and which connections to evict first.

Every charge updates the sums, which are never recounted. A victim is found without looking at all
connections: by age, in a heap whose entries are checked only when they come to the top; by size, in
classes of nearly equal size. The ledger names victims; the caller evicts them.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from heapq import heapify, heappop, heappush
from itertools import chain, count, islice
from operator import attrgetter
from types import MemberDescriptorType, ModuleType
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Estimate", "Ledger", "Member", "estimate"]

MAX_STALE = 1_000
"""Outdated entries examined for one victim; after these, the best of them is good enough."""

SAMPLE = 64
"""Members of one size class that are compared to find its largest."""

MAX_OBJECTS = 100_000
"""References that one `estimate` follows."""


class Member(Protocol):
    """What the ledger requires of a connection; only the ledger writes ``memory``."""

    memory: int
    """Bytes it holds."""

    @property
    def last_traffic(self) -> float:
        """Monotonic time of the last traffic, in seconds; may grow without a call to the ledger."""
        ...

    @property
    def opened(self) -> float:
        """Monotonic time at which its socket opened."""
        ...

    @property
    def identified(self) -> float:
        """Monotonic time at which its client identity began; a reconnect keeps it."""
        ...


M = TypeVar("M", bound=Member)

AGES: dict[str, Callable[[Any], float]] = {
    "lru": attrgetter("last_traffic"),
    "fifo": attrgetter("opened"),
    "oldest": attrgetter("identified"),
}


class _Order(Protocol[M]):
    """The order in which a policy evicts. It may yield members that hold nothing or must be spared."""

    def changed(self, member: M, before: int, after: int) -> None:
        """``member`` holds ``after`` bytes instead of ``before``."""
        ...

    def dated(self, member: M) -> None:
        """A time of ``member`` went back."""
        ...

    def discard(self, member: M) -> None:
        """``member`` has left; its bytes were released before."""
        ...

    def walk(self) -> Generator[M, None, None]:
        """Victims, first to last; nothing may change until the generator is closed."""
        ...


class Ledger(Generic[M]):
    """Bytes per connection and in total.

    Args:
        policy: which member to evict first. ``lru``: the least recent traffic; ``fifo``: the longest-lived
            socket; ``oldest``: the longest-lived client identity; ``largest``: the most bytes.

    Raises:
        ValueError: the policy is none of these.
    """

    def __init__(self, policy: str) -> None:
        if policy != "largest" and policy not in AGES:
            raise ValueError(f"policy={policy!r}: must be one of {', '.join(map(repr, (*AGES, 'largest')))}")
        self._order: _Order[M] = _BySize() if policy == "largest" else _ByAge(AGES[policy])
        self._members: set[M] = set()
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes that all members hold."""
        return self._total

    @property
    def count(self) -> int:
        """How many members there are."""
        return len(self._members)

    def add(self, member: M) -> None:
        """Add ``member`` with 0 bytes; a present member is left unchanged."""
        if member in self._members:
            return
        self._members.add(member)
        member.memory = 0

    def remove(self, member: M) -> int:
        """Remove ``member``.

        Returns:
            The bytes it held; 0 if it was not in the ledger.
        """
        if member not in self._members:
            return 0
        freed = member.memory
        self.charge(member, -freed)
        self._order.discard(member)
        self._members.discard(member)
        return freed

    def charge(self, member: M, delta: int) -> None:
        """Add ``delta`` bytes to the account of ``member``; a member that is not in the ledger is ignored.

        Args:
            member: the member that holds the bytes.
            delta: bytes, negative to release them. An account never falls below 0.
        """
        if member not in self._members:
            return
        before = member.memory
        after = max(before + delta, 0)
        member.memory = after
        self._total += after - before
        self._order.changed(member, before, after)

    def rekey(self, member: M) -> None:
        """Report that a time of ``member`` went back, as ``identified`` does when a client id reconnects.

        A time that goes forward need not be reported.
        """
        if member in self._members:
            self._order.dated(member)

    def victims(self, needed: int, spare: M | None = None) -> list[M]:
        """The members to evict to get ``needed`` bytes back. They stay members until they are removed.

        By age, the order is exact unless more than 1,000 entries that came to the top were out of
        date; then the first of those 1,000 is chosen. By size, it is exact to within one eighth, and
        fully exact where at most 64 members are of about the same size.

        Args:
            needed: bytes.
            spare: a member that is never a victim.

        Returns:
            As few members as it takes, in the order of the policy; all that hold anything when that is not enough.
        """
        found: list[M] = []
        # Closed before returning: walking by age takes entries out of the heap, and closing puts them back.
        with closing(self._order.walk()) as walk:
            candidates = (member for member in walk if member.memory and member is not spare)
            while needed > 0 and (member := next(candidates, None)) is not None:
                found.append(member)
                needed -= member.memory
        return found


class _ByAge(Generic[M]):
    """Oldest first, by a time that may grow without a call to the ledger.

    A heap in which each member that holds anything has one valid entry, with its time when the entry was
    made. An outdated entry at the top gets the current time and sinks again; the traffic that outdated it
    pays for that. Since times only grow, no member below can be older.
    """

    def __init__(self, age: Callable[[M], float]) -> None:
        self._age = age
        self._heap: list[tuple[float, int, M]] = []
        self._entries: dict[M, int] = {}
        self._numbers = count()

    def changed(self, member: M, before: int, after: int) -> None:
        # The entry stays when all bytes are released, because a queue that fills and empties with every
        # message would otherwise push an entry each time. It is dropped when it comes to the top.
        if after and member not in self._entries:
            self._push(member)

    def dated(self, member: M) -> None:
        if self._entries.pop(member, None) is not None:
            self._push(member)
            self._compact()

    def discard(self, member: M) -> None:
        if self._entries.pop(member, None) is not None:
            self._compact()

    def walk(self) -> Generator[M, None, None]:
        seen: list[tuple[float, int, M]] = []
        named: list[tuple[float, int, M]] = []
        try:
            while (entry := self._next(seen)) is not None:
                named.append(entry)
                yield entry[2]
        finally:
            # Those that were named go back as well: a victim stays a member until it is removed.
            for entry in chain(seen, named):
                heappush(self._heap, entry)

    def _next(self, seen: list[tuple[float, int, M]]) -> tuple[float, int, M] | None:
        """The oldest of all; ``seen`` holds entries that left the heap and are up to date."""
        stale = 0
        while self._heap and (not seen or (self._heap[0] < seen[0] and stale < MAX_STALE)):
            key, number, member = heappop(self._heap)
            if self._entries.get(member) != number:
                continue
            if not member.memory:
                del self._entries[member]
                continue
            age = self._age(member)
            stale += age != key
            heappush(seen, (age, number, member))
        return heappop(seen) if seen else None

    def _push(self, member: M) -> None:
        # The number settles ties, and tells an entry from an earlier one of the same member.
        self._entries[member] = number = next(self._numbers)
        heappush(self._heap, (self._age(member), number, member))

    def _compact(self) -> None:
        # Outdated entries stay in the heap until they come to the top. Rebuilding it at half costs little on average.
        if len(self._heap) > 2 * len(self._entries):
            self._heap = [entry for entry in self._heap if self._entries.get(entry[2]) == entry[1]]
            heapify(self._heap)


class _BySize(Generic[M]):
    """Largest first, by classes whose sizes differ by one eighth at most.

    There are about 200 classes up to a gigabyte, so the order among them is found by sorting.
    """

    def __init__(self) -> None:
        self._classes: dict[int, dict[M, None]] = {}

    def changed(self, member: M, before: int, after: int) -> None:
        source, target = _size_class(before), _size_class(after)
        if source == target:
            return
        if before:
            self._leave(member, source)
        if after:
            self._classes.setdefault(target, {})[member] = None

    def dated(self, member: M) -> None:
        """Do nothing: times do not affect the order by size."""

    def discard(self, member: M) -> None:
        """Do nothing: a member that holds nothing is in no class."""

    def walk(self) -> Generator[M, None, None]:
        for size_class in sorted(self._classes, reverse=True):
            members = iter(self._classes[size_class])
            while sample := sorted(islice(members, SAMPLE), key=attrgetter("memory"), reverse=True):
                yield from sample

    def _leave(self, member: M, size_class: int) -> None:
        members = self._classes[size_class]
        del members[member]
        if not members:
            del self._classes[size_class]


def _size_class(size: int) -> int:
    """The class of a size: the size itself up to 15, then eight classes for each power of two."""
    shift = max(size.bit_length() - 4, 0)
    return (shift << 3) + (size >> shift)


LEAVES = frozenset(map(id, (str, bytes, bytearray, int, float, complex, bool, type(None))))
"""Ids of classes whose instances refer to nothing. Ids, because a class may define its own hash and equality."""

CONTAINERS: dict[type, Callable[[Any], Iterator[object]]] = {
    dict: lambda value: chain(dict.keys(value), dict.values(value)),
    list: list.__iter__,
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    deque: deque.__iter__,
    memoryview: lambda value: iter((value.obj,)),
}
"""How to read each kind of container, including subclasses, without running code of the application."""


def estimate(value: object) -> int:
    """How many bytes of memory ``value`` takes, with everything it refers to.

    Sums ``sys.getsizeof`` over the value, the items of containers and the attributes of objects
    (``__dict__`` and ``__slots__``; so dataclasses and pydantic models too), at every depth. Each object
    counts once, however often it is referred to; cycles and deep nesting are safe. Classes and modules
    belong to the program and count without their contents.

    Args:
        value: anything. An object that raises on inspection counts with the part that can be read.

    Returns:
        Bytes; never raises. The result leaves out objects beyond the first 100,000 references and
        memory that an object of an extension module does not report.
    """
    whole = Estimate(value)
    whole.advance(MAX_OBJECTS)
    return whole.size


class Estimate:
    """An `estimate` that is made in steps.

    A container is read in one step, up to the limit, so that it may change while the estimate is paused: items
    removed meanwhile still count, and items added do not.

    Args:
        value: anything.

    Attributes:
        size: bytes found so far.
    """

    __slots__ = ("_looked", "_pending", "_seen", "_slots", "size")

    def __init__(self, value: object) -> None:
        self.size = 0
        self._looked = 0
        self._pending = [value]
        # Keep the objects and not only their ids, because an id may be reused once its object is gone.
        self._seen: dict[int, object] = {}
        self._slots: dict[int, list[MemberDescriptorType]] = {}

    def advance(self, references: int) -> int:
        """Follow references.

        Args:
            references: most references to follow.

        Returns:
            How many of them were not needed; more than 0 when the estimate is complete.
        """
        pending, seen = self._pending, self._seen
        while references > 0 and pending:
            references -= 1
            self._looked += 1
            item = pending.pop()
            # By identity: equality of application objects may run any code, and many objects have no hash.
            if id(item) in seen:
                continue
            seen[id(item)] = item
            self.size += _size(item)
            if id(type(item)) not in LEAVES:
                # Pending references will be followed too; the total must not exceed the limit.
                room = MAX_OBJECTS - self._looked - len(pending)
                if room > 0:
                    pending += self._children(item, type(item), room)
        # At least 1 when nothing is left, so that a caller sees the end even if the last reference used up its budget.
        return 0 if pending else max(references, 1)

    def _children(self, item: object, kind: type, room: int) -> list[object]:
        # `type` and `issubclass` throughout: `isinstance` would ask the object, and it may raise.
        found: list[object] = []
        if issubclass(kind, type | ModuleType):
            return found
        with _SuppressErrors():
            for container, items in CONTAINERS.items():
                if issubclass(kind, container):
                    found += islice(items(item), room)
        if id(kind) not in self._slots:
            # The class lives as long as the objects in `_seen`, so its id stays valid.
            self._slots[id(kind)] = _slots(kind)
        for slot in self._slots[id(kind)]:
            with _SuppressErrors():
                # Slots and the dict are read past the object's own attribute access, which may be code of the
                # application.
                found.append(slot.__get__(item, kind))
        with _SuppressErrors():
            found.append(object.__getattribute__(item, "__dict__"))
        return found[:room]


class _SuppressErrors:
    """Suppresses errors of application code; ``KeyboardInterrupt`` and ``SystemExit`` pass."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit))


def _slots(kind: type) -> list[MemberDescriptorType]:
    # Only from classes that declare slots: a function also has such members, and they lead to everything in its module.
    declaring = (vars(base) for base in kind.__mro__ if "__slots__" in vars(base))
    return [slot for names in declaring for slot in names.values() if type(slot) is MemberDescriptorType]


def _size(value: object) -> int:
    try:
        return sys.getsizeof(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        # The method of `object` runs no code of the application.
        return object.__sizeof__(value)
