"""Connection: what a handler holds of its peer, and all that is promised of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Generator, Hashable, Mapping
from typing import Any, cast

from ..close import CloseCode, requested
from ..core.frames import Outgoing
from ..errors import PeerGoneError
from ..events import ConnectionClosed
from ..loop.tasks import current_loop
from ..payload import Payload, encode
from ..reports import ConnectionStatistics
from ..types import Itself
from .peer import Peer, current_peer
from .sender import Delivery
from .userdata import UserData

__all__ = ["Connection", "connection_of"]

NO_DATA: Mapping[str, Any] = UserData()


class Connection(Itself):
    """One WebSocket peer.

    Made by the middleware, or by ``manager.connect()`` where there is none; handlers find theirs at
    ``websocket.state.connection``.
    """

    __slots__ = ("__weakref__", "_peer")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __eq__(self, other: object) -> bool:
        # Once the call has ended, the peer no longer refers to this object, and `connection_of` makes another one.
        return isinstance(other, Connection) and other._peer is self._peer

    def __hash__(self) -> int:
        return hash(self._peer)

    def __repr__(self) -> str:
        peer = self._peer
        outbound = peer.lifecycle.outbound.name.lower()
        return f"<Connection {peer.client_id} [{peer.path} | {len(peer.sender.queue)} queued | {outbound}]>"

    @property
    def id(self) -> str:
        """The connection id, unique in the process."""
        return self._peer.id

    @property
    def client_id(self) -> str:
        """The name ``connect()`` or ``authorize`` gave it; the id until then, and until it is accepted."""
        return self._peer.client_id

    @property
    def path(self) -> str:
        """Path of the request, without query string."""
        return self._peer.path

    @property
    def address(self) -> str | None:
        """Address of the peer; behind trusted proxies, the forwarded address; ``None`` if it is not known."""
        return self._peer.address

    @property
    def opened_at(self) -> float:
        """Time at which the handshake was completed, in seconds since 1970; 0 before."""
        return self._peer.opened_at

    @property
    def metadata(self) -> dict[str, Any]:
        """What was passed to ``connect()``."""
        peer = self._peer
        if peer.metadata is None:
            peer.metadata = {}
        return peer.metadata

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms it is in."""
        return frozenset(self._peer.rooms_joined or ())

    @property
    def user_data(self) -> Mapping[str, Any]:
        """What ``set_user_data()`` put here; a read-only view."""
        data = self._peer.data
        return data if data is not None else NO_DATA

    @property
    def closed(self) -> Awaitable[ConnectionClosed]:
        """An awaitable that waits for the end and returns the `ConnectionClosed` event; on any loop, repeatedly."""
        return Closed(self._peer)

    @property
    def latency(self) -> float | None:
        """Seconds between the last ping and its pong, ``None`` before the first."""
        return self._peer.heartbeat.latency

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop: finish what you are doing."""
        return self._peer.services.draining

    @property
    def last_activity(self) -> float:
        """When an application message last passed, in seconds since 1970; exact to a tenth of a second."""
        peer = self._peer
        idle = peer.services.timekeeper.now - peer.sender.data_at
        return max(peer.opened_at, time.time() - max(idle, 0.0)) if peer.opened_at else 0.0

    async def send(self, message: Payload, key: Hashable = None) -> bool:
        """Send one message.

        From the connection's own handler it waits for room, as ``websocket.send_text`` does; from
        anywhere else it is paced for 0.5 s at most while the queue is over three quarters full.

        Args:
            message: ``str`` and ``bytes`` as they are; ``dict``, ``list`` and pydantic models as JSON text.
            key: under the policy ``latest``, replaces an unsent message of the same key.

        Returns:
            Whether it was handed over or queued.

        Raises:
            TypeError: not a message, or ``key`` is not hashable.
        """
        # Under every policy, so that a mistake does not show only when the policy is changed.
        hash(key)
        peer, outgoing = self._peer, Outgoing(encode(message))
        sender = peer.sender
        if current_loop() is not peer.loop:
            # Nobody waits for the other loop: a message that was handed over counts as queued.
            return peer.open and peer.loop.call_from_thread(peer.deliver, outgoing, key)
        if current_peer.get() is peer:
            try:
                await sender.send(outgoing, key)
            # Callers get an answer instead of an error, also before accept and after the handler's own close.
            except (PeerGoneError, RuntimeError):
                return False
            return True
        delivery = sender.deliver(outgoing, key)
        if sender.crowded:
            await peer.services.backpressure.pace([peer])
        return delivery in (Delivery.SENT, Delivery.QUEUED)

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connection, after all messages sent before. Does nothing if a close has begun.

        Args:
            code: close code; one that may not be sent is replaced by the nearest one that may (RFC 6455 section 7.4).
            reason: cut to 123 bytes of UTF-8.
        """
        closing = self._peer.closing
        closing.begin(requested(code, reason))
        await closing.latch.wait()

    async def join(self, room: str) -> None:
        """Enter a room; being in it already is fine. A connection that is not accepted yet enters it at accept."""
        await self._peer.owner.enter(self._peer, room)

    async def leave(self, room: str) -> None:
        """Leave a room; not being in it is fine."""
        await self._peer.owner.exit(self._peer, room)

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of its counters."""
        peer = self._peer
        return ConnectionStatistics(
            **peer.traffic(),
            queued_messages=len(peer.sender.queue),
            queued_bytes=peer.sender.queue.bytes,
            unread_messages=len(peer.receiver.inbox),
            unread_bytes=peer.receiver.inbox.bytes,
            memory=peer.memory,
            latency=self.latency,
        )


class Closed:
    """Awaits the end of a connection; see `Connection.closed`."""

    __slots__ = ("_peer",)

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def __await__(self) -> Generator[Any, Any, ConnectionClosed]:
        closing = self._peer.closing
        yield from closing.latch.wait().__await__()
        assert closing.event is not None
        if current_peer.get() is self._peer:
            self._peer.receiver.end_told = True
        return closing.event


def connection_of(peer: Peer) -> Connection:
    """What users see of a peer, the same object each time while its call runs."""
    if peer.connection is not None:
        return cast("Connection", peer.connection)
    connection = Connection(peer)
    if peer.closing.event is None:
        # Once it has closed, nothing would break the cycle of the two again.
        peer.connection = connection
    return connection
