"""Delivery: which peers get a message, and what became of it.

Peers behind the middleware get broadcasts through the turn log; nobody waits for them one by one. Doubles, which stand
behind an object with Starlette's coroutines, are awaited one by one. A message for a peer on another event loop is
handed over to that loop and counts as queued.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable

import anyio

from ..config import WebSocketConfig
from ..connection import Delivery, DoublePeer, Peer, connection_of
from ..core.frames import Outgoing
from ..core.registry import Registry
from ..errors import BroadcastFailedError
from ..loop.services import Services
from ..loop.tasks import current_loop
from ..loop.turn_log import Entry
from ..payload import Payload, encode
from ..reports import MAX_ERRORS, BroadcastResult
from .doubles import Doubles
from .loops import Loops

__all__ = ["Courier", "lagging_of"]


class Tally:
    """Counts the deliveries of one broadcast."""

    def __init__(self, total: int, recipients: int) -> None:
        self.total = total
        self.recipients = recipients
        self.failed = self.queued = self.dropped = 0
        self.errors: list[tuple[str, str]] = []

    def count(self, peer: Peer, delivery: Delivery) -> None:
        """Count a delivery that was not simply sent."""
        if delivery is Delivery.QUEUED:
            self.queued += 1
        elif delivery is Delivery.DROPPED:
            self.dropped += 1
            self.fail(peer, "dropped: slow consumer")
        elif delivery is Delivery.CLOSED:
            self.dropped += 1
            self.fail(peer, "closed: slow consumer")
        elif delivery is Delivery.GONE:
            self.fail(peer, "the peer has left")

    def fail(self, peer: Peer, why: str) -> None:
        """Count a failed delivery."""
        self.failed += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((peer.client_id, why))

    def result(self) -> BroadcastResult:
        """The result of the broadcast.

        Raises:
            BroadcastFailedError: the audience is not empty, and no delivery succeeded.
        """
        succeeded = self.recipients - self.failed
        result = BroadcastResult(self.total, succeeded, self.failed, self.errors, self.queued, self.dropped)
        if self.failed == self.total > 0:
            raise BroadcastFailedError(result)
        return result


class Courier:
    """Delivers messages for a manager.

    Args:
        config: the configuration of the manager.
        registry: the open peers, with their names and rooms.
        loops: the services of each event loop.
        doubles: the peers that must be awaited.
        observe: receives the name and the seconds of a latency.

    Attributes:
        broadcasts: broadcasts so far.
    """

    def __init__(
        self,
        config: WebSocketConfig,
        registry: Registry[Peer],
        loops: Loops,
        doubles: Doubles,
        observe: Callable[[str, float], None],
    ) -> None:
        self._config = config
        self._registry = registry
        self._loops = loops
        self._doubles = doubles
        self._observe = observe
        self.broadcasts = 0

    async def send(self, client_id: str, message: Payload, key: Hashable) -> bool:
        """Send a message to a client; whether at least one of its peers was sent it, or has it queued."""
        peers = self._registry.find_all(client_id)
        answers = [await connection_of(peer).send(message, key) for peer in peers]
        return any(answers)

    async def send_to_all(
        self, message: Payload, room: str | None, excluded: Iterable[str], key: Hashable
    ) -> BroadcastResult:
        """Send a message to everyone, or to a room, except for some clients."""
        audience = self._registry.audience if room is None else self._registry.members(room)
        left_out = [peer for name in excluded for peer in self._registry.find_all(name)]
        return await self.broadcast(message, audience, left_out, key)

    async def send_to_clients(self, client_ids: Iterable[str], message: Payload, key: Hashable) -> BroadcastResult:
        """Send a message to these clients."""
        # A set, because a client id may be named twice.
        audience = {peer for name in client_ids for peer in self._registry.find_all(name)}
        return await self.broadcast(message, audience, (), key)

    async def broadcast(
        self, message: Payload, audience: Collection[Peer], excluded: Iterable[Peer], key: Hashable
    ) -> BroadcastResult:
        """Send a message to an audience.

        Raises:
            BroadcastFailedError: the audience is not empty, and no delivery succeeded.
            TypeError: ``key`` is not hashable.
        """
        # Fail here, in the call that is wrong: later it would fail the writer, and with it other broadcasts.
        hash(key)
        self.broadcasts += 1
        left_out = frozenset(peer for peer in excluded if peer in audience)
        # Counted before the first delivery: the audience is live, and a peer that is closed by it leaves.
        tally = Tally(len(audience), len(audience) - len(left_out))
        doubles = {double for double in self._doubles.peers if double in audience}
        services = self._loops.only()
        outgoing = Outgoing(encode(message))
        if len(doubles) < len(audience):
            if services is None:
                self._one_by_one(outgoing, audience, left_out | doubles, key, tally)
            else:
                await self._log(services, Entry(outgoing, audience, left_out | doubles, key), tally)
        if doubles:
            await self._measure_all(message, doubles - left_out, tally)
        return tally.result()

    async def _log(self, services: Services, entry: Entry, tally: Tally) -> None:
        turn_log, backpressure = services.turn_log, services.backpressure
        behind = [c for c in lagging_of(services) if entry.concerns(c)] if backpressure.lagging else []
        for peer in behind:
            # Earlier entries go first, to keep the order.
            turn_log.catch_up(peer)
        turn_log.append(entry)
        for peer in behind:
            # A peer that is behind gets its copy now, because only its queue knows whether the message fits.
            verdict = Delivery.GONE
            if peer.open:
                peer.sender.cursor = turn_log.end
                verdict = peer.sender.put(entry.message, entry.key)
            tally.count(peer, verdict)
        if turn_log.crowded:
            await turn_log.idle()
        if behind:
            await backpressure.pace(behind)

    def _one_by_one(
        self,
        message: Outgoing,
        audience: Collection[Peer],
        left_out: Collection[Peer],
        key: Hashable,
        tally: Tally,
    ) -> None:
        here = current_loop()
        for peer in list(audience):
            if peer in left_out:
                continue
            if peer.loop is here:
                tally.count(peer, peer.sender.deliver(message, key))
            elif peer.loop.call_from_thread(peer.deliver, message, key):
                tally.count(peer, Delivery.QUEUED)
            else:
                tally.count(peer, Delivery.GONE)

    async def _measure_all(self, message: Payload, doubles: Iterable[DoublePeer], tally: Tally) -> None:
        limiter = anyio.CapacityLimiter(self._config.max_concurrent_broadcast)

        async def measure(peer: DoublePeer) -> None:
            async with limiter:
                if peer.open and peer.elsewhere():
                    tally.count(peer, peer.hand_over(message))
                    return
                why = await peer.measure(message)
            if why is not None:
                tally.fail(peer, why)

        began = current_loop().time()
        async with anyio.create_task_group() as group:
            for peer in doubles:
                group.start_soon(measure, peer)
        self._observe("broadcast", current_loop().time() - began)


def lagging_of(services: Services) -> list[Peer]:
    """The peers of an event loop that are behind."""
    # The services know their members by a Protocol only; this narrows the type.
    return [each for each in services.backpressure.lagging if isinstance(each, Peer)]
