"""The registry: names, rooms and slices, by examples and against a plain model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from wsstab.core.registry import Registry
from wsstab.errors import ConnectionNotFoundError


class Socket:
    """The least that the registry asks of a member."""

    def __init__(self, id: str, num_shards: int = 4) -> None:
        self.id = id
        self.client_id = id
        self.shard = Registry[Socket](num_shards).shard_of(id)
        self.rooms_joined: set[str] | None = None
        self.sender = None

    def __repr__(self) -> str:
        return self.id


def registry_of(*ids: str, num_shards: int = 4) -> tuple[Registry[Socket], list[Socket]]:
    """A registry, and the members in it."""
    registry: Registry[Socket] = Registry(num_shards)
    sockets = [Socket(id, num_shards) for id in ids]
    for socket in sockets:
        registry.add(socket)
    return registry, sockets


def by_id(registry: Registry[Socket], connection_id: str) -> Socket | None:
    """The member with this connection id."""
    return next((socket for socket in registry if socket.id == connection_id), None)


def test_a_registry_needs_at_least_one_shard() -> None:
    """The error names the argument."""
    with pytest.raises(ValueError, match="num_shards=0"):
        Registry(0)


def test_the_shard_of_a_name_is_the_same_in_every_process() -> None:
    """It comes from CRC-32, which is not salted per process as ``hash`` is."""
    registry: Registry[Socket] = Registry(16)
    assert [registry.shard_of(name) for name in ("ann", "bob", "żółw", "")] == [3, 0, 14, 0]


def test_a_name_with_a_lone_surrogate_has_a_shard() -> None:
    """A client id from JSON may contain what UTF-8 cannot encode."""
    registry, _ = registry_of("\ud800")
    assert registry.find("\ud800") is by_id(registry, "\ud800")


def test_the_connection_id_is_the_client_id_of_a_new_member() -> None:
    """It stays so until the member is identified."""
    registry, [socket] = registry_of("a")
    assert registry.find("a") is by_id(registry, "a") is socket
    assert socket in registry
    assert len(registry) == 1
    assert list(registry) == [socket]


def test_a_member_may_be_added_with_a_client_id_of_its_own() -> None:
    """It is then found by that name, and not by its connection id."""
    registry: Registry[Socket] = Registry(1000)
    socket = Socket("a", 1000)
    socket.client_id = "ann"
    registry.add(socket)
    assert registry.shard_of("a") != registry.shard_of("ann")
    assert registry.find("ann") is by_id(registry, "a") is socket
    assert registry.find("a") is None


def test_a_member_enters_the_rooms_it_waits_for_when_it_is_added() -> None:
    """Before that, it is in no room."""
    registry: Registry[Socket] = Registry(4)
    socket = Socket("a")
    socket.rooms_joined = {"lobby", "attic"}
    assert registry.room_names() == []
    registry.add(socket)
    assert sorted(registry.room_names()) == ["attic", "lobby"]
    assert socket.rooms_joined == {"lobby", "attic"}
    assert registry.remove(socket)
    assert registry.room_count == 0


def test_adding_a_member_twice_changes_nothing() -> None:
    """The count and the rooms stay the same."""
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


def test_another_object_with_the_same_id_is_not_a_member() -> None:
    """Members are compared by identity, not by name."""
    registry, _ = registry_of("a")
    assert Socket("a") not in registry
    assert not registry.remove(Socket("a"))
    assert len(registry) == 1


def test_identify_gives_a_member_a_new_name() -> None:
    """The old name finds nobody; the connection id stays the same."""
    registry, [socket] = registry_of("a")
    registry.identify(socket, "ann")
    assert socket.client_id == "ann"
    assert registry.find("a") is None
    assert registry.find_all("a") == ()
    assert registry.find("ann") is by_id(registry, "a") is socket


def test_identify_with_the_same_name_keeps_the_order() -> None:
    """A member that takes its own name again does not become the newest holder."""
    registry, [first, second] = registry_of("a", "b")
    registry.identify(first, "ann")
    registry.identify(second, "ann")
    registry.identify(first, "ann")
    assert registry.find_all("ann") == (first, second)


def test_identify_refuses_a_member_that_has_left() -> None:
    """A late ``connect()`` must not bring back a closed connection."""
    registry, [socket] = registry_of("a")
    registry.remove(socket)
    with pytest.raises(ConnectionNotFoundError) as caught:
        registry.identify(socket, "ann")
    assert caught.value.client_id == "a"
    assert registry.client_ids() == []


def test_find_returns_the_newest_of_several_holders_of_a_name() -> None:
    """All are listed in order of arrival; when one leaves, the newest of the others is found."""
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


def test_remove_forgets_the_names_rooms_and_audience_of_a_member() -> None:
    """A second call has no effect."""
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
    """Several members with one name are listed once, at the place of the first."""
    registry, sockets = registry_of("a", "b", "c", "d", num_shards=1)
    for socket in (sockets[0], sockets[2]):
        registry.identify(socket, "ann")
    assert registry.client_ids() == ["b", "d", "ann"]
    registry, sockets = registry_of(*map(str, range(50)), num_shards=3)
    assert registry.client_ids() == sorted(map(str, range(50)), key=lambda name: (registry.shard_of(name), int(name)))


def test_join_and_leave_return_whether_they_changed_anything() -> None:
    """A repeated call returns ``False``."""
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


def test_a_member_that_has_left_joins_no_room_and_no_audience() -> None:
    """Neither may keep a closed connection alive."""
    registry, [socket] = registry_of("a")
    registry.remove(socket)
    registry.listen(socket)
    assert not registry.join(socket, "lobby")
    assert not registry.leave(socket, "lobby")
    assert set(registry.audience) == set()
    assert registry.room_count == 0


def test_a_room_exists_while_it_has_members() -> None:
    """The set of members is live, and an empty room is removed."""
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


def test_the_audience_is_a_live_view() -> None:
    """Members that listen or leave show at once, and both calls may be repeated."""
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
def test_slices_cover_every_member_once(size: int) -> None:
    """Every slice but the last is full, even across shards."""
    registry, sockets = registry_of(*map(str, range(50)), num_shards=16)
    slices = list(registry.slices(size))
    assert sorted((socket for batch in slices for socket in batch), key=sockets.index) == sockets
    assert all(len(batch) == size for batch in slices[:-1])
    assert 0 < len(slices[-1]) <= size


def test_an_empty_registry_yields_no_slices() -> None:
    """Not even an empty list is yielded."""
    registry, _ = registry_of()
    assert list(registry.slices(10)) == []


def test_slices_of_size_zero_are_refused() -> None:
    """The call itself raises the error, not the first step."""
    registry, _ = registry_of("a")
    with pytest.raises(ValueError, match="size=0"):
        registry.slices(0)


def test_a_member_that_leaves_before_its_slice_is_not_listed() -> None:
    """It is left out even if the walk has already copied its shard."""
    registry, sockets = registry_of("a", "b", "c", "d", num_shards=1)
    walk = registry.slices(2)
    assert next(walk) == sockets[:2]
    registry.remove(sockets[2])
    assert next(walk) == [sockets[3]]
    assert next(walk, None) is None


def test_a_member_identified_during_a_walk_is_listed_once() -> None:
    """A new name in another shard neither hides nor repeats it."""
    registry, sockets = registry_of(*map(str, range(40)), num_shards=8)
    listed: list[Socket] = []
    for number, batch in enumerate(registry.slices(1)):
        listed += batch
        registry.identify(sockets[number], f"name {number}")
    assert sorted(listed, key=sockets.index) == sockets


def test_members_may_leave_during_an_iteration() -> None:
    """The iteration works on copies, one shard at a time."""
    registry, _ = registry_of(*map(str, range(40)), num_shards=3)
    for socket in registry:
        registry.remove(socket)
    assert len(registry) == 0
    assert registry.client_ids() == []


class RegistryBesideModel(RuleBasedStateMachine):
    """The registry agrees with lists and dicts that are searched from end to end."""

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
        """All current members, by the model."""
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
        """A socket leaves, and perhaps leaves again."""
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
        """A socket joins the audience."""
        self.registry.listen(socket)
        self.audience.add(socket)

    @rule(size=st.integers(1, 4))
    def start_walk(self, size: int) -> None:
        """A walk begins; other rules run in between its steps."""
        self.walk = self.registry.slices(size)
        self.walked = []

    @rule()
    def step(self) -> None:
        """The walk takes one step; it lists only current members, and each of them once."""
        batch = next(self.walk, [])
        assert set(batch) <= set(self.present())
        self.walked += batch
        assert len(set(self.walked)) == len(self.walked)

    @invariant()
    def names_agree(self) -> None:
        """Every question about names gets the answer of the model."""
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
        """The rooms, the rooms of each member and the audience are those of the model."""
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
