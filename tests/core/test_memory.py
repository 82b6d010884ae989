"""The memory ledger: its sums, and victims in the order of the policy; and estimates of the size of values."""

from __future__ import annotations

import sys
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from wsstab.core.memory import MAX_OBJECTS, MAX_STALE, Estimate, Ledger, estimate

TIMES = {"lru": "traffic", "fifo": "opened", "oldest": "identified"}
POLICIES = [*TIMES, "largest"]


class Socket:
    """A member that counts how often its age is asked for."""

    def __init__(self, shard: int = 0, time: float = 0.0) -> None:
        self.shard = shard
        self.memory = -1
        self.traffic = self.opened = self.identified = time
        self.asked = 0

    @property
    def last_traffic(self) -> float:
        """When it last sent or received."""
        self.asked += 1
        return self.traffic


def ledger_of(policy: str, *holdings: int) -> tuple[Ledger[Socket], list[Socket]]:
    """A ledger, and members with the times 0, 1, 2… that hold these numbers of bytes."""
    ledger: Ledger[Socket] = Ledger(policy)
    sockets = [Socket(number % 4, float(number)) for number in range(len(holdings))]
    for socket, held in zip(sockets, holdings, strict=True):
        ledger.add(socket)
        ledger.charge(socket, held)
    return ledger, sockets


class Policy(str, Enum):
    """A policy as a configuration would name it."""

    OLDEST = "oldest"


@pytest.mark.parametrize("policy", ["", "LRU", "random"])
def test_an_unknown_policy_is_refused(policy: str) -> None:
    """The error gives the value and the policies there are."""
    with pytest.raises(ValueError, match=f"policy='{policy}': must be one of 'lru', 'fifo', 'oldest', 'largest'"):
        Ledger(policy)


def test_a_policy_may_be_a_string_enum() -> None:
    """The type that the configuration uses works like the plain string."""
    ledger: Ledger[Socket] = Ledger(Policy.OLDEST)
    assert ledger.victims(1) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_ledger_holds_nothing(policy: str) -> None:
    """It has no bytes, no members and no victims."""
    ledger, _ = ledger_of(policy)
    assert (ledger.total, ledger.count, ledger.victims(1)) == (0, 0, [])


def test_charges_are_summed_per_member_and_in_total() -> None:
    """Charges may be positive or negative."""
    ledger, [first, second] = ledger_of("lru", 10, 20)
    ledger.charge(first, 5)
    ledger.charge(second, -15)
    assert (first.memory, second.memory) == (15, 5)
    assert (ledger.total, ledger.count) == (20, 2)


def test_no_member_holds_less_than_zero_bytes() -> None:
    """Giving back too much counts only down to zero, in the total as well."""
    ledger, [first, second] = ledger_of("lru", 10, 20)
    ledger.charge(first, -1000)
    assert (first.memory, ledger.total) == (0, 20)
    ledger.charge(first, 3)
    assert (first.memory, second.memory, ledger.total) == (3, 20, 23)


