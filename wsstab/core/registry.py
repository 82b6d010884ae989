"""Registry: who is connected, under which client id, in which rooms.

Members are looked up in constant time and walked shard by shard in bounded slices, so that no walk
over 50,000 connections holds the event loop. It compares members by identity, decides nothing, and
refuses nothing but a connection id that is taken.

There are no locks: one event loop needs none. A test client may use one thread for each socket;
every step is therefore a single operation of a dict or a set, and walks go over copies.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from typing import Any, Generic, Protocol, TypeVar

from ..errors import ConnectionNotFoundError

__all__ = ["Crowd", "Member", "Registry"]


class Member(Protocol):
    """What the registry asks of a connection; ``client_id`` and ``rooms_joined`` are written by the registry alone."""

    shard: int
    """That of its id, by `Registry.shard_of`; never changes."""
    client_id: str
    """The name it goes by; equal to ``id`` until `Registry.identify` gives another."""
    rooms_joined: set[str] | None
    """The rooms it is in; ``None`` rather than an empty set, of which 50,000 idle ones would take 10 MB.

    Until it is added, those that it is to enter then; whoever adds it may write them.
    """
    sender: Any
    """Where its messages go."""

    @property
    def id(self) -> str:
        """Connection id, unique in the process."""
        ...


M = TypeVar("M", bound=Member)


class Crowd(dict[M, Any]):
    """A set of members in the order in which they came, each with its sender.

    A set's own order is one of addresses at random, and a processor foresees only those that grow:
    a broadcast over 1,000 sockets takes a tenth longer by it. The senders stand beside the members
    because a broadcast needs nothing else: each object more that it looks at has to come from memory.
    """

    __slots__ = ()

    def add(self, member: M) -> None:
        """Put it in; one that is in already stays in its place."""
        self[member] = member.sender

    def discard(self, member: M) -> None:
        """Take it out, if it is in."""
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
        """Take ``member`` from under its client id; the newest of those who stay holds it then."""
        client_id = member.client_id
        crowd = self.crowds.get(client_id)
        if crowd is None:
            del self.holders[client_id]
            return
        del crowd[member]
        self.holders[client_id] = next(reversed(crowd))
        if len(crowd) == 1:
            del self.crowds[client_id]


class Registry(Generic[M]):
    """All connections of a manager.

    A connection is walked in the shard of its connection id, which never changes, so that a walk
    neither misses nor repeats one that is identified meanwhile. A client id is kept in the shard of
    the client id.

    Args:
        num_shards: into how many parts the tables are split, at least 1.

    Attributes:
        audience: those that get broadcasts without a room. It is live: copy it before a walk that yields.

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
        """Take in ``member`` under its ``client_id`` and put it into ``rooms_joined``; one that is in stays as it is.

        Raises:
            ValueError: another member has this connection id.
        """
        members = self._shards[member.shard].members
        if member.id in members:
            if members[member.id] is not member:
                raise ValueError(f"connection id {member.id!r} is taken")
            return
        members[member.id] = member
        rooms, member.rooms_joined = member.rooms_joined, None
        self._shard_of_client(member).name(member)
        if rooms is not None:
            for room in rooms:
                self.join(member, room)

    def remove(self, member: M) -> bool:
        """Forget ``member``: its names, its rooms, its place in the audience.

        Returns:
            Whether it was in.
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
        """Give ``member`` another client id, as its newest holder; the id it has already changes nothing.

        Raises:
            ConnectionNotFoundError: ``member`` is not in (any more).
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
        """Every client id once, by shard, and in a shard by arrival of its first holder."""
        return [client_id for shard in self._shards for client_id in list(shard.holders)]

    def slices(self, size: int) -> Iterator[list[M]]:
        """Walk over all members in lists of ``size``, the last one shorter, while members come and go.

        A shard is copied when the walk reaches it. A member is listed at most once; one that left
        before its list was made is not listed; one that came after may be or not.

        Args:
            size: members in a list, at least 1.

        Raises:
            ValueError: ``size`` is under 1.
        """
        if size < 1:
            raise ValueError(f"size={size}: must be at least 1")
        return self._walk(size)

    def join(self, member: M, room: str) -> bool:
        """Put ``member`` into ``room``.

        Returns:
            Whether that changed anything: ``False`` when it was there already, or is not in the registry.
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
        """Who is in ``room``: live as long as the room exists."""
        return self._rooms.get(room, ())

    def room_names(self) -> list[str]:
        """The rooms that have members, in the order in which they came to be."""
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
        # Without a client id of its own it goes by its connection id, whose shard it knows.
        return self._shards[member.shard] if member.client_id == member.id else self._shard(member.client_id)

    def _walk(self, size: int) -> Iterator[list[M]]:
        # One list goes on in the next shard: otherwise a drain of 30 connections in 16 shards would take 16 rounds.
        batch: list[M] = []
        for shard in self._shards:
            for connection_id in list(shard.members):
                member = shard.members.get(connection_id)
                if member is None:
                    continue
                batch.append(member)
                if len(batch) == size:
                    yield batch
                    batch = []
        if batch:
            yield batch
