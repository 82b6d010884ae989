"""The turn log and its writer, on a loop turned by hand and with peers that only record."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, cast
from unittest.mock import Mock

import anyio
import anyio.lowlevel
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.hand import HandLoop
from wsstab.core.frames import Block, Outgoing
from wsstab.loop.members import Member
from wsstab.loop.tasks import current_loop
from wsstab.loop.timekeeper import Timekeeper
from wsstab.loop.turn_log import (
    BUDGET,
    LOOK_AT_CLOCK_EVERY,
    MAX_JOINED_BYTES,
    MAX_LOG_BYTES,
    MAX_LOG_ENTRIES,
    Entry,
    TurnLog,
    groups_of,
)


class RecordingWire:
    """A wire that takes data or not, as a test says; its transport is itself."""

    def __init__(self) -> None:
        self.writable = True
        self.on_write: Callable[[bytes], None] = lambda data: None

    def is_closing(self) -> bool:
        """Never."""
        return False

    def write(self, data: bytes) -> None:
        """Take a write."""
        self.on_write(data)


class RecordingSender:
    """The outbound side of a peer that records what it is given, and queues while its wire is blocked.

    Attributes:
        cursor: the first entry of the log that it has not had.
        queue: what waits.
        blocks: the frames that were written, block by block.
        keys: the keys of the messages that came one by one.
        cost: seconds that a write takes.
    """

    def __init__(self, loop: HandLoop, peer: Peer) -> None:
        self._loop = loop
        self._wire = peer.wire
        self.peer = peer
        self.transport: RecordingWire | None = peer.wire
        self.deflates = None
        self.cursor = self.messages = self.bytes = 0
        self.data_at = self.passed_at = 0.0
        self.queue: list[Outgoing] = []
        self.blocks: list[bytes] = []
        self.keys: list[Hashable] = []
        self.cost = 0.0

    @property
    def ready(self) -> bool:
        """Whether it takes a block."""
        return self.peer.open and self._wire.writable and not self.queue

    @property
    def is_shut(self) -> bool:
        """As of a sender."""
        return self.cursor == sys.maxsize

    def shut(self) -> None:
        """Take nothing any more."""
        self.peer.open = False
        self.transport = None
        self.cursor = sys.maxsize

    def write(self, block: Block) -> None:
        """Record a block."""
        assert not self.queue
        self.messages += block.count
        self.bytes += block.size
        self.written(block.frames())

    def written(self, data: bytes) -> None:
        """Record frames."""
        assert self._wire.writable
        self._loop.now += self.cost
        self.blocks.append(data)

    def put(self, message: Outgoing, key: Hashable = None) -> None:
        """Record one message, or queue it."""
        self.keys.append(key)
        if self.queue or not self._wire.writable:
            self.queue.append(message)
        else:
            self.write(Block((message,)))

    def flush(self) -> None:
        """The wire takes data again, and gets what waits."""
        self._wire.writable = True
        waiting, self.queue = self.queue, []
        if waiting:
            self.write(Block(waiting))


class Peer:
    """As much of a connection as the turn_log touches."""

    def __init__(self, loop: HandLoop, name: str = "") -> None:
        self.name = name
        self.open = True
        self.wire = RecordingWire()
        self.sender = RecordingSender(loop, self)
        self.wire.on_write = self.sender.written
        self.closing = Mock()

    def log_name(self) -> str:
        """Its own."""
        return self.name

    def log_fields(self) -> dict[str, Any]:
        """Nothing to tell."""
        return {}

    def __repr__(self) -> str:
        return self.name

    @property
    def texts(self) -> list[str]:
        """What it was given and what waits for it, in order."""
        sent = [text for block in self.sender.blocks for text in texts_of(block)]
        return [*sent, *(str(message.data) for message in self.sender.queue)]


def texts_of(data: bytes) -> list[str]:
    """The payloads of some frames (RFC 6455 section 5.2)."""
    texts = []
    while data:
        size, extended = data[1], {126: 2, 127: 8}.get(data[1], 0)
        if extended:
            size = int.from_bytes(data[2 : 2 + extended], "big")
        end = 2 + extended + size
        texts.append(data[2 + extended : end].decode())
        data = data[end:]
    return texts


def member(peer: Peer) -> Member:
    """A peer in the place of a connection."""
    return cast(Member, peer)


class Studio:
    """A turn_log, its loop and some peers."""

    def __init__(self, peers: int = 3, slice_size: int = 1000) -> None:
        self.loop = HandLoop()
        self.passes: list[float] = []
        self.turn_log = TurnLog(self.loop, Timekeeper(self.loop), slice_size, self.passes.append)
        self.peers = [Peer(self.loop, f"p{number}") for number in range(peers)]
        self.everybody = set(self.peers)

    def say(
        self, text: str, audience: set[Peer] | None = None, without: Iterable[Peer] = (), key: Hashable = None
    ) -> None:
        """Append one entry."""
        to: Any = self.everybody if audience is None else audience
        self.turn_log.append(Entry(Outgoing(text), to, frozenset(map(member, without)), key))

    def work(self) -> int:
        """Let the writer finish; how many turns that took."""
        return self.loop.turn_until_idle()


def test_nothing_is_written_in_the_turn_of_the_call() -> None:
    """Appending fixes the order, and does not yield."""
    at = Studio()
    at.say("1")
    assert [peer.texts for peer in at.peers] == [[], [], []]
    assert (len(at.turn_log.pending), at.turn_log.end) == (1, 1)
    at.work()
    assert [peer.texts for peer in at.peers] == [["1"], ["1"], ["1"]]
    assert (at.turn_log.pending, at.turn_log.end) == ([], 1)


def test_messages_of_one_turn_leave_in_one_shared_write() -> None:
    """They are joined once, and each peer gets the same block."""
    at = Studio()
    for text in "123":
        at.say(text)
    at.work()
    blocks = [peer.sender.blocks for peer in at.peers]
    assert [len(each) for each in blocks] == [1, 1, 1]
    assert blocks[0][0] is blocks[1][0] is blocks[2][0]
    assert at.peers[0].texts == ["1", "2", "3"]


def test_a_writer_runs_only_while_there_is_something_to_write() -> None:
    """One writer serves all entries of a turn; a later turn starts a new one."""
    at = Studio()
    at.say("1")
    at.say("2")
    assert len(at.loop.soon) == 1
    at.work()
    at.say("3")
    assert len(at.loop.soon) == 1
    at.work()
    assert at.peers[0].texts == ["1", "2", "3"]


def test_an_excluded_peer_does_not_get_the_message() -> None:
    """It gets all other messages, in their order."""
    at = Studio()
    first, second, third = at.peers
    at.say("1")
    at.say("2", without=[first])
    at.say("3", without=[first, second])
    at.say("4")
    at.work()
    assert (first.texts, second.texts, third.texts) == (["1", "4"], ["1", "2", "4"], ["1", "2", "3", "4"])


def test_each_room_gets_its_messages_and_a_peer_in_several_gets_them_in_order() -> None:
    """Peers in the same rooms share the joined block."""
    at = Studio(4)
    nowhere, left, both, too = at.peers
    room, other = {left, both, too}, {both, too}
    at.say("all")
    at.say("room", room)
    at.say("other", other)
    at.say("room again", room)
    at.work()
    assert nowhere.texts == ["all"]
    assert left.texts == ["all", "room", "room again"]
    assert both.texts == too.texts == ["all", "room", "other", "room again"]
    assert both.sender.blocks[0] is too.sender.blocks[0]


def test_a_peer_whose_wire_is_blocked_gets_its_messages_one_by_one() -> None:
    """Only its queue decides what becomes of them, and other peers do not wait for it."""
    at = Studio()
    stalled = at.peers[0]
    stalled.wire.writable = False
    at.say("1", key="k")
    at.say("2")
    at.work()
    assert (len(stalled.sender.queue), stalled.sender.blocks, stalled.sender.keys) == (2, [], ["k", None])
    assert at.peers[1].texts == ["1", "2"]


def test_a_message_never_overtakes_queued_messages() -> None:
    """This holds also if the wire takes data again in between."""
    at = Studio(1)
    (peer,) = at.peers
    peer.wire.writable = False
    at.say("1")
    at.work()
    peer.wire.writable = True
    at.say("2")
    at.work()
    peer.sender.flush()
    assert peer.texts == ["1", "2"]


def test_a_peer_that_has_left_gets_nothing_and_delays_nobody() -> None:
    """It may still be in the audience of the entry."""
    at = Studio()
    at.peers[0].open = False
    at.peers[1].open = False
    at.peers[1].wire.writable = False
    at.say("1")
    at.work()
    assert [peer.texts for peer in at.peers] == [[], [], ["1"]]


def test_catch_up_writes_the_messages_of_a_peer_at_once_and_only_once() -> None:
    """A handler's own send needs the broadcasts before it to be written first."""
    at = Studio()
    first, second, _ = at.peers
    at.say("1")
    at.say("2", without=[second])
    at.turn_log.catch_up(member(first))
    at.turn_log.catch_up(member(second))
    assert (first.texts, second.texts) == (["1", "2"], ["1"])
    at.say("3")
    at.work()
    assert [peer.texts for peer in at.peers] == [["1", "2", "3"], ["1", "3"], ["1", "2", "3"]]