def test_adding_a_member_again_keeps_its_bytes() -> None:
    """The second call is ignored."""
    ledger, [socket] = ledger_of("lru", 10)
    ledger.add(socket)
    assert (socket.memory, ledger.total, ledger.count) == (10, 10, 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_removing_a_member_gives_back_its_bytes_once(policy: str) -> None:
    """The call returns the bytes; a second call returns 0."""
    ledger, [first, second] = ledger_of(policy, 10, 20)
    assert ledger.remove(first) == 10
    assert ledger.remove(first) == 0
    assert (first.memory, ledger.total, ledger.count) == (0, 20, 1)
    assert ledger.victims(100) == [second]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_member_that_has_left_is_ignored(policy: str) -> None:
    """A late charge of a closed connection changes no sum."""
    ledger, [socket] = ledger_of(policy, 10)
    ledger.remove(socket)
    ledger.charge(socket, 10)
    ledger.rekey(socket)
    assert (socket.memory, ledger.total, ledger.victims(1)) == (0, 0, [])


@pytest.mark.parametrize("policy", ["lru", "fifo", "oldest"])
def test_the_oldest_members_go_first_and_no_more_than_needed(policy: str) -> None:
    """Victims are the shortest prefix of the order that frees enough; members that hold nothing are skipped."""
    ledger, sockets = ledger_of(policy, 10, 0, 20, 30)
    assert ledger.victims(0) == []
    assert ledger.victims(1) == [sockets[0]]
    assert ledger.victims(10) == [sockets[0]]
    assert ledger.victims(11) == [sockets[0], sockets[2]]
    assert ledger.victims(1000) == [sockets[0], sockets[2], sockets[3]]


@pytest.mark.parametrize("policy", ["lru", "fifo", "oldest"])
def test_each_policy_reads_its_own_time(policy: str) -> None:
    """The other times do not matter, even where they say the opposite."""
    ledger: Ledger[Socket] = Ledger(policy)
    old, young = Socket(time=5.0), Socket(time=5.0)
    for other, time in TIMES.items():
        setattr(old if other == policy else young, time, 1.0)
    for socket in (young, old):
        ledger.add(socket)
        ledger.charge(socket, 1)
    assert ledger.victims(1) == [old]


def test_the_largest_members_go_first() -> None:
    """This holds within one size class too, and when sizes change."""
    ledger, [first, second, third, nothing] = ledger_of("largest", 1000, 1010, 3, 0)
    assert ledger.victims(1) == [second]
    assert ledger.victims(1011) == [second, first]
    ledger.charge(third, 5000)
    ledger.charge(second, -1010)
    ledger.rekey(first)
    assert ledger.victims(10_000) == [third, first]
    assert nothing not in ledger.victims(10_000)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_spared_member_is_never_a_victim(policy: str) -> None:
    """It is skipped even if it is the first or the only candidate, and keeps its place in the order."""
    ledger, [first, second] = ledger_of(policy, 10, 10)
    assert ledger.victims(100, spare=first) == [second]
    assert ledger.victims(100, spare=second) == [first]
    ledger.remove(second)
    assert ledger.victims(1, spare=first) == []
    assert ledger.victims(1) == [first]


@pytest.mark.parametrize("policy", POLICIES)
def test_victims_stay_until_they_are_removed(policy: str) -> None:
    """Asking twice gives the same answer."""
    ledger, _ = ledger_of(policy, 10, 20, 30)
    assert ledger.victims(25) == ledger.victims(25)
    assert (ledger.total, ledger.count) == (60, 3)


def test_traffic_counts_without_a_call_to_the_ledger() -> None:
    """A member with recent traffic moves behind the silent ones."""
    ledger, [first, second, third] = ledger_of("lru", 10, 10, 10)
    first.traffic = 99.0
    assert ledger.victims(30) == [second, third, first]
    second.traffic = 100.0
    assert ledger.victims(30) == [third, first, second]


def test_a_member_returns_to_the_order_when_it_holds_bytes_again() -> None:
    """It is dropped from the order when it comes to the top with nothing, and is back with its first byte."""
    ledger, [first, second] = ledger_of("fifo", 10, 10)
    ledger.charge(first, -10)
    assert ledger.victims(100) == [second]
    ledger.charge(first, 1)
    assert ledger.victims(100) == [first, second]


def test_a_time_that_goes_back_must_be_reported() -> None:
    """A client id that reconnects keeps its age: ``rekey`` moves its new socket to the front."""
    ledger, [first, second] = ledger_of("oldest", 10, 10)
    second.identified = -1.0
    ledger.rekey(second)
    assert ledger.victims(20) == [second, first]
    ledger.charge(second, -10)
    assert ledger.victims(20) == [first]
    ledger.rekey(second)
    assert ledger.victims(20) == [first]


def test_a_victim_is_found_without_asking_every_member() -> None:
    """Among 5,000 silent members, at most two are asked for their time."""
    ledger, sockets = ledger_of("lru", *[1] * 5000)
    before = sum(socket.asked for socket in sockets)
    assert ledger.victims(1) == [sockets[0]]
    assert sum(socket.asked for socket in sockets) - before <= 2


def test_a_member_that_never_held_bytes_is_never_asked() -> None:
    """The order contains only members that may become victims."""
    ledger, sockets = ledger_of("lru", 0, 0, 1)
    assert ledger.victims(1) == [sockets[2]]
    assert [socket.asked for socket in sockets[:2]] == [0, 0]


def test_the_work_after_a_burst_of_traffic_is_spread_over_several_calls() -> None:
    """After traffic on all members, a call asks 1,000 of them and takes the most silent of these."""
    ledger, sockets = ledger_of("lru", *[1] * (3 * MAX_STALE))
    for socket in sockets:
        socket.traffic = 10_000.0 - socket.traffic
        socket.asked = 0
    assert ledger.victims(1) == [sockets[MAX_STALE - 1]]
    assert sum(socket.asked for socket in sockets) == MAX_STALE
    ledger.victims(1)
    ledger.victims(1)
    assert ledger.victims(1) == [sockets[-1]]
    assert ledger.victims(3 * MAX_STALE) == sockets[::-1]


def test_the_order_within_a_large_size_class_is_exact_to_one_eighth() -> None:
    """Among more than 64 members of similar size, the largest of the first 64 goes first; in the end all are listed."""
    ledger, sockets = ledger_of("largest", *range(1024, 1024 + 100))
    [victim] = ledger.victims(1)
    assert victim is sockets[63]
    assert victim.memory >= sockets[-1].memory * 7 / 8
    assert set(ledger.victims(10**6)) == set(sockets)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_ledger_does_not_keep_members_that_have_left(policy: str) -> None:
    """At any time, only a few of them are still in memory."""
    ledger, staying = ledger_of(policy, 1, 1, 1)
    left = weakref.WeakSet[Socket]()
    for number in range(1000):
        socket = Socket(time=float(number))
        left.add(socket)
        ledger.add(socket)
        ledger.charge(socket, number)
        ledger.rekey(socket)
        ledger.remove(socket)
        del socket
        assert len(left) <= len(staying) + 1
    assert ledger.total == ledger.count == 3
    assert len(ledger.victims(4)) == 3


class LedgerBesideRecount(RuleBasedStateMachine):
    """The ledger agrees with a dict that is summed and sorted anew each time."""

    sockets: Bundle[Socket] = Bundle("sockets")

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: str) -> None:
        """The ledger may have any policy."""
        self.policy = policy
        self.ledger: Ledger[Socket] = Ledger(policy)
        self.held: dict[Socket, int] = {}
        self.now = 0.0

    def order(self) -> list[Socket]:
        """All members that hold anything, first victim first."""
        key = {
            "lru": lambda socket: socket.traffic,
            "fifo": lambda socket: socket.opened,
            "oldest": lambda socket: socket.identified,
            "largest": lambda socket: -self.held[socket],
        }[self.policy]
        return sorted((socket for socket, held in self.held.items() if held), key=key)

    @rule(target=sockets, shard=st.integers(0, 2))
    def add(self, shard: int) -> Socket:
        """A connection opens."""
        self.now += 1
        socket = Socket(shard, self.now)
        self.ledger.add(socket)
        self.held[socket] = 0
        return socket

    @rule(socket=consumes(sockets))
    def remove(self, socket: Socket) -> None:
        """A connection ends."""
        assert self.ledger.remove(socket) == self.held.pop(socket)

    @rule(socket=sockets, delta=st.one_of(st.integers(-40, 40), st.integers(-(2**40), 2**40)))
    def charge(self, socket: Socket, delta: int) -> None:
        """A connection takes or gives back bytes."""
        self.ledger.charge(socket, delta)
        self.held[socket] = max(0, self.held[socket] + delta)

    @rule(socket=sockets)
    def speak(self, socket: Socket) -> None:
        """A connection has traffic."""
        self.now += 1
        socket.traffic = self.now

    @rule(socket=sockets, age=st.integers(0, 50))
    def identify(self, socket: Socket, age: int) -> None:
        """A client id reconnects and keeps its age."""
        socket.identified = self.now - age - 0.001 * socket.opened
        self.ledger.rekey(socket)

    @rule(needed=st.one_of(st.integers(-1, 100), st.integers(0, 2**42)), spare=st.one_of(st.none(), sockets))
    def evict(self, needed: int, spare: Socket | None) -> None:
        """The victims are the shortest prefix of the order that frees enough."""
        victims = self.ledger.victims(needed, spare)
        assert spare not in victims
        candidates = [socket for socket in self.order() if socket is not spare]
        if self.policy == "largest":
            assert [socket.memory for socket in victims] == [socket.memory for socket in candidates[: len(victims)]]
        else:
            assert victims == candidates[: len(victims)]
        assert len(victims) == len(candidates) or sum(socket.memory for socket in victims) >= needed
        assert not victims or sum(socket.memory for socket in victims[:-1]) < needed

    @invariant()
    def sums_equal_a_recount(self) -> None:
        """This holds per member and in total."""
        assert all(socket.memory == held for socket, held in self.held.items())
        assert self.ledger.count == len(self.held)
        assert self.ledger.total == sum(self.held.values())


