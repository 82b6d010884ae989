"""The ledger: sums that equal a recount, victims in the order of the policy; and what things weigh."""

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
    """A ledger, and members whose times are 0, 1, 2… and who hold so many bytes."""
    ledger: Ledger[Socket] = Ledger(policy)
    sockets = [Socket(number % 4, float(number)) for number in range(len(holdings))]
    for socket, held in zip(sockets, holdings, strict=True):
        ledger.add(socket)
        ledger.charge(socket, held)
    return ledger, sockets


class Policy(str, Enum):
    """As a configuration would name it."""

    OLDEST = "oldest"


@pytest.mark.parametrize("policy", ["", "LRU", "random"])
def test_an_unknown_policy_is_refused(policy: str) -> None:
    """With the value and the ones there are."""
    with pytest.raises(ValueError, match=f"policy='{policy}': must be one of 'lru', 'fifo', 'oldest', 'largest'"):
        Ledger(policy)


def test_a_policy_may_be_an_enum_of_strings() -> None:
    """The configuration's own type is taken as the string it is."""
    ledger: Ledger[Socket] = Ledger(Policy.OLDEST)
    assert ledger.victims(1) == []


@pytest.mark.parametrize("policy", POLICIES)
def test_an_empty_ledger_holds_nothing(policy: str) -> None:
    """No bytes, nobody, no victims."""
    ledger, _ = ledger_of(policy)
    assert (ledger.total, ledger.count, ledger.victims(1)) == (0, 0, [])


def test_charges_are_summed_by_member_and_in_all() -> None:
    """Up and down."""
    ledger, [first, second] = ledger_of("lru", 10, 20)
    ledger.charge(first, 5)
    ledger.charge(second, -15)
    assert (first.memory, second.memory) == (15, 5)
    assert (ledger.total, ledger.count) == (20, 2)


def test_nobody_holds_less_than_nothing() -> None:
    """Too much given back is cut off, in the sums as well."""
    ledger, [first, second] = ledger_of("lru", 10, 20)
    ledger.charge(first, -1000)
    assert (first.memory, ledger.total) == (0, 20)
    ledger.charge(first, 3)
    assert (first.memory, second.memory, ledger.total) == (3, 20, 23)


def test_adding_sets_what_is_held_to_zero_once() -> None:
    """A second time is ignored."""
    ledger, [socket] = ledger_of("lru", 10)
    ledger.add(socket)
    assert (socket.memory, ledger.total, ledger.count) == (10, 10, 1)


@pytest.mark.parametrize("policy", POLICIES)
def test_removing_gives_back_everything_once(policy: str) -> None:
    """The bytes are told; a second time there are none."""
    ledger, [first, second] = ledger_of(policy, 10, 20)
    assert ledger.remove(first) == 10
    assert ledger.remove(first) == 0
    assert (first.memory, ledger.total, ledger.count) == (0, 20, 1)
    assert ledger.victims(100) == [second]


@pytest.mark.parametrize("policy", POLICIES)
def test_who_is_not_in_is_ignored(policy: str) -> None:
    """A late charge of a connection that has left changes no sum."""
    ledger, [socket] = ledger_of(policy, 10)
    ledger.remove(socket)
    ledger.charge(socket, 10)
    ledger.rekey(socket)
    assert (socket.memory, ledger.total, ledger.victims(1)) == (0, 0, [])


@pytest.mark.parametrize("policy", ["lru", "fifo", "oldest"])
def test_the_oldest_go_first_and_no_more_than_needed(policy: str) -> None:
    """The smallest prefix that frees enough; who holds nothing is passed over."""
    ledger, sockets = ledger_of(policy, 10, 0, 20, 30)
    assert ledger.victims(0) == []
    assert ledger.victims(1) == [sockets[0]]
    assert ledger.victims(10) == [sockets[0]]
    assert ledger.victims(11) == [sockets[0], sockets[2]]
    assert ledger.victims(1000) == [sockets[0], sockets[2], sockets[3]]