def test_catching_up_with_an_empty_log_does_nothing() -> None:
    """Nor does it with a log whose entries the peer has had."""
    at = Studio(1)
    at.turn_log.catch_up(member(at.peers[0]))
    at.say("1")
    at.work()
    at.turn_log.catch_up(member(at.peers[0]))
    assert at.peers[0].texts == ["1"]


def test_a_peer_that_joins_later_gets_no_earlier_message() -> None:
    """Its cursor begins at the end of the log, although the audience is the live set."""
    at = Studio(1)
    at.say("before")
    late = Peer(at.loop, "late")
    late.sender.cursor = at.turn_log.end
    at.everybody.add(late)
    at.say("after")
    at.work()
    assert (at.peers[0].texts, late.texts) == (["before", "after"], ["after"])


def test_a_message_sent_while_the_writer_pauses_comes_after_earlier_ones() -> None:
    """This holds for peers that were already visited and for those that were not."""
    at = Studio(3 * LOOK_AT_CLOCK_EVERY, slice_size=LOOK_AT_CLOCK_EVERY)
    at.say("1")
    at.loop.turn()
    visited = [peer for peer in at.peers if peer.texts]
    assert len(visited) == LOOK_AT_CLOCK_EVERY
    at.say("2")
    at.turn_log.catch_up(member(visited[0]))
    unvisited = next(peer for peer in at.peers if not peer.texts)
    at.turn_log.catch_up(member(unvisited))
    assert visited[0].texts == unvisited.texts == ["1", "2"]
    at.work()
    assert all(peer.texts == ["1", "2"] for peer in at.peers)