TestLedgerBesideRecount = LedgerBesideRecount.TestCase
TestLedgerBesideRecount.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**50), min_size=1, max_size=200))
def test_the_first_victim_by_size_is_off_by_at_most_one_eighth(holdings: list[int]) -> None:
    """Whatever the sizes, it holds at least 8/9 of what the largest member holds."""
    ledger, _ = ledger_of("largest", *holdings)
    [victim] = ledger.victims(1)
    assert victim.memory * 9 >= max(holdings) * 8


# Estimates


def weights(*values: object) -> int:
    """The sum of ``sys.getsizeof`` over these values."""
    return sum(map(sys.getsizeof, values))


@pytest.mark.parametrize("value", ["text", "żółw", b"bytes", bytearray(100), 7, 2**200, 1.5, 1j, True, None])
def test_a_plain_value_counts_with_its_own_size(value: object) -> None:
    """It refers to nothing else, so the estimate is that of ``sys.getsizeof``."""
    assert estimate(value) == sys.getsizeof(value)


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, deque])
def test_a_container_counts_with_its_items(kind: type) -> None:
    """Their sizes are added to that of the container."""
    value = kind(["one item", "another"])
    assert estimate(value) == weights(value, "one item", "another")


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_a_dict_counts_with_its_keys_and_values(kind: type) -> None:
    """Their sizes are added to that of the dict."""
    value = kind({"key": "value"})
    assert estimate(value) >= weights({"key": "value"}, "key", "value")
    assert estimate(kind({"key": "v" * 1000})) == estimate(value) + 995


