"""Registry: all connections, with their client ids and rooms.

Members are looked up in constant time and walked shard by shard in bounded slices, so that no walk
over 50,000 connections blocks the event loop. The registry compares members by identity, makes no
decisions, and refuses only a connection id that is taken.

It has no locks, because one event loop needs none. A test client may use one thread for each socket;
every step is therefore a single operation of a dict or a set, and walks go over copies.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from typing import Any, Generic, Protocol, TypeVar

from ..errors import ConnectionNotFoundError

__all__ = ["Crowd", "Member", "Registry"]


class Member(Protocol):
    """What the registry requires of a connection; only the registry writes ``client_id`` and ``rooms_joined``."""

    shard: int
    """Shard of the connection id, by `Registry.shard_of`; never changes."""
    client_id: str
    """Client id; equal to ``id`` until `Registry.identify` assigns another."""
    rooms_joined: set[str] | None
    """The rooms it is in; ``None`` rather than an empty set, because 50,000 empty sets take 10 MB.

    Before the member is added, the rooms to join on `Registry.add`; the caller may set them.
    """
    sender: Any
    """The object that sends messages to it."""

    @property
    def id(self) -> str:
        """Connection id, unique in the process."""
        ...


M = TypeVar("M", bound=Member)


class Crowd(dict[M, Any]):
    """An insertion-ordered set of members, each with its sender.

    A plain set iterates over addresses in random order, and a processor prefetches only ascending
    ones: a broadcast over 1,000 sockets then takes a tenth longer. Senders are stored beside the members
    because a broadcast needs nothing else, and each further object has to be fetched from memory.
    """

    __slots__ = ()

    def add(self, member: M) -> None:
        """Add a member; one that is present already keeps its place."""
        self[member] = member.sender

    def discard(self, member: M) -> None:
        """Remove a member, if present."""
        self.pop(member, None)


class _Shard(Generic[M]):
    """One part of the registry: some connection ids, and some client ids."""

    __slots__ = ("crowds", "holders", "members")

    def __init__(self) -> None:
        self.members: dict[str, M] = {}
        self.holders: dict[str, M] = {}
        # Almost every client id has one holder, so only the others pay for a container of their own.
        # A dict is a set in order of arrival that also lets one of 10,000 holders go in constant time.
        self.crowds: dict[str, dict[M, None]] = {}

    def name(self, member: M) -> None:
        """Put ``member`` under its client id, as the newest holder."""
        older = self.holders.get(member.client_id)
        if older is not None:
            self.crowds.setdefault(member.client_id, {older: None})[member] = None
        self.holders[member.client_id] = member

    def unname(self, member: M) -> None:
        """Remove ``member`` from its client id, which the newest remaining member then holds."""
        client_id = member.client_id
        crowd = self.crowds.get(client_id)
        if crowd is None:
            del self.holders[client_id]
            return
        del crowd[member]
        # A dict keeps the order of insertion, so its last key is the newest holder.
        self.holders[client_id] = next(reversed(crowd))
        if len(crowd) == 1:
            del self.crowds[client_id]


class Registry(Generic[M]):
    """All connections of a manager.

    A connection is kept in the shard of its connection id, which never changes, so that a walk neither
    misses nor repeats a connection that is identified meanwhile. A client id is kept in its own shard.

    Args:
        num_shards: number of parts into which the tables are split, at least 1.

    Attributes:
        audience: members that get broadcasts without a room. It is live: copy it before a walk that yields.

    Raises:
        ValueError: ``num_shards`` is under 1.
    """

    def __init__(self, num_shards: int) -> None:
        if num_shards < 1:
            raise ValueError(f"num_shards={num_shards}: must be at least 1")
        self._shards: tuple[_Shard[M], ...] = tuple(_Shard() for _ in range(num_shards))
        self._rooms: dict[str, Crowd[M]] = {}
        self.audience: Crowd[M] = Crowd()

    def shard_of(self, name: str) -> int:
        """The shard of a client id or connection id, from 0.

        It is the CRC-32 of the name's UTF-8, the same in every process: Python's own ``hash`` is
        salted anew in each.
        """
        # Lone surrogates are legal in a str and a client may send them ("\ud800" is valid JSON).
        return zlib.crc32(name.encode("utf-8", "surrogatepass")) % len(self._shards)

    def add(self, member: M) -> None:
        """Add ``member`` under its ``client_id`` and to its ``rooms_joined``; a present member is left unchanged.

        Raises:
            ValueError: another member has this connection id.
        """
        members = self._shards[member.shard].members
        if member.id in members:
            if members[member.id] is not member:
                raise ValueError(f"connection id {member.id!r} is taken")
            return
        members[member.id] = member
        # Cleared first, because `join` ignores a room that the member seems to be in.
        rooms, member.rooms_joined = member.rooms_joined, None
        self._shard_of_client(member).name(member)
        if rooms is not None:
            for room in rooms:
                self.join(member, room)

    def remove(self, member: M) -> bool:
        """Remove ``member`` from its ids, its rooms and the audience.

        Returns:
            Whether it was in the registry.
        """
        members = self._shards[member.shard].members
        if members.get(member.id) is not member:
            return False
        self.audience.discard(member)
        for room in tuple(member.rooms_joined or ()):
            self.leave(member, room)
        self._shard_of_client(member).unname(member)
        del members[member.id]
        return True

    def identify(self, member: M, client_id: str) -> None:
        """Give ``member`` another client id, as its newest holder; its present client id changes nothing.

        Raises:
            ConnectionNotFoundError: ``member`` is not, or no longer, in the registry.
        """
        if member not in self:
            raise ConnectionNotFoundError(member.client_id)
        if member.client_id == client_id:
            return
        self._shard(member.client_id).unname(member)
        member.client_id = client_id
        self._shard(client_id).name(member)

    def find(self, client_id: str) -> M | None:
        """The newest member with this client id."""
        return self._shard(client_id).holders.get(client_id)

    def find_all(self, client_id: str) -> tuple[M, ...]:
        """All members with this client id, in the order in which they took it."""
        shard = self._shard(client_id)
        crowd = shard.crowds.get(client_id)
        if crowd is not None:
            return tuple(crowd)
        holder = shard.holders.get(client_id)
        return () if holder is None else (holder,)

    def client_ids(self) -> list[str]:
        """Every client id once, ordered by shard, then by arrival of the first holder."""
        return [client_id for shard in self._shards for client_id in list(shard.holders)]

    def slices(self, size: int) -> Iterator[list[M]]:
        """Walk over all members in lists of ``size``, the last one shorter, while members come and go.

        A shard is copied when the walk reaches it. A member is listed at most once. A member that left
        before its list was made is not listed; a member that was added later may be.

        Args:
            size: members in a list, at least 1.

        Raises:
            ValueError: ``size`` is under 1.
        """
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        # A generator of its own: the size is checked at the call and not at the first list.
        return self._walk(size)

    def join(self, member: M, room: str) -> bool:
        """Put ``member`` into ``room``.

        Returns:
            Whether that changed anything: ``False`` if it was in the room already or is not in the registry.
        """
        if member not in self or (member.rooms_joined is not None and room in member.rooms_joined):
            return False
        if member.rooms_joined is None:
            member.rooms_joined = set()
        member.rooms_joined.add(room)
        self._rooms.setdefault(room, Crowd()).add(member)
        return True

    def leave(self, member: M, room: str) -> bool:
        """Take ``member`` out of ``room``; a room without members vanishes.

        Returns:
            Whether it was there.
        """
        if member not in self or member.rooms_joined is None or room not in member.rooms_joined:
            return False
        member.rooms_joined.remove(room)
        member.rooms_joined = member.rooms_joined or None
        self._rooms[room].discard(member)
        if not self._rooms[room]:
            del self._rooms[room]
        return True

    def members(self, room: str) -> Collection[M]:
        """The members of ``room``; the collection is live as long as the room exists."""
        return self._rooms.get(room, ())

    def room_names(self) -> list[str]:
        """The rooms that have members, in the order in which they were created."""
        return list(self._rooms)

    @property
    def room_count(self) -> int:
        """How many rooms have members."""
        return len(self._rooms)

    def listen(self, member: M) -> None:
        """Put ``member`` into the audience; one that is not in the registry is ignored."""
        if member in self:
            self.audience.add(member)

    def __contains__(self, member: M) -> bool:
        return self._shards[member.shard].members.get(member.id) is member

    def __len__(self) -> int:
        return sum(len(shard.members) for shard in self._shards)

    def __iter__(self) -> Iterator[M]:
        for shard in self._shards:
            yield from list(shard.members.values())

    def _shard(self, name: str) -> _Shard[M]:
        return self._shards[self.shard_of(name)]

    def _shard_of_client(self, member: M) -> _Shard[M]:
        # A member without a client id of its own uses its connection id, whose shard is stored.
        return self._shards[member.shard] if member.client_id == member.id else self._shard(member.client_id)

    def _walk(self, size: int) -> Iterator[list[M]]:
        # A list continues in the next shard: otherwise a drain of 30 connections in 16 shards would take 16 rounds.
        batch: list[M] = []
        for shard in self._shards:
            for connection_id in list(shard.members):
                # It may have left since the ids were copied.
                member = shard.members.get(connection_id)
                if member is None:
                    continue
                batch.append(member)
                if len(batch) == size:
                    yield batch
                    batch = []
        if batch:
            yield batch