def test_a_message_sent_while_the_writer_pauses_joins_the_current_pass() -> None:
    """Peers that were not reached get it joined with the earlier messages; the others get it in the next pass, once."""
    at = Studio(3 * LOOK_AT_CLOCK_EVERY, slice_size=LOOK_AT_CLOCK_EVERY)
    at.say("1")
    at.loop.turn()
    visited = [peer for peer in at.peers if peer.texts]
    at.say("2")
    at.loop.turn()
    reached = [peer for peer in at.peers if peer.texts and peer not in visited]
    assert [peer.texts for peer in reached] == [["1", "2"]] * LOOK_AT_CLOCK_EVERY
    assert {len(peer.sender.blocks) for peer in reached} == {1}
    at.say("3")
    at.work()
    assert all(peer.texts == ["1", "2", "3"] for peer in at.peers)
    # Peers that got 1 alone get 2 and 3 in one write, so there are five distinct blocks in all.
    assert {len(peer.sender.blocks) for peer in visited} == {2}
    assert len({id(block) for peer in at.peers for block in peer.sender.blocks}) == 5


def test_a_peer_that_left_the_audience_does_not_get_a_joining_message() -> None:
    """It was still a member when the pass began."""
    at = Studio(3 * LOOK_AT_CLOCK_EVERY, slice_size=LOOK_AT_CLOCK_EVERY)
    at.say("1")
    at.loop.turn()
    leaver = next(peer for peer in at.peers if not peer.texts)
    at.turn_log.catch_up(member(leaver))
    at.everybody.discard(leaver)
    at.say("secret")
    at.work()
    assert leaver.texts == ["1"]
    assert all(peer.texts == ["1", "secret"] for peer in at.peers if peer is not leaver)


@pytest.mark.parametrize("emptied", ["first", "second"])
def test_no_message_joins_a_pass_in_which_an_audience_is_empty(emptied: str) -> None:
    """Messages for the empty audience reach nobody; those of the other are neither lost nor misdirected."""
    at = Studio(2 * LOOK_AT_CLOCK_EVERY, slice_size=LOOK_AT_CLOCK_EVERY)
    other: set[Peer] = {Peer(at.loop)}
    if emptied == "first":
        at.say("nobody's", other)
        at.say("1")
    else:
        at.say("1")
        at.say("nobody's", other)
    other.clear()
    at.loop.turn()
    unvisited = next(peer for peer in at.peers if not peer.texts)
    at.turn_log.catch_up(member(unvisited))
    newcomer = Peer(at.loop)
    newcomer.sender.cursor = at.turn_log.end
    other.add(newcomer)
    at.say("theirs", other)
    at.say("2")
    at.work()
    assert all(peer.texts == ["1", "2"] for peer in at.peers)
    assert newcomer.texts == ["theirs"]