def test_an_object_referenced_twice_counts_once() -> None:
    """The second reference adds a pointer to the list, not another copy of the text."""
    text = "x" * 1000
    assert estimate([text, text]) == weights([text, text], text)


def test_a_memoryview_counts_with_its_bytes() -> None:
    """It keeps those bytes alive."""
    data = bytes(1000)
    view = memoryview(data)
    assert estimate(view) == weights(view, data)


def test_a_released_memoryview_counts_alone() -> None:
    """Asking it for its bytes raises an error, which the estimate suppresses."""
    view = memoryview(b"bytes")
    view.release()
    assert estimate(view) == sys.getsizeof(view)


def test_a_cycle_is_followed_once() -> None:
    """A list that contains itself counts once."""
    value: list[object] = []
    value.append(value)
    assert estimate(value) == sys.getsizeof(value)


def test_a_deeply_nested_value_can_be_estimated() -> None:
    """It is nested far deeper than Python's recursion limit."""
    value: list[object] = []
    for _ in range(10_000):
        value = [value]
    assert estimate(value) == 10_000 * sys.getsizeof([None]) + sys.getsizeof([])


@dataclass
class Point:
    """An object with a ``__dict__``."""

    name: str


class Slotted:
    """An object with slots, one of them private, one never set."""

    __slots__ = ("__private", "public", "unset")

    def __init__(self) -> None:
        self.public = "public text"
        self.__private = "private text"

    def weight(self) -> int:
        """The expected estimate."""
        return weights(self, self.public, self.__private)


class Both(Slotted):
    """An object with slots and a ``__dict__``."""

    def __init__(self) -> None:
        super().__init__()
        self.more = "more text"


class Model(pydantic.BaseModel):
    """A pydantic model."""

    name: str


def test_an_object_counts_with_its_attributes() -> None:
    """They may be in a ``__dict__``, in slots, or in both; slots that were never set are skipped."""
    point, slotted, both = Point("some name"), Slotted(), Both()
    assert estimate(point) == weights(point, vars(point), "name", "some name")
    assert estimate(slotted) == slotted.weight()
    assert estimate(both) == both.weight() + weights(vars(both), "more", "more text")


def test_a_pydantic_model_counts_with_its_fields() -> None:
    """A field that is longer by 999 characters adds 999 bytes."""
    assert estimate(Model(name="x" * 1000)) == estimate(Model(name="x")) + 999


def test_a_container_subclass_counts_with_its_items_and_attributes() -> None:
    """Its own ``__iter__`` is not called."""

    class Endless(list[object]):
        def __iter__(self) -> Iterator[object]:
            while True:
                yield object()

    value = Endless(["item"])
    value.note = "note text"  # type: ignore[attr-defined]
    assert estimate(value) == weights(value, "item", vars(value), "note", "note text")


