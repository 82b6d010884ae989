"""The registry: names, rooms, slices, and a plain model beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from wsstab.core.registry import Registry
from wsstab.errors import ConnectionNotFoundError


class Socket:
    """A member and nothing else."""

    def __init__(self, id: str, num_shards: int = 4) -> None:
        self.id = id
        self.client_id = id
        self.shard = Registry[Socket](num_shards).shard_of(id)
        self.rooms_joined: set[str] | None = None
        self.sender = None

    def __repr__(self) -> str:
        return self.id


def registry_of(*ids: str, num_shards: int = 4) -> tuple[Registry[Socket], list[Socket]]:
    """A registry, and the sockets in it."""
    registry: Registry[Socket] = Registry(num_shards)
    sockets = [Socket(id, num_shards) for id in ids]
    for socket in sockets:
        registry.add(socket)
    return registry, sockets


def by_id(registry: Registry[Socket], connection_id: str) -> Socket | None:
    """The member with this connection id."""
    return next((socket for socket in registry if socket.id == connection_id), None)


def test_a_registry_needs_a_shard() -> None:
    """No shards is a mistake of the configuration and named as such."""
    with pytest.raises(ValueError, match="num_shards=0"):
        Registry(0)


def test_the_shard_of_a_name_is_the_same_in_every_process() -> None:
    """The numbers are those of CRC-32, which no salt changes."""
    registry: Registry[Socket] = Registry(16)
    assert [registry.shard_of(name) for name in ("ann", "bob", "żółw", "")] == [3, 0, 14, 0]


def test_a_name_with_a_lone_surrogate_has_a_shard() -> None:
    """A client id from JSON may hold what UTF-8 refuses."""
    registry, _ = registry_of("\ud800")
    assert registry.find("\ud800") is by_id(registry, "\ud800")


def test_a_new_member_goes_by_its_connection_id() -> None:
    """Until it is identified, both ids find it."""
    registry, [socket] = registry_of("a")
    assert registry.find("a") is by_id(registry, "a") is socket
    assert socket in registry
    assert len(registry) == 1
    assert list(registry) == [socket]


def test_a_member_may_be_added_under_a_client_id_of_its_own() -> None:
    """A socket that was named before it was added is found by both names."""
    registry: Registry[Socket] = Registry(1000)
    socket = Socket("a", 1000)
    socket.client_id = "ann"
    registry.add(socket)
    assert registry.shard_of("a") != registry.shard_of("ann")
    assert registry.find("ann") is by_id(registry, "a") is socket
    assert registry.find("a") is None


def test_a_member_enters_the_rooms_that_it_waited_for_when_it_is_added() -> None:
    """And is in none before."""
    registry: Registry[Socket] = Registry(4)
    socket = Socket("a")
    socket.rooms_joined = {"lobby", "attic"}
    assert registry.room_names() == []
    registry.add(socket)
    assert sorted(registry.room_names()) == ["attic", "lobby"]
    assert socket.rooms_joined == {"lobby", "attic"}
    assert registry.remove(socket)
    assert registry.room_count == 0


def test_adding_twice_changes_nothing() -> None:
    """Neither the count nor the rooms suffer."""
    registry, [socket] = registry_of("a")
    registry.join(socket, "lobby")
    registry.add(socket)
    assert len(registry) == 1
    assert registry.find_all("a") == (socket,)
    assert socket.rooms_joined == {"lobby"}


def test_a_connection_id_cannot_be_taken_twice() -> None:
    """The second member is refused and leaves no trace."""
    registry, [socket] = registry_of("a")
    with pytest.raises(ValueError, match="'a' is taken"):
        registry.add(Socket("a"))
    assert registry.find_all("a") == (socket,)


def test_another_object_with_the_same_id_is_not_in() -> None:
    """Members are who they are, not what they are called."""
    registry, _ = registry_of("a")
    assert Socket("a") not in registry
    assert not registry.remove(Socket("a"))
    assert len(registry) == 1


def test_identify_moves_a_member() -> None:
    """The old name finds nobody, the new one finds it, and the connection id still does."""
    registry, [socket] = registry_of("a")
    registry.identify(socket, "ann")
    assert socket.client_id == "ann"
    assert registry.find("a") is None
    assert registry.find_all("a") == ()
    assert registry.find("ann") is by_id(registry, "a") is socket


def test_identify_with_the_same_name_keeps_the_order() -> None:
    """Who says its own name again does not become the newest."""
    registry, [first, second] = registry_of("a", "b")
    registry.identify(first, "ann")
    registry.identify(second, "ann")
    registry.identify(first, "ann")
    assert registry.find_all("ann") == (first, second)


def test_identify_refuses_a_member_that_has_left() -> None:
    """A late ``connect()`` must not bring back a socket that is gone."""
    registry, [socket] = registry_of("a")
    registry.remove(socket)
    with pytest.raises(ConnectionNotFoundError) as caught:
        registry.identify(socket, "ann")
    assert caught.value.client_id == "a"
    assert registry.client_ids() == []


def test_the_newest_of_several_holders_is_found() -> None:
    """All are listed in order of arrival, and each that leaves hands over to the newest that stays."""
    registry, [first, second, third] = registry_of("a", "b", "c")
    for socket in (first, second, third):
        registry.identify(socket, "ann")
    assert registry.find("ann") is third
    assert registry.find_all("ann") == (first, second, third)
    registry.remove(second)
    assert registry.find("ann") is third
    registry.remove(third)
    assert registry.find("ann") is first
    assert registry.find_all("ann") == (first,)
    registry.remove(first)
    assert registry.find("ann") is None


def test_remove_forgets_everything() -> None:
    """Names, rooms and the audience are left, once; a second call is harmless."""
    registry, [socket, other] = registry_of("a", "b")
    registry.join(socket, "lobby")
    registry.join(socket, "attic")
    registry.join(other, "attic")
    registry.listen(socket)
    assert registry.remove(socket)
    assert not registry.remove(socket)
    assert socket.rooms_joined is None
    assert set(registry.audience) == set()
    assert registry.room_names() == ["attic"]
    assert by_id(registry, "a") is registry.find("a") is None
    assert list(registry) == [other]


def test_client_ids_are_listed_once_by_shard_and_arrival() -> None:
    """Several sockets of one name count as one name, at the place of the first."""
    registry, sockets = registry_of("a", "b", "c", "d", num_shards=1)
    for socket in (sockets[0], sockets[2]):
        registry.identify(socket, "ann")
    assert registry.client_ids() == ["b", "d", "ann"]
    registry, sockets = registry_of(*map(str, range(50)), num_shards=3)
    assert registry.client_ids() == sorted(map(str, range(50)), key=lambda name: (registry.shard_of(name), int(name)))


def test_join_and_leave_tell_whether_they_changed_anything() -> None:
    """The second time of each is ``False``."""
    registry, [socket] = registry_of("a")
    assert registry.join(socket, "lobby")
    assert not registry.join(socket, "lobby")
    assert registry.join(socket, "attic")
    assert socket.rooms_joined == {"lobby", "attic"}
    assert registry.leave(socket, "lobby")
    assert not registry.leave(socket, "lobby")
    assert registry.leave(socket, "attic")
    assert not registry.leave(socket, "attic")
    assert socket.rooms_joined is None


def test_who_is_not_in_the_registry_joins_nothing() -> None:
    """Neither a room nor the audience keeps a socket that has left."""
    registry, [socket] = registry_of("a")
    registry.remove(socket)
    registry.listen(socket)
    assert not registry.join(socket, "lobby")
    assert not registry.leave(socket, "lobby")
    assert set(registry.audience) == set()
    assert registry.room_count == 0


def test_rooms_exist_while_they_have_members() -> None:
    """The set of members is live, and an empty room is gone."""
    registry, [first, second] = registry_of("a", "b")
    assert not registry.members("lobby")
    registry.join(first, "lobby")
    members = registry.members("lobby")
    registry.join(second, "lobby")
    assert set(members) == {first, second}
    assert registry.room_names() == ["lobby"]
    assert registry.room_count == 1
    registry.leave(first, "lobby")
    registry.leave(second, "lobby")
    assert not members
    assert registry.room_count == 0


def test_the_audience_is_live() -> None:
    """Who listens and who goes shows at once, and both may be repeated."""
    registry, [first, second] = registry_of("a", "b")
    audience = registry.audience
    registry.listen(first)
    registry.listen(first)
    registry.listen(second)
    assert set(audience) == {first, second}
    registry.remove(first)
    registry.remove(first)
    assert set(audience) == {second}


@pytest.mark.parametrize("size", [1, 7, 50, 99])
def test_slices_cover_everybody_once(size: int) -> None:
    """Every slice but the last is full, also across shards."""
    registry, sockets = registry_of(*map(str, range(50)), num_shards=16)
    slices = list(registry.slices(size))
    assert sorted((socket for batch in slices for socket in batch), key=sockets.index) == sockets
    assert all(len(batch) == size for batch in slices[:-1])
    assert 0 < len(slices[-1]) <= size


def test_slices_of_nobody_are_none() -> None:
    """An empty registry yields no empty list."""
    registry, _ = registry_of()
    assert list(registry.slices(10)) == []


def test_slices_need_a_size() -> None:
    """A size of 0 is refused at the call, not at the first step."""
    registry, _ = registry_of("a")
    with pytest.raises(ValueError, match="size=0"):
        registry.slices(0)


def test_a_member_that_left_before_its_slice_is_not_listed() -> None:
    """A walk that yields to others never names the dead, even those of a shard it has copied already."""
    registry, sockets = registry_of("a", "b", "c", "d", num_shards=1)
    walk = registry.slices(2)
    assert next(walk) == sockets[:2]
    registry.remove(sockets[2])
    assert next(walk) == [sockets[3]]
    assert next(walk, None) is None


def test_a_member_identified_during_a_walk_is_listed_once() -> None:
    """A name in another shard neither hides nor repeats it."""
    registry, sockets = registry_of(*map(str, range(40)), num_shards=8)
    listed: list[Socket] = []
    for number, batch in enumerate(registry.slices(1)):
        listed += batch
        registry.identify(sockets[number], f"name {number}")
    assert sorted(listed, key=sockets.index) == sockets


def test_members_may_leave_while_they_are_iterated() -> None:
    """Iterating is over copies, one shard at a time."""
    registry, _ = registry_of(*map(str, range(40)), num_shards=3)
    for socket in registry:
        registry.remove(socket)
    assert len(registry) == 0
    assert registry.client_ids() == []


class RegistryBesideModel(RuleBasedStateMachine):
    """The registry against lists and dicts that are searched from end to end."""

    sockets: Bundle[Socket] = Bundle("sockets")
    names = st.sampled_from(["ann", "bob", "cy", "\ud800"])
    room_choices = st.sampled_from(["lobby", "attic"])

    def __init__(self) -> None:
        super().__init__()
        self.registry: Registry[Socket] = Registry(3)
        self.next_id = 0
        self.arrivals: list[tuple[str, Socket]] = []
        self.rooms: dict[str, set[Socket]] = {"lobby": set(), "attic": set()}
        self.audience: set[Socket] = set()
        self.walk: Iterator[list[Socket]] = iter(())
        self.walked: list[Socket] = []

    def present(self) -> list[Socket]:
        """Everybody who is in, by the model."""
        return [socket for _, socket in self.arrivals]

    @rule(target=sockets)
    def add(self) -> Socket:
        """A new socket arrives."""
        socket = Socket(f"#{self.next_id}", 3)
        self.next_id += 1
        self.registry.add(socket)
        self.arrivals.append((socket.id, socket))
        return socket

    @rule(socket=consumes(sockets), again=st.booleans())
    def remove(self, socket: Socket, again: bool) -> None:
        """A socket leaves, perhaps twice."""
        assert self.registry.remove(socket)
        assert not (again and self.registry.remove(socket))
        self.arrivals = [arrival for arrival in self.arrivals if arrival[1] is not socket]
        for members in [*self.rooms.values(), self.audience]:
            members.discard(socket)

    @rule(socket=sockets, name=names)
    def identify(self, socket: Socket, name: str) -> None:
        """A socket gets a name."""
        self.registry.identify(socket, name)
        if (name, socket) not in self.arrivals:
            self.arrivals = [arrival for arrival in self.arrivals if arrival[1] is not socket]
            self.arrivals.append((name, socket))

    @rule(socket=sockets, room=room_choices)
    def join(self, socket: Socket, room: str) -> None:
        """A socket joins a room."""
        assert self.registry.join(socket, room) == (socket not in self.rooms[room])
        self.rooms[room].add(socket)

    @rule(socket=sockets, room=room_choices)
    def leave(self, socket: Socket, room: str) -> None:
        """A socket leaves a room."""
        assert self.registry.leave(socket, room) == (socket in self.rooms[room])
        self.rooms[room].discard(socket)

    @rule(socket=sockets)
    def listen(self, socket: Socket) -> None:
        """A socket listens."""
        self.registry.listen(socket)
        self.audience.add(socket)

    @rule(size=st.integers(1, 4))
    def start_walk(self, size: int) -> None:
        """A walk begins; others go on meanwhile."""
        self.walk = self.registry.slices(size)
        self.walked = []

    @rule()
    def step(self) -> None:
        """The walk takes one step and names only the living, each once."""
        batch = next(self.walk, [])
        assert set(batch) <= set(self.present())
        self.walked += batch
        assert len(set(self.walked)) == len(self.walked)

    @invariant()
    def names_agree(self) -> None:
        """Every question about names has the model's answer."""
        present = self.present()
        assert len(self.registry) == len(present)
        assert set(self.registry) == set(present)
        assert sorted(self.registry.client_ids()) == sorted({name for name, _ in self.arrivals})
        for name in {name for name, _ in self.arrivals} | {"nobody"}:
            holders = tuple(socket for arrival, socket in self.arrivals if arrival == name)
            assert self.registry.find_all(name) == holders
            assert self.registry.find(name) is (holders[-1] if holders else None)
        for name, socket in self.arrivals:
            assert socket.client_id == name
            assert socket in self.registry
            assert by_id(self.registry, socket.id) is socket

    @invariant()
    def rooms_agree(self) -> None:
        """Rooms, the rooms of each, and the audience are the model's."""
        occupied = {room: members for room, members in self.rooms.items() if members}
        assert set(self.registry.room_names()) == set(occupied)
        assert self.registry.room_count == len(occupied)
        assert set(self.registry.audience) == self.audience
        for room in ("lobby", "attic"):
            assert set(self.registry.members(room)) == self.rooms[room]
        for socket in self.present():
            assert (socket.rooms_joined or set()) == {room for room, members in occupied.items() if socket in members}
            assert socket.rooms_joined != set()


TestRegistryBesideModel = RegistryBesideModel.TestCase
TestRegistryBesideModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