@pytest.mark.parametrize("way", ["another audience", "somebody excluded", "too large", "excluded before"])
def test_a_message_that_cannot_join_waits_for_the_next_pass(way: str) -> None:
    """It has another audience or an exclusion, or is larger than what may be joined."""
    at = Studio(2 * LOOK_AT_CLOCK_EVERY, slice_size=LOOK_AT_CLOCK_EVERY)
    at.say("1", without=at.peers[:1] if way == "excluded before" else ())
    at.loop.turn()
    text = "2" * (MAX_JOINED_BYTES if way == "too large" else 1)
    audience = set(at.peers) if way == "another audience" else None
    at.say(text, audience, without=at.peers[:1] if way == "somebody excluded" else ())
    at.loop.turn()
    assert not any(text in peer.texts for peer in at.peers)
    at.work()
    assert all(peer.texts == ["1", text] for peer in at.peers[1:])


def test_the_writer_yields_after_a_slice_of_writes() -> None:
    """Other tasks get their turn."""
    at = Studio(4 * LOOK_AT_CLOCK_EVERY, slice_size=2 * LOOK_AT_CLOCK_EVERY)
    at.say("1")
    at.loop.turn()
    assert sum(bool(peer.texts) for peer in at.peers) == 2 * LOOK_AT_CLOCK_EVERY
    at.loop.turn()
    assert all(peer.texts == ["1"] for peer in at.peers)


def test_the_writer_yields_after_its_share_of_time() -> None:
    """It yields however few writes that was; it reads the clock only now and then."""
    at = Studio(4 * LOOK_AT_CLOCK_EVERY)
    for peer in at.peers:
        peer.sender.cost = BUDGET / 8
    at.say("1")
    at.loop.turn()
    assert sum(bool(peer.texts) for peer in at.peers) == LOOK_AT_CLOCK_EVERY
    assert at.work() >= 3


def test_a_peer_that_leaves_while_the_writer_pauses_gets_nothing() -> None:
    """It was in the audience when the pass began, and is gone when its turn comes."""
    at = Studio(2 * LOOK_AT_CLOCK_EVERY, slice_size=LOOK_AT_CLOCK_EVERY)
    at.say("1")
    at.loop.turn()
    left = next(peer for peer in at.peers if not peer.texts)
    left.open = False
    at.everybody.discard(left)
    at.work()
    assert sum(bool(peer.texts) for peer in at.peers) == 2 * LOOK_AT_CLOCK_EVERY - 1
    assert left.texts == []


def test_a_wire_that_fails_harms_only_its_own_peer(caplog: pytest.LogCaptureFixture) -> None:
    """The others get their messages, and the log goes on."""
    at = Studio(3)

    def fail(block: Block) -> None:
        raise ValueError("on purpose")

    at.peers[1].sender.transport = None
    at.peers[1].sender.write = fail  # type: ignore[method-assign]
    at.say("1")
    at.work()
    at.say("2")
    at.work()
    assert (at.peers[0].texts, at.peers[2].texts, at.turn_log.pending) == (["1", "2"], ["1", "2"], [])
    assert any(record.exc_info for record in caplog.records)
    assert at.peers[1].closing.begin.called


def test_a_transport_that_fails_harms_only_its_own_peer() -> None:
    """Peers behind it are written to, and the failed one is closed."""
    at = Studio(5)

    def fail(data: bytes) -> None:
        raise RuntimeError("on purpose")

    at.peers[2].wire.on_write = fail
    at.say("1")
    at.work()
    assert [peer.texts for peer in at.peers] == [["1"], ["1"], [], ["1"], ["1"]]
    assert [peer.closing.begin.called for peer in at.peers] == [False, False, True, False, False]


def test_a_closed_peer_never_comes_back_into_a_pass() -> None:
    """Its handler may leave its rooms last of all, and by then the connection may already be freed."""
    at = Studio(2 * LOOK_AT_CLOCK_EVERY, slice_size=LOOK_AT_CLOCK_EVERY)
    at.say("1")
    at.loop.turn()
    over = next(peer for peer in at.peers if not peer.texts)
    over.sender.shut()
    at.turn_log.catch_up(member(over))
    at.say("2")
    del over.sender.peer
    at.work()
    assert over.texts == []
    assert [peer.texts for peer in at.peers if peer is not over] == [["1", "2"]] * (2 * LOOK_AT_CLOCK_EVERY - 1)


