"""Broadcast: one entry in the turn log, whatever the number of peers.

Appending an entry (message, audience) does not yield, and fixes the order for all connections. A
writer runs in the next turn of the loop, visits the connections concerned, joins the entries of
each (all connections with the same entries share one join) and writes once per connection. It yields
after a number of writes or milliseconds; connections not visited yet also get the entries appended
meanwhile. Before anything else happens to a connection (its handler's own send, a close, a change of
rooms), `TurnLog.catch_up` writes its outstanding entries at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence, Set
from time import monotonic

import anyio

from ..close import RAISED
from ..core.frames import Block, Outgoing
from ..core.registry import Crowd
from ..types import Transport
from .members import Member, MemberSender
from .tasks import EventLoop
from .timekeeper import Timekeeper
from .usercode import ends_the_process

__all__ = ["Entry", "TurnLog"]

logger = logging.getLogger("wsstab")

BUDGET = 0.004
"""Seconds that the writer may take in one turn of the loop."""
LOOK_AT_CLOCK_EVERY = 64
"""Writes between two readings of the clock."""
BYTES_AT_ONCE = 262_144
"""Bytes written between two readings of the clock, because large writes take longer."""
MAX_JOINED_BYTES = 131_072
"""The most payload bytes joined into one write; a single larger message still goes out as one."""
MAX_LOG_BYTES = 262_144
"""Payload bytes in the log at which a caller starts to wait for the writer."""
MAX_LOG_ENTRIES = 1024
"""Entries in the log at which a caller starts to wait for the writer."""


class Entry:
    """One message for one audience.

    Args:
        message: the message.
        audience: the connections that get it; changes only after `TurnLog.catch_up`.
        excluded: connections of the audience that do not get it; none by default.
        key: key of the message; it replaces an unsent message with the same key, see ``Outbound.policy``.
    """

    __slots__ = ("audience", "excluded", "key", "message")

    def __init__(
        self,
        message: Outgoing,
        audience: Collection[Member],
        excluded: frozenset[Member] = frozenset(),
        key: Hashable = None,
    ) -> None:
        self.message = message
        self.audience = audience
        self.excluded = excluded
        self.key = key

    def concerns(self, connection: Member) -> bool:
        """Whether this connection gets the message."""
        return connection in self.audience and connection not in self.excluded


class TurnLog:
    """The turn log of one event loop, and its writer.

    Args:
        loop: the event loop.
        timekeeper: the timekeeper of the same loop.
        slice_size: number of writes after which the writer yields.
        written: called with the seconds from the first entry of a pass to its last write.

    Attributes:
        pending: entries that the writer has not finished.
        end: number of the next entry; a connection's ``cursor`` is the number of the first entry that it has not had.
    """

    def __init__(
        self, loop: EventLoop, timekeeper: Timekeeper, slice_size: int, written: Callable[[float], None]
    ) -> None:
        self._loop = loop
        self._timekeeper = timekeeper
        self._slice_size = slice_size
        self._written = written
        self.pending: list[Entry] = []
        self.end = 0
        self._start = 0
        self._bytes = 0
        self._began = 0.0
        self._pass: Iterator[None] | None = None
        self._idle: anyio.Event | None = None

    @property
    def log(self) -> list[Entry]:
        """Alias of `pending`, kept for programs that monitor a manager under this name."""
        return self.pending

    @property
    def crowded(self) -> bool:
        """Whether a caller should wait for `idle`: the log must not grow without bound."""
        return self._bytes >= MAX_LOG_BYTES or len(self.pending) >= MAX_LOG_ENTRIES

    def append(self, entry: Entry) -> None:
        """Add a message to the log, which fixes its place in the order of all messages."""
        if self._pass is None:
            self._pass = self._write_all()
            self._began = self._loop.time()
            # In the next turn, so that all entries of this turn go out in one write for each peer.
            self._loop.call_soon(self._step)
        self.pending.append(entry)
        self.end += 1
        self._bytes += entry.message.size

    async def idle(self) -> None:
        """Wait until the log is empty."""
        while self.pending:
            if self._idle is None:
                self._idle = anyio.Event()
            await self._idle.wait()

    def catch_up(self, connection: Member) -> None:
        """Send a connection at once all entries that the log holds for it."""
        if not connection.open:
            # The cursor of a closed connection already stands behind every entry, and stays there.
            return
        entries = self.pending[max(connection.sender.cursor - self._start, 0) :]
        connection.sender.cursor = self.end
        for entry in entries:
            # Sending one of these entries may close the connection.
            if entry.concerns(connection) and connection.open:
                connection.sender.put(entry.message, entry.key)

    def _step(self) -> None:
        assert self._pass is not None
        try:
            next(self._pass)
        except StopIteration:
            self._rest()
        except BaseException as error:
            if ends_the_process(error):
                raise
            # One failed pass must not stop later broadcasts.
            logger.exception("! %d broadcasts are lost", len(self.pending))
            self.pending.clear()
            self._start, self._bytes = self.end, 0
            self._rest()
        else:
            self._loop.call_soon(self._step)

    def _rest(self) -> None:
        self._pass = None
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.set()

    def _write_all(self) -> Iterator[None]:
        while self.pending:
            done = self._next_slice()
            yield from self._write(list(done))
            del self.pending[: len(done)]
            self._start += len(done)
            self._bytes -= sum(entry.message.size for entry in done)
        self._written(self._loop.time() - self._began)

    def _next_slice(self) -> list[Entry]:
        """The entries to join now; their size is limited, because data in a transport can no longer be dropped."""
        size = 0
        for count, entry in enumerate(self.pending):
            size += entry.message.size
            if size > MAX_JOINED_BYTES and count:
                return self.pending[:count]
        return self.pending[:]

    def _write(self, entries: list[Entry]) -> Iterator[None]:
        """Write these entries to all connections concerned, and entries appended meanwhile as well, where possible."""
        start, end = self._start, self._start + len(entries)
        excluded = frozenset().union(*(entry.excluded for entry in entries))
        most = min(LOOK_AT_CLOCK_EVERY, self._slice_size)
        time, until, since_yield = self._loop.time, self._loop.time() + BUDGET, 0
        groups = groups_of(entries, start)
        for group in groups:
            at_once = max(min(most, BYTES_AT_ONCE // max(group.block(start).size, 1)), 1)
            for first in range(0, len(group.senders), at_once):
                some = group.senders[first : first + at_once]
                self._write_to_some(some, group, entries, start, end, excluded)
                since_yield += len(some)
                if since_yield >= self._slice_size or time() > until:
                    yield
                    until, since_yield = time() + BUDGET, 0
                    if self.end > end and group.audience is not None and not excluded:
                        group.add(self._more(entries))
                        end = start + len(entries)

    def _write_to_some(
        self,
        senders: Iterable[MemberSender],
        group: Group,
        entries: Sequence[Entry],
        start: int,
        end: int,
        excluded: Set[Member],
    ) -> None:
        """The hot loop: first inspects all peers, then does all writes.

        Each write is a system call that evicts Python's data from the processor's caches. Inspecting a peer between two
        writes takes four times as long as inspecting some dozens of peers before the first write.
        """
        whole = group.block(start)
        plain, count, size = whole.frames(), whole.count, whole.size
        # One reading of the clocks for all peers of the slice.
        now, passed_at = self._timekeeper.now, monotonic()
        writes: list[tuple[Transport, bytes]] = []
        for sender in senders:
            try:
                if not sender.ready or (excluded and sender.peer in excluded):
                    self._write_singly(sender, entries, start, end)
                elif sender.cursor <= start:
                    sender.cursor = end
                    if sender.transport is None:
                        sender.write(whole)
                    else:
                        # `Sender.write`, inlined: one more call per peer has a measurable cost.
                        sender.messages += count
                        sender.bytes += size
                        sender.data_at, sender.passed_at = now, passed_at
                        deflates = sender.deflates
                        writes.append((sender.transport, plain if deflates is None else whole.frames(deflates)))
                elif sender.cursor < end:
                    block = group.block(sender.cursor)
                    sender.cursor = end
                    # The peer may have left the room before the later entries were appended.
                    if block.count and (group.audience is None or sender.peer in group.audience):
                        sender.write(block)
            except Exception:
                self._failed(sender)
        # One iterator for all attempts: after a write that fails, the loop goes on with the next peer.
        rest = iter(writes)
        while True:
            try:
                for transport, data in rest:
                    # Nothing may follow a close frame.
                    if not transport.is_closing():
                        transport.write(data)
                return
            except Exception:
                for sender in senders:
                    if sender.transport is transport:
                        self._failed(sender)

    def _failed(self, sender: MemberSender) -> None:
        """Close a peer whose write failed, so that its error does not stop the writer for all others."""
        if sender.is_shut:
            # The connection is closing or over, and its objects may already be freed.
            return
        sender.shut()
        peer = sender.peer
        logger.exception("! broadcast failed for %s", peer.log_name(), extra=peer.log_fields())
        peer.closing.begin(RAISED, flush=False)

    def _more(self, entries: list[Entry]) -> list[Entry]:
        """Add later entries for the same audience to this pass; peers that it has passed get them in the next one."""
        size, before = sum(entry.message.size for entry in entries), len(entries)
        for entry in self.pending[before:]:
            size += entry.message.size
            if entry.audience is not entries[0].audience or entry.excluded or size > MAX_JOINED_BYTES:
                break
            entries.append(entry)
        return entries[before:]

    def _write_singly(self, sender: MemberSender, entries: Sequence[Entry], start: int, end: int) -> None:
        if sender.cursor >= end:
            return
        pending = entries[max(sender.cursor - start, 0) :]
        sender.cursor = max(sender.cursor, end)
        for entry in pending:
            if entry.concerns(sender.peer) and sender.peer.open:
                sender.put(entry.message, entry.key)


class Group:
    """The senders that get the same messages in a pass; the messages are joined once for all with the same cursor.

    Args:
        senders: the senders, as of the start of the pass.
        numbered: the messages, each with the number of its entry.
        audience: the live audience, if all entries of the pass have the same one; ``None`` by default.
    """

    __slots__ = ("_blocks", "_numbered", "audience", "senders")

    def __init__(
        self,
        senders: Sequence[MemberSender],
        numbered: list[tuple[int, Outgoing]],
        audience: Collection[Member] | None = None,
    ) -> None:
        self.senders = senders
        self.audience = audience
        self._numbered = numbered
        self._blocks: dict[int, Block] = {}

    def block(self, cursor: int) -> Block:
        """The joined messages from entry ``cursor`` on; empty if none is left."""
        block = self._blocks.get(cursor)
        if block is None:
            block = Block([message for number, message in self._numbered if number >= cursor])
            self._blocks[cursor] = block
        return block

    def add(self, entries: Iterable[Entry]) -> None:
        """Append entries; only if the pass has a single audience, so that the numbers have no gap."""
        number = self._numbered[-1][0] + 1
        self._numbered += [(number + offset, entry.message) for offset, entry in enumerate(entries)]
        self._blocks.clear()


def groups_of(entries: Sequence[Entry], first: int) -> list[Group]:
    """Group senders by the entries that concern them. Exclusions are left to the caller.

    Almost always all entries have one audience; with several, a connection gets the entries of the
    audiences it belongs to.

    Args:
        entries: entries of the turn log.
        first: number of the first of these entries.
    """
    numbered = [(first + offset, entry.message) for offset, entry in enumerate(entries)]
    # By identity: two audiences that are equal now are two live sets all the same.
    audiences = {id(entry.audience): entry.audience for entry in entries}
    if len(audiences) == 1:
        return [Group(senders_of(entries[0].audience), numbered, entries[0].audience)]
    membership: dict[Member, int] = {}
    for bit, audience in enumerate(audiences.values()):
        for connection in list(audience):
            membership[connection] = membership.get(connection, 0) | 1 << bit
    members: dict[int, list[Member]] = {}
    for connection, bits in membership.items():
        members.setdefault(bits, []).append(connection)
    bit_of = {audience_id: 1 << bit for bit, audience_id in enumerate(audiences)}
    bits_of = [bit_of[id(entry.audience)] for entry in entries]
    return [
        Group(senders_of(connections), [pair for pair, bit in zip(numbered, bits_of, strict=True) if bits & bit])
        for bits, connections in members.items()
    ]


def senders_of(audience: Collection[Member]) -> list[MemberSender]:
    """The senders of the current members of an audience."""
    if isinstance(audience, Crowd):
        return list(audience.values())
    return [connection.sender for connection in list(audience)]