@pytest.mark.parametrize("policy", ["lru", "fifo", "oldest"])
def test_each_policy_reads_its_own_time(policy: str) -> None:
    """Other times may say the contrary."""
    ledger: Ledger[Socket] = Ledger(policy)
    old, young = Socket(time=5.0), Socket(time=5.0)
    for other, time in TIMES.items():
        setattr(old if other == policy else young, time, 1.0)
    for socket in (young, old):
        ledger.add(socket)
        ledger.charge(socket, 1)
    assert ledger.victims(1) == [old]


def test_the_largest_go_first() -> None:
    """Also within one class, and when sizes change."""
    ledger, [first, second, third, nothing] = ledger_of("largest", 1000, 1010, 3, 0)
    assert ledger.victims(1) == [second]
    assert ledger.victims(1011) == [second, first]
    ledger.charge(third, 5000)
    ledger.charge(second, -1010)
    ledger.rekey(first)
    assert ledger.victims(10_000) == [third, first]
    assert nothing not in ledger.victims(10_000)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_spared_one_is_never_named(policy: str) -> None:
    """Not even when it is the first, or the only one; afterwards it is there as before."""
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


def test_traffic_counts_without_being_told() -> None:
    """A member that has spoken since goes behind the silent ones."""
    ledger, [first, second, third] = ledger_of("lru", 10, 10, 10)
    first.traffic = 99.0
    assert ledger.victims(30) == [second, third, first]
    second.traffic = 100.0
    assert ledger.victims(30) == [third, first, second]


def test_who_gave_everything_back_comes_again_when_it_holds_something() -> None:
    """Dropped from the order when it came to the top with nothing, back with its first byte."""
    ledger, [first, second] = ledger_of("fifo", 10, 10)
    ledger.charge(first, -10)
    assert ledger.victims(100) == [second]
    ledger.charge(first, 1)
    assert ledger.victims(100) == [first, second]


def test_a_time_that_goes_back_needs_telling() -> None:
    """A client id that comes again keeps its age: `rekey` puts its new socket in front."""
    ledger, [first, second] = ledger_of("oldest", 10, 10)
    second.identified = -1.0
    ledger.rekey(second)
    assert ledger.victims(20) == [second, first]
    ledger.charge(second, -10)
    assert ledger.victims(20) == [first]
    ledger.rekey(second)
    assert ledger.victims(20) == [first]


def test_a_victim_is_found_without_asking_everybody() -> None:
    """Of 5,000 silent members, the order asks the first and no other."""
    ledger, sockets = ledger_of("lru", *[1] * 5000)
    before = sum(socket.asked for socket in sockets)
    assert ledger.victims(1) == [sockets[0]]
    assert sum(socket.asked for socket in sockets) - before <= 2


def test_who_never_held_anything_is_never_asked() -> None:
    """The order holds only those whom it may name."""
    ledger, sockets = ledger_of("lru", 0, 0, 1)
    assert ledger.victims(1) == [sockets[2]]
    assert [socket.asked for socket in sockets[:2]] == [0, 0]


def test_a_burst_of_traffic_is_not_paid_for_at_once() -> None:
    """When everybody has spoken, 1,000 are asked; the most silent of these goes, and the rest are known next time."""
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


def test_a_large_class_is_right_to_one_eighth() -> None:
    """Among more than 64 of about the same size, one of the first 64 goes; all are named in the end."""
    ledger, sockets = ledger_of("largest", *range(1024, 1024 + 100))
    [victim] = ledger.victims(1)
    assert victim is sockets[63]
    assert victim.memory >= sockets[-1].memory * 7 / 8
    assert set(ledger.victims(10**6)) == set(sockets)