def test_a_write_to_a_freed_peer_harms_no_other() -> None:
    """There is nothing left to close."""
    at = Studio(3)

    def fail(block: Block) -> None:
        at.peers[1].sender.shut()
        del at.peers[1].sender.peer
        raise ValueError("on purpose")

    at.peers[1].sender.transport = None
    at.peers[1].sender.write = fail  # type: ignore[method-assign]
    at.say("1")
    at.work()
    at.say("2")
    at.work()
    assert [peer.texts for peer in at.peers] == [["1", "2"], [], ["1", "2"]]


def test_an_error_in_a_pass_does_not_stop_later_broadcasts(caplog: pytest.LogCaptureFixture) -> None:
    """The entries of the log are lost, which is logged; later messages arrive."""

    class Broken(set[Peer]):
        def __iter__(self) -> Iterator[Peer]:
            raise ValueError("on purpose")

    at = Studio(2)
    at.say("1", Broken(at.peers))
    at.say("2")
    at.work()
    assert (at.turn_log.pending, at.turn_log.crowded) == ([], False)
    assert "2 broadcasts are lost" in caplog.text
    at.say("3")
    at.work()
    assert [peer.texts for peer in at.peers] == [["3"], ["3"]]


def test_a_transport_that_closes_before_its_turn_gets_nothing() -> None:
    """No frame may follow a close frame."""
    at = Studio(2)
    at.peers[1].wire.is_closing = lambda: True  # type: ignore[method-assign]
    at.say("1")
    at.work()
    assert [peer.texts for peer in at.peers] == [["1"], []]


def test_a_wire_without_a_transport_writes_at_once() -> None:
    """A plain ASGI wire is one."""
    at = Studio(3)
    at.peers[1].sender.transport = None
    at.say("1")
    at.work()
    assert all(peer.texts == ["1"] for peer in at.peers)


def test_the_time_from_first_entry_to_last_write_is_reported() -> None:
    """It is reported once for each pass."""
    at = Studio(2)
    for peer in at.peers:
        peer.sender.cost = 0.001
    at.say("1")
    at.loop.now += 0.5
    at.work()
    assert at.passes == [pytest.approx(0.502)]


def test_the_log_is_crowded_from_a_number_of_entries_on() -> None:
    """Callers should then wait."""
    at = Studio(1)
    for _ in range(MAX_LOG_ENTRIES - 1):
        at.say("")
    assert not at.turn_log.crowded
    at.say("")
    assert at.turn_log.crowded
    at.work()
    assert not at.turn_log.crowded


def test_the_log_is_crowded_from_a_number_of_bytes_on() -> None:
    """The number of messages does not matter, and written ones no longer count."""
    at = Studio(1)
    at.say("x" * (MAX_LOG_BYTES - 1))
    assert not at.turn_log.crowded
    at.say("y")
    assert at.turn_log.crowded
    at.work()
    at.say("x" * (MAX_LOG_BYTES - 1))
    assert not at.turn_log.crowded


def test_an_empty_audience_is_fine() -> None:
    """Alone and beside another audience."""
    at = Studio(1)
    at.say("1", set())
    at.work()
    at.say("2", set())
    at.say("3")
    at.work()
    assert at.peers[0].texts == ["3"]


def test_two_equal_audiences_are_kept_apart_by_identity() -> None:
    """A peer in both gets the messages of both."""
    at = Studio(1)
    (peer,) = at.peers
    at.say("1", {peer})
    at.say("2", {peer})
    at.work()
    assert peer.texts == ["1", "2"]


