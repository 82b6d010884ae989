"""Delivery: who gets a message, and what became of it.

Peers on wires are served through the turn log and never waited for one by one. What merely looks
like a WebSocket, because no middleware runs around it, is awaited and measured. Peers of another
event loop are handed their message and count as queued.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable

import anyio

from ..config import WebSocketConfig
from ..connection import Connection, Delivery, DoubleConnection
from ..core.frames import Outgoing
from ..errors import BroadcastFailedError
from ..loop.services import Services
from ..loop.tasks import current_loop
from ..loop.turn_log import Entry
from ..payload import Payload, encode
from ..reports import MAX_ERRORS, BroadcastResult

__all__ = ["Courier", "lagging_of"]


class Tally:
    """Counts deliveries as they happen."""

    def __init__(self, total: int, recipients: int) -> None:
        self.total = total
        self.recipients = recipients
        self.failed = self.queued = self.dropped = 0
        self.errors: list[tuple[str, str]] = []

    def count(self, connection: Connection, delivery: Delivery) -> None:
        """Note what became of one delivery that was not simply sent."""
        if delivery is Delivery.QUEUED:
            self.queued += 1
        elif delivery is Delivery.DROPPED:
            self.dropped += 1
            self.fail(connection, "dropped: slow consumer")
        elif delivery is Delivery.CLOSED:
            self.dropped += 1
            self.fail(connection, "closed: slow consumer")
        elif delivery is Delivery.GONE:
            self.fail(connection, "the peer has left")

    def fail(self, connection: Connection, why: str) -> None:
        """Note a failure."""
        self.failed += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append((connection.client_id, why))

    def result(self) -> BroadcastResult:
        """What became of all.

        Raises:
            BroadcastFailedError: not one delivery succeeded, of an audience that is not empty.
        """
        succeeded = self.recipients - self.failed
        result = BroadcastResult(self.total, succeeded, self.failed, self.errors, self.queued, self.dropped)
        if self.failed == self.total > 0:
            raise BroadcastFailedError(result)
        return result


class Courier:
    """Delivers messages for a manager.

    Args:
        config: of the manager.
        only_services: the services of the running event loop, when all connections are on it, else ``None``.
        observe: where latencies go, by name.

    Attributes:
        broadcasts: how many there were.
        doubles: connections that must be awaited and measured.
    """

    def __init__(
        self,
        config: WebSocketConfig,
        only_services: Callable[[], Services | None],
        observe: Callable[[str, float], None],
    ) -> None:
        self._config = config
        self._observe = observe
        self._only_services = only_services
        self.broadcasts = 0
        self.doubles: set[DoubleConnection] = set()

    async def broadcast(
        self, message: Payload, audience: Collection[Connection], excluded: Iterable[Connection], key: Hashable
    ) -> BroadcastResult:
        """One message for many.

        Raises:
            BroadcastFailedError: not one delivery succeeded, of an audience that is not empty.
            TypeError: ``key`` is not hashable.
        """
        # Here, where it is the caller's: the writer for all would stumble over it.
        hash(key)
        self.broadcasts += 1
        left_out = frozenset(connection for connection in excluded if connection in audience)
        tally = Tally(len(audience), len(audience) - len(left_out))
        doubles = {double for double in self.doubles if double in audience}
        services = self._only_services()
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
        for connection in behind:
            turn_log.catch_up(connection)
        turn_log.append(entry)
        for connection in behind:
            # Who is behind is served at once, because only the queue knows the verdict.
            verdict = Delivery.GONE
            if connection.open:
                connection.sender.cursor = turn_log.end
                verdict = connection.sender.put(entry.message, entry.key)
            tally.count(connection, verdict)
        if turn_log.crowded:
            await turn_log.idle()
        if behind:
            await backpressure.pace(behind)

    def _one_by_one(
        self,
        message: Outgoing,
        audience: Collection[Connection],
        left_out: Collection[Connection],
        key: Hashable,
        tally: Tally,
    ) -> None:
        here = current_loop()
        for connection in list(audience):
            if connection in left_out:
                continue
            if connection.loop is here:
                tally.count(connection, connection.sender.deliver(message, key))
            elif connection.loop.call_from_thread(connection.deliver, message, key):
                tally.count(connection, Delivery.QUEUED)
            else:
                tally.count(connection, Delivery.GONE)

    async def _measure_all(self, message: Payload, doubles: Iterable[DoubleConnection], tally: Tally) -> None:
        limiter = anyio.CapacityLimiter(self._config.max_concurrent_broadcast)

        async def measure(connection: DoubleConnection) -> None:
            async with limiter:
                if connection.open and connection.elsewhere():
                    tally.count(connection, connection.hand_over(message))
                    return
                why = await connection.measure(message)
            if why is not None:
                tally.fail(connection, why)

        began = current_loop().time()
        async with anyio.create_task_group() as group:
            for connection in doubles:
                group.start_soon(measure, connection)
        self._observe("broadcast", current_loop().time() - began)


def lagging_of(services: Services) -> list[Connection]:
    """The connections of an event loop that are behind."""
    # To the services of a loop they are members; a hub knows what it has put there.
    return [each for each in services.backpressure.lagging if isinstance(each, Connection)]