@pytest.mark.parametrize("policy", POLICIES)
def test_churn_leaves_nothing_behind(policy: str) -> None:
    """Members that have left are let go of, and the heap is no larger than twice those that stay."""
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
    """The ledger against a list that is counted and sorted anew each time."""

    sockets: Bundle[Socket] = Bundle("sockets")

    @initialize(policy=st.sampled_from(POLICIES))
    def begin(self, policy: str) -> None:
        """Any policy."""
        self.policy = policy
        self.ledger: Ledger[Socket] = Ledger(policy)
        self.held: dict[Socket, int] = {}
        self.now = 0.0

    def order(self) -> list[Socket]:
        """Everybody who holds anything, first victim first."""
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
        """It takes or gives back bytes."""
        self.ledger.charge(socket, delta)
        self.held[socket] = max(0, self.held[socket] + delta)

    @rule(socket=sockets)
    def speak(self, socket: Socket) -> None:
        """There is traffic."""
        self.now += 1
        socket.traffic = self.now

    @rule(socket=sockets, age=st.integers(0, 50))
    def identify(self, socket: Socket, age: int) -> None:
        """A client id comes again and keeps its age."""
        socket.identified = self.now - age - 0.001 * socket.opened
        self.ledger.rekey(socket)

    @rule(needed=st.one_of(st.integers(-1, 100), st.integers(0, 2**42)), spare=st.one_of(st.none(), sockets))
    def evict(self, needed: int, spare: Socket | None) -> None:
        """The victims are the smallest prefix of the order that is enough."""
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
        """By member and in all."""
        assert all(socket.memory == held for socket, held in self.held.items())
        assert self.ledger.count == len(self.held)
        assert self.ledger.total == sum(self.held.values())


TestLedgerBesideRecount = LedgerBesideRecount.TestCase
TestLedgerBesideRecount.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(st.lists(st.integers(1, 2**50), min_size=1, max_size=200))
def test_largest_is_never_off_by_more_than_one_eighth(holdings: list[int]) -> None:
    """Whatever the sizes, the first victim holds at least 8/9 of the most."""
    ledger, _ = ledger_of("largest", *holdings)
    [victim] = ledger.victims(1)
    assert victim.memory * 9 >= max(holdings) * 8


# What things weigh


def weights(*values: object) -> int:
    """What ``sys.getsizeof`` says of each, together."""
    return sum(map(sys.getsizeof, values))


@pytest.mark.parametrize("value", ["text", "żółw", b"bytes", bytearray(100), 7, 2**200, 1.5, 1j, True, None])
def test_plain_values_weigh_what_python_says(value: object) -> None:
    """No more than ``sys.getsizeof``."""
    assert estimate(value) == sys.getsizeof(value)


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset, deque])
def test_containers_weigh_with_their_items(kind: type) -> None:
    """Each item is added."""
    value = kind(["one item", "another"])
    assert estimate(value) == weights(value, "one item", "another")


@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_dicts_weigh_with_keys_and_values(kind: type) -> None:
    """Both are added."""
    value = kind({"key": "value"})
    assert estimate(value) >= weights({"key": "value"}, "key", "value")
    assert estimate(kind({"key": "v" * 1000})) == estimate(value) + 995


def test_an_object_that_is_there_twice_weighs_once() -> None:
    """The list grows by a reference, not by the text."""
    text = "x" * 1000
    assert estimate([text, text]) == weights([text, text], text)


def test_a_view_weighs_what_it_looks_at() -> None:
    """It keeps those bytes alive."""
    data = bytes(1000)
    view = memoryview(data)
    assert estimate(view) == weights(view, data)


def test_a_released_view_weighs_itself() -> None:
    """Asking it for its bytes raises, and harms nobody."""
    view = memoryview(b"bytes")
    view.release()
    assert estimate(view) == sys.getsizeof(view)


def test_a_cycle_ends() -> None:
    """A list in itself counts once."""
    value: list[object] = []
    value.append(value)
    assert estimate(value) == sys.getsizeof(value)


def test_depth_does_no_harm() -> None:
    """Far deeper than Python can call."""
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
        """What it should weigh."""
        return weights(self, self.public, self.__private)


class Both(Slotted):
    """An object with slots and a ``__dict__``."""

    def __init__(self) -> None:
        super().__init__()
        self.more = "more text"


class Model(pydantic.BaseModel):
    """A pydantic model."""

    name: str


def test_objects_weigh_with_their_attributes() -> None:
    """In a ``__dict__``, in slots, in both; slots that were never set are passed over."""
    point, slotted, both = Point("some name"), Slotted(), Both()
    assert estimate(point) == weights(point, vars(point), "name", "some name")
    assert estimate(slotted) == slotted.weight()
    assert estimate(both) == both.weight() + weights(vars(both), "more", "more text")