def test_messages_are_joined_once_for_each_combination_of_rooms() -> None:
    """The number of peers does not matter."""
    loop = HandLoop()
    peers = [Peer(loop) for _ in range(30)]
    tens, odd = set(peers[:10]), set(peers[1::2])
    entries = [Entry(Outgoing(text), cast(Any, room)) for text, room in (("1", tens), ("2", odd), ("3", tens))]
    groups = [
        (len(group.senders), [message.data for message in group.block(7).messages]) for group in groups_of(entries, 7)
    ]
    assert sorted(groups) == [(5, ["1", "2", "3"]), (5, ["1", "3"]), (10, ["2"])]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_caller_can_wait_until_the_log_is_empty(anyio_backend: str) -> None:
    """Several callers can wait at once; with an empty log nobody waits."""
    at, waited = Studio(), list[int]()
    await at.turn_log.idle()

    async def wait(number: int) -> None:
        await at.turn_log.idle()
        waited.append(number)

    at.say("1")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(wait, number)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            assert waited == []
            at.work()
    assert sorted(waited) == [0, 1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_on_a_real_loop_the_writer_runs_by_itself(anyio_backend: str) -> None:
    """It runs in the next turn of the loop."""
    done = anyio.Event()
    turn_log = TurnLog(current_loop(), Timekeeper(current_loop()), 1000, lambda seconds: done.set())
    turn_log.append(Entry(Outgoing("1"), set()))
    with anyio.fail_after(5):
        await done.wait()
    assert turn_log.pending == []


class EveryPeerGetsItsMessages(RuleBasedStateMachine):
    """Whatever happens in between, each peer gets what concerned it when it was said, once and in order."""

    @initialize(slice_size=st.sampled_from([1, 1000]), count=st.sampled_from([3, 2 * LOOK_AT_CLOCK_EVERY]))
    def build(self, slice_size: int, count: int) -> None:
        self.at = Studio(count, slice_size)
        self.rooms: list[set[Peer]] = [set(self.at.peers), set(), set(self.at.peers[::2])]
        self.expected: dict[Peer, list[str]] = {peer: [] for peer in self.at.peers}
        self.said = 0

    def peer(self, number: int) -> Peer:
        return self.at.peers[number % len(self.at.peers)]

    @rule(room=st.integers(0, 2), excluded=st.sets(st.integers(0, 100), max_size=3))
    def say(self, room: int, excluded: set[int]) -> None:
        self.said += 1
        without = {self.peer(number) for number in excluded}
        for peer in self.rooms[room] - without:
            if peer.open:
                self.expected[peer].append(str(self.said))
        self.at.say(str(self.said), self.rooms[room], without)

    @rule(number=st.integers(0, 100), room=st.integers(1, 2))
    def enter_or_leave(self, number: int, room: int) -> None:
        """As the manager does it: caught up first."""
        peer = self.peer(number)
        if peer.open:
            self.at.turn_log.catch_up(member(peer))
            self.rooms[room] ^= {peer}

    @rule(number=st.integers(0, 100))
    def send_of_its_own(self, number: int) -> None:
        """A handler's own message comes behind all that was broadcast before."""
        peer = self.peer(number)
        if peer.open:
            self.said += 1
            self.at.turn_log.catch_up(member(peer))
            peer.sender.put(Outgoing(str(self.said)))
            self.expected[peer].append(str(self.said))

    @rule(number=st.integers(0, 100))
    def block(self, number: int) -> None:
        self.peer(number).wire.writable = False

    @rule(number=st.integers(0, 100))
    def unblock(self, number: int) -> None:
        self.peer(number).sender.flush()

    @rule(number=st.integers(0, 100))
    def close(self, number: int) -> None:
        """It gets what was said before, and nothing afterwards."""
        peer = self.peer(number)
        if peer.open:
            self.at.turn_log.catch_up(member(peer))
            peer.open = False
            for room in self.rooms:
                room.discard(peer)

    @rule(number=st.integers(0, 100))
    def open(self, number: int) -> None:
        """Another connection in its place."""
        if not self.peer(number).open:
            peer = Peer(self.at.loop, "new")
            peer.sender.cursor = self.at.turn_log.end
            self.at.peers[number % len(self.at.peers)] = peer
            self.expected[peer] = []
            self.rooms[0].add(peer)

    @rule()
    def one_turn(self) -> None:
        self.at.loop.turn()

    @precondition(lambda self: hasattr(self, "at"))
    @invariant()
    def each_peer_has_a_prefix_of_its_messages(self) -> None:
        for peer, expected in self.expected.items():
            assert peer.texts == expected[: len(peer.texts)]

    def teardown(self) -> None:
        if hasattr(self, "at"):
            self.at.work()
            assert {peer: peer.texts for peer in self.expected} == self.expected
            assert (self.at.turn_log.pending, self.at.turn_log._bytes) == ([], 0)


TestEveryPeerGetsItsMessages = EveryPeerGetsItsMessages.TestCase
TestEveryPeerGetsItsMessages.settings = settings(deadline=None, max_examples=60)
