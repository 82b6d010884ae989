"""Hub: composes the parts of a manager, and has a method for each milestone in the life of a peer.

It may be used from any event loop; test clients use it from several at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from time import monotonic
from typing import Protocol

from ..close import Close
from ..config import Drain, WebSocketConfig
from ..connection import DoublePeer, Peer
from ..core.limits import Admission
from ..core.memory import Ledger
from ..core.registry import Registry
from ..events import ConnectionOpened, Event, LimitHit
from ..loop.lingering import Lingering, Place
from ..loop.services import Services
from ..notices import Notices
from ..reports import ShutdownReport, Statistics
from ..signals import forget_signals
from ..types import Itself
from .counters import Counters
from .delivery import Courier, lagging_of
from .doubles import Doubles
from .drain import Drainer, PartOfServer
from .eviction import Evictor, estimate_of
from .loops import Loops
from .names import Clients
from .rooms import Rooms
from .serving import ServingServer
from .subscribers import Subscribers
from .tokens import TokenDesk
from .unfinished import UnfinishedMessages, seconds_between_looks

__all__ = ["Hub"]

HOOKS_TIMEOUT = 2.0
"""Seconds that a drain waits for async callbacks of the last closes."""
SWEEP_EVERY = 300.0
"""Seconds between two sweeps of the used tokens."""


class Manager(Protocol):
    """What a hub asks of the manager in front of it."""

    async def drain(self) -> ShutdownReport:
        """Refuse new connections, and close the open ones in batches."""


class Hub(Itself):
    """All peers of one application in this process, and the parts that work on them.

    Args:
        config: the frozen configuration.
        manager: the manager in front of this hub; the middleware puts it into the scope.

    Attributes:
        registry: the open peers, with their names and rooms.
        ledger: counts the memory of each peer.
        admission: counts the places that are taken.
        calls: the peers whose ASGI call is running.
        servers: the servers that serve the application.
        has_middleware: whether the middleware stands around the application.
        is_draining: whether new connections are refused.
    """

    def __init__(self, config: WebSocketConfig, manager: Manager) -> None:
        self.config = config
        self.manager = manager
        self.registry: Registry[Peer] = Registry(config.num_shards)
        self.ledger: Ledger[Peer] = Ledger(config.memory_eviction_policy.value)
        self.admission = Admission(config.max_connections, config.max_connections_per_address)
        self.calls: set[Peer] = set()
        self.servers: set[ServingServer] = set()
        self.has_middleware = False
        self.notices = Notices()
        self.counters = Counters(("ping", "broadcast") if config.enable_metrics else ())
        self.subscribers = Subscribers(config.hooks, self.may_tell)
        self.tokens = TokenDesk(config, self.emit)
        self.evictor = Evictor(config, self.ledger, self.emit, self.may_tell)
        self.lingering = Lingering(self._free)
        self.loops = Loops(config, self.observe, self.lingering, self.counters.retire)
        self.rooms = Rooms(self.registry)
        self.clients = Clients(self, self.registry, self.ledger, self.rooms, self.evictor, self.emit)
        self.doubles = Doubles()
        self.courier = Courier(config, self.registry, self.loops, self.doubles, self.observe)
        self._drainer = Drainer(self)
        self._starts = 0
        self._next_id = 0
        self.loops.every(lambda: config.memory_check_interval, self._recount)
        self.loops.every(lambda: SWEEP_EVERY, lambda services: self.tokens.sweep())
        # Not now: endpoints with limits of their own may be defined after the manager.
        self.loops.every(lambda: seconds_between_looks(config), UnfinishedMessages(self.registry).look)

    def peers(self) -> list[Peer]:
        """The open peers."""
        return list(self.registry)

    # Life of the manager.

    def start(self) -> None:
        """Start the services of this event loop; counted, see ``manager.start()``."""
        self._starts += 1
        services = self.loops.here()
        services.started = True
        self.loops.drain(False)
        for peer in list(self.doubles.peers):
            if peer.services is services:
                peer.heartbeat.schedule()

    @property
    def is_draining(self) -> bool:
        """Whether new connections are refused."""
        return self.loops.draining

    async def drain(self, plan: Drain | None = None) -> ShutdownReport:
        """Refuse new connections, and close all there are, in batches; ``None``: ``config.drain``."""
        self.loops.drain(True)
        report = await self._drainer.drain(plan if plan is not None else self.config.drain)
        await self.subscribers.idle(HOOKS_TIMEOUT)
        return report

    async def drain_before_stop(self) -> ShutdownReport:
        """The server was told to stop: drain through the manager, because an application may override its drain."""
        return await self.manager.drain()

    def hurry(self) -> None:
        """End the running drain as if its time were over: abort connections, cancel handlers."""
        self._drainer.hurry()

    async def shut_down(self, timeout: float) -> ShutdownReport:
        """Close all at once and stop; see ``manager.graceful_shutdown()``."""
        # First, because a timeout that is not allowed must raise before anything is closed.
        plan = self._unpaced(timeout)
        self.loops.drain(True)
        report = await self._drainer.drain(plan, paced=False)
        await self.subscribers.idle(min(timeout, HOOKS_TIMEOUT))
        self._starts = max(self._starts - 1, 0)
        self.loops.drain(False)
        if self._starts == 0:
            self.subscribers.cancel()
            forget_signals(self)
            self.notices.tell_left_out()
            self.loops.stop()
        return report

    async def stop_server(self, server: ServingServer, timeout: float) -> None:
        """Close the connections of one server that stops while others go on serving.

        Args:
            server: the server that stops.
            timeout: seconds until open connections are aborted and their handlers cancelled.
        """
        server.stopping = True
        self._starts = max(self._starts - 1, 0)
        await Drainer(PartOfServer(self, server)).drain(self._unpaced(timeout), paced=False)

    def _unpaced(self, timeout: float) -> Drain:
        plan = self.config.drain
        return Drain(timeout=timeout, code=plan.code, reason=plan.reason, handle_signals=False)

    # The life of a peer: it is enrolled, then reaches the four milestones.

    def next_id(self) -> str:
        """An id for a peer."""
        self._next_id += 1
        return f"c{self._next_id:x}-{id(self) & 0xFFFF:04x}{time.time_ns() & 0xFFFFFF:06x}"

    def enrol(self, peer: Peer) -> None:
        """Count a new peer, which has a place already; `released` must follow."""
        peer.shard = self.registry.shard_of(peer.id)
        peer.services.connections += 1
        peer.services.carried += peer.wire.readable
        peer.counted = True
        if not isinstance(peer, DoublePeer):
            self.calls.add(peer)
        if peer.chosen_id is not None:
            self.clients.expect(peer, peer.chosen_id)

    def opened(self, peer: Peer) -> None:
        """The handshake of a peer is complete: list it."""
        self.registry.add(peer)
        self.ledger.add(peer)
        self.counters.opened += 1
        if peer.accepts_broadcasts:
            self.registry.listen(peer)
        if self.subscribers.wants(ConnectionOpened):
            self.emit(ConnectionOpened(peer.id, peer.client_id, peer.path, peer.address, peer.subprotocol))
        # What was kept with the peer before its accept is counted only now, when the ledger knows the peer.
        if peer.metadata or peer.data is not None:
            self.charge(peer, estimate_of(peer))
        if peer.rooms_joined is not None:
            self.rooms.listen(peer)
        self.clients.opened(peer)

    def closing(self, peer: Peer) -> None:
        """A peer gets no more messages: take it off the lists."""
        self.registry.remove(peer)
        self.ledger.remove(peer)
        self.counters.closing(peer)
        if peer.named and peer.counted:
            self.clients.leaves(peer.client_id)
        if isinstance(peer, DoublePeer):
            self.doubles.forget(peer)
            # No ASGI call ends for a double, and its close may take long: its place is free now.
            self.released(peer)

    def closed(self, peer: Peer) -> None:
        """A peer has closed: its counters are final."""
        self.counters.over(peer)

    def released(self, peer: Peer) -> None:
        """The ASGI call of a peer has ended: its place becomes free as soon as its socket is gone."""
        peer.services.carried -= peer.wire.readable
        self.calls.discard(peer)
        peer.counted = False
        self.clients.expect_no_more(peer)
        self.lingering.leave_place(peer.wire, (peer.address, peer.client_id if peer.named else None))
        self.loops.leave(peer.services)

    def _free(self, place: Place) -> None:
        address, client_id = place
        self.admission.release(address)
        if client_id is not None:
            self.clients.has_left(client_id)

    # What peers ask of their hub.

    def charge(self, peer: Peer, delta: int) -> None:
        """Count memory of a peer, and evict if a limit is exceeded."""
        self.evictor.charge(peer, delta)

    def emit(self, event: Event) -> None:
        """Call the subscribers of an event."""
        if isinstance(event, LimitHit):
            self.counters.refused[event.limit] += 1
        self.subscribers.emit(event)

    def observe(self, name: str, seconds: float) -> None:
        """Note a latency."""
        self.counters.observe(name, seconds)

    def missed(self) -> None:
        """Count a message for a peer that had closed."""
        self.counters.missed()

    def warn_once(self, key: str, line: str, *args: object, by_peers: bool = False) -> None:
        """Log a warning the first time its key is used; at most a hundred different keys.

        Args:
            key: identifies the warning.
            line: the sentence, as a format.
            args: the arguments of the format.
            by_peers: whether peers can choose the key: then its first word has a budget of a few lines a minute.
        """
        tell = self.notices.of_peers if by_peers else self.notices.once
        tell(key, line, *args)

    def may_tell(self, kind: str, level: int = logging.WARNING) -> bool:
        """Whether one more line that peers can cause may be logged now: a few of each kind a minute."""
        return self.notices.may_tell(kind, level)

    def promise(self, peer: Peer, client_id: str) -> Close | None:
        """Note a name that a peer takes at accept, or say why it may not have it."""
        return self.clients.promise(peer, client_id)

    async def enter(self, peer: Peer, room: str) -> None:
        """Put a peer into a room."""
        self.rooms.enter(peer, room)

    async def exit(self, peer: Peer, room: str) -> None:
        """Take a peer out of a room."""
        self.rooms.exit(peer, room)

    def cut_lingering(self) -> None:
        """Abort TCP connections whose WebSocket has closed but whose peer reads nothing."""
        self.lingering.cut()

    async def close_all(self, peers: list[Peer] | tuple[Peer, ...], close: Close) -> None:
        """Close these peers, and wait until all are closed."""
        for peer in peers:
            peer.closing.begin(close)
        for peer in peers:
            await peer.closing.latch.wait()

    def lagging(self) -> Iterator[Peer]:
        """The peers that are behind, on all event loops."""
        for services in self.loops:
            yield from lagging_of(services)

    def statistics(self) -> Statistics:
        """A snapshot of all counters."""
        lagging = list(self.lagging())
        return Statistics(
            **self.counters.snapshot(self.registry, self.loops),
            connections=len(self.registry),
            rooms=self.registry.room_count,
            broadcasts=self.courier.broadcasts,
            queued_bytes=sum(peer.sender.queue.bytes for peer in lagging),
            slow_consumers=len(lagging),
            evicted=self.evictor.evicted,
            memory=self.ledger.total,
            draining=self.is_draining,
        )

    def _recount(self, services: Services) -> None:
        self.notices.tell_left_out(monotonic())
        ours = [each for each in self.registry if each.services is services and each.data is not None]
        self.evictor.recount(ours, services.loop)