def test_pydantic_models_weigh_with_their_fields() -> None:
    """A longer field weighs more, by what it is longer."""
    assert estimate(Model(name="x" * 1000)) == estimate(Model(name="x")) + 999


def test_subclasses_of_containers_weigh_items_and_attributes() -> None:
    """Whatever they say of themselves is not asked."""

    class Endless(list[object]):
        def __iter__(self) -> Iterator[object]:
            while True:
                yield object()

    value = Endless(["item"])
    value.note = "note text"  # type: ignore[attr-defined]
    assert estimate(value) == weights(value, "item", vars(value), "note", "note text")


def test_classes_modules_and_functions_weigh_themselves() -> None:
    """What the program consists of is not the user's data."""
    assert estimate(Point) == sys.getsizeof(Point)
    assert estimate(sys) == sys.getsizeof(sys)
    assert estimate(estimate) < 2000


class Hostile:
    """An object that raises whatever it is asked."""

    def __init__(self) -> None:
        object.__getattribute__(self, "__dict__")["text"] = "x" * 1000

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError


class Immeasurable:
    """An object whose size raises."""

    __slots__ = ()

    def __sizeof__(self) -> int:
        raise RuntimeError


class Negative:
    """An object whose size is impossible."""

    __slots__ = ()

    def __sizeof__(self) -> int:
        return -1


def test_odd_objects_do_no_harm() -> None:
    """One that raises counts as what can be learned, and its neighbours count in full."""
    assert estimate(Hostile()) > 1000
    assert estimate([Hostile(), "neighbour"]) > estimate([Hostile()])
    assert 0 < estimate(Immeasurable()) < 100
    assert 0 < estimate(Negative()) < 100


def test_a_container_that_changes_meanwhile_ends_there() -> None:
    """What another thread adds while it is looked at stops the look at it, nothing else."""
    value: dict[object, object] = {}

    class Growing:
        def __sizeof__(self) -> int:
            value[len(value)] = None
            return 16

    value["first"] = Growing()
    value["second"] = Growing()
    assert estimate([value, "neighbour"]) > weights("neighbour")


def test_an_estimate_made_a_little_at_a_time_is_the_same() -> None:
    """However little, and however deep and wide the value is; each step follows no more than it is told."""
    value: dict[str, object] = {"list": [str(number) for number in range(1000)], "deep": [[[{"a": ("b", 2.5)}]]]}
    value["self"] = value
    for step in (1, 7, 1000, MAX_OBJECTS):
        whole, steps = Estimate(value), 1
        while not whole.advance(step):
            steps += 1
        assert whole.size == estimate(value)
        assert steps >= 1000 / step
        assert whole.advance(step) > 0


def test_what_changes_while_an_estimate_rests_is_counted_as_it_was() -> None:
    """A dict that grows, a list that is emptied, a set that loses what it has: nothing is lost, and nothing raises."""
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


def test_what_waits_in_an_estimate_is_bounded_too() -> None:
    """Wide lists inside of wide lists: never more than the limit in all."""
    value = [[str(number) for number in range(MAX_OBJECTS)] for _ in range(20)]
    whole = Estimate(value)
    followed = 0
    while not whole.advance(100):
        followed += 100
        assert len(whole._pending) <= MAX_OBJECTS
    assert followed < MAX_OBJECTS


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_ends_an_estimate(error: type[BaseException]) -> None:
    """Whatever else a size raises, the estimate goes on."""

    class Huge:
        """One whose size is asked for at the wrong moment."""

        def __sizeof__(self) -> int:
            raise error

    with pytest.raises(error):
        estimate([Huge()])


def test_an_estimate_is_bounded() -> None:
    """A list of millions of references is followed as far as the limit says."""
    several = [str(number) for number in range(2 * MAX_OBJECTS)]
    followed = islice(several, MAX_OBJECTS - 1)
    assert estimate(several) == sys.getsizeof(several) + weights(*followed)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
)


@settings(deadline=None)
@given(json_values)
def test_any_json_weighs_at_least_itself_and_as_part_of_more(value: object) -> None:
    """An estimate never raises, never shrinks when something is put around it."""
    assert sys.getsizeof(value) <= estimate(value) < estimate([value])