def test_classes_modules_and_functions_count_without_their_contents() -> None:
    """They are part of the program, not of the user's data."""
    assert estimate(Point) == sys.getsizeof(Point)
    assert estimate(sys) == sys.getsizeof(sys)
    assert estimate(estimate) < 2000


class Hostile:
    """An object that raises an error at every access."""

    def __init__(self) -> None:
        object.__getattribute__(self, "__dict__")["text"] = "x" * 1000

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError


class Immeasurable:
    """An object whose ``__sizeof__`` raises an error."""

    __slots__ = ()

    def __sizeof__(self) -> int:
        raise RuntimeError


class Negative:
    """An object that reports an impossible size."""

    __slots__ = ()

    def __sizeof__(self) -> int:
        return -1


def test_hostile_objects_do_not_break_an_estimate() -> None:
    """An object that raises counts with the part that can be read, and its neighbours count in full."""
    assert estimate(Hostile()) > 1000
    assert estimate([Hostile(), "neighbour"]) > estimate([Hostile()])
    assert 0 < estimate(Immeasurable()) < 100
    assert 0 < estimate(Negative()) < 100


def test_a_container_that_grows_during_an_estimate_is_read_no_further() -> None:
    """Another thread may add items meanwhile; that stops the reading of this container and nothing else."""
    value: dict[object, object] = {}

    class Growing:
        def __sizeof__(self) -> int:
            value[len(value)] = None
            return 16

    value["first"] = Growing()
    value["second"] = Growing()
    assert estimate([value, "neighbour"]) > weights("neighbour")


def test_an_estimate_made_in_steps_gives_the_same_result() -> None:
    """Steps may be small, and the value deep and wide; no step follows more references than it is told to."""
    value: dict[str, object] = {"list": [str(number) for number in range(1000)], "deep": [[[{"a": ("b", 2.5)}]]]}
    value["self"] = value
    for step in (1, 7, 1000, MAX_OBJECTS):
        whole, steps = Estimate(value), 1
        while not whole.advance(step):
            steps += 1
        assert whole.size == estimate(value)
        assert steps >= 1000 / step
        assert whole.advance(step) > 0


def test_changes_between_the_steps_of_an_estimate_do_not_affect_it() -> None:
    """A dict, list or set that grows or is emptied meanwhile counts as it was when it was read; nothing raises."""
    table: dict[str, object] = {f"key {number}": f"value {number}" for number in range(100)}
    listed, several = [f"item {number}" for number in range(100)], {f"member {number}" for number in range(100)}
    values: list[tuple[object, Callable[[], object]]] = [
        (table, table.clear),
        (grown := dict(table), lambda: grown.update(other=1)),
        (listed, listed.clear),
        (several, lambda: several.add("new")),
        (emptied := set(several), emptied.clear),
    ]
    for value, change in values:
        whole = Estimate(value)
        expected = estimate(value)
        whole.advance(10)
        change()
        while not whole.advance(10):
            pass
        assert whole.size == expected


def test_the_pending_references_of_an_estimate_are_bounded() -> None:
    """Wide lists within a wide list never exceed the limit in total."""
    value = [[str(number) for number in range(MAX_OBJECTS)] for _ in range(20)]
    whole = Estimate(value)
    followed = 0
    while not whole.advance(100):
        followed += 100
        assert len(whole._pending) <= MAX_OBJECTS
    assert followed < MAX_OBJECTS


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exceptions_that_end_the_process_are_not_suppressed(error: type[BaseException]) -> None:
    """The estimate goes on after any other exception from ``__sizeof__``."""

    class Huge:
        """An object whose measurement is interrupted."""

        def __sizeof__(self) -> int:
            raise error

    with pytest.raises(error):
        estimate([Huge()])


def test_an_estimate_follows_a_bounded_number_of_references() -> None:
    """A longer list is followed only as far as the limit."""
    several = [str(number) for number in range(2 * MAX_OBJECTS)]
    followed = islice(several, MAX_OBJECTS - 1)
    assert estimate(several) == sys.getsizeof(several) + weights(*followed)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@settings(deadline=None)
@given(json_values)
def test_any_json_value_counts_at_least_itself_and_more_within_a_list(value: object) -> None:
    """An estimate never raises, and never shrinks when something is put around the value."""
    assert sys.getsizeof(value) <= estimate(value) < estimate([value])
