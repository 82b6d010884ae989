"""Peer: the other end of one WebSocket, as this package works with it, made of its parts.

The hub and the services of an event loop know peers. What a handler holds is the `wsstab.connection.connection`
of the peer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import proxy

from ..config import WebSocketConfig
from ..core.frames import Outgoing
from ..levels import is_heard
from .base import Owner, PeerBase, SecondLook
from .carrier import Carrier
from .closing import Closing
from .heartbeat import Heartbeat, deadlines_for
from .receiver import Receiver
from .sender import Delivery, Sender

if TYPE_CHECKING:
    from ..loop.services import Services
    from ..wires.base import Wire
    from .userdata import UserData

__all__ = ["Peer", "current_peer"]

logger = logging.getLogger("wsstab")

current_peer: ContextVar[Peer | None] = ContextVar("wsstab_connection", default=None)
"""The peer whose handler runs this code."""

LONGEST_PHASE = 0.5
"""Seconds over which the first pings of one moment are spread."""


class Peer(PeerBase):
    """The other end of one WebSocket.

    Args:
        owner: the hub.
        services: the services of the event loop that runs its call.
        wire: the wire that carries its bytes.
        config: the configuration of its path.
        id: the connection id, unique in the process.
        path: path of the request, without query string.
        address: the address under which it is counted; ``None`` if it is not known.
        can_deny: whether the server takes an HTTP response in place of the handshake.

    Attributes:
        connection: the `Connection` that its handler holds; ``None`` before it is made, and once its call has ended.
        accepts_broadcasts: whether broadcasts without a room reach it.
        chosen_id: the name that it takes when its handshake is complete.
        counted: whether it holds a place among the connections that a limit counts.
        data: what ``set_user_data()`` has put there; written by the evictor, which counts it.
        identified: monotonic time at which its client first connected; a client that reconnects keeps it.
        memory: bytes that are counted for it; written by the ledger.
        metadata: what was passed to ``connect()``.
        named: whether ``connect()`` or ``authorize`` gave it a name.
        rooms_joined: the rooms it is in; written by the registry.
        second_look: whether the endpoint has the guards that it came by.
        shard: the shard of its id; see `wsstab.core.registry.Registry`.
    """

    __slots__ = (
        "__weakref__",
        "accepts_broadcasts",
        "chosen_id",
        "connection",
        "counted",
        "data",
        "identified",
        "memory",
        "metadata",
        "named",
        "rooms_joined",
        "second_look",
        "shard",
    )

    carrier: Carrier
    sender: Sender
    heartbeat: Heartbeat
    receiver: Receiver
    closing: Closing

    def __init__(
        self,
        owner: Owner,
        services: Services,
        wire: Wire,
        config: WebSocketConfig,
        *,
        id: str,
        path: str = "",
        address: str | None = None,
        can_deny: bool = True,
    ) -> None:
        super().__init__(owner, services, wire, config, id=id, path=path, address=address)
        self.connection: Any = None
        self.metadata: dict[str, Any] | None = None
        self.chosen_id: str | None = None
        self.second_look: SecondLook | None = None
        self.named = self.counted = False
        self.accepts_broadcasts = config.broadcast
        self.identified = self.opened
        self.rooms_joined: set[str] | None = None
        self.shard = self.memory = 0
        self.data: UserData | None = None
        self.carrier = self.make_carrier(can_deny)
        self.sender = Sender(self)
        self.heartbeat = self.make_heartbeat()
        self.receiver = Receiver(self, self.carrier, self.heartbeat)
        self.closing = Closing(self, self.carrier, self.sender, self.heartbeat, self.receiver)

    def __repr__(self) -> str:
        outbound = self.lifecycle.outbound.name.lower()
        return f"<Peer {self.client_id} [{self.path} | {len(self.sender.queue)} queued | {outbound}]>"

    @property
    def is_awaited(self) -> bool:
        """Whether its handshake is not complete, and still can be."""
        return self.closing.close is None and not self.opened_at

    @property
    def last_traffic(self) -> float:
        """When an application message last passed, in monotonic seconds."""
        return self.sender.passed_at

    def make_carrier(self, can_deny: bool) -> Carrier:
        """The socket of this kind of peer."""
        delays = self.config.rate_limit is not None and self.config.rate_limit.action == "delay"
        return Carrier(self, can_deny=can_deny, reader_only=delays, readahead=self.services.readahead)

    def make_heartbeat(self) -> Heartbeat:
        """The heartbeat of this kind of peer."""
        deadlines = deadlines_for(self.config, self.wire, self.services.timekeeper.now)
        return Heartbeat(self, self.carrier, self.sender, deadlines)

    def deliver(self, message: Outgoing, key: Hashable) -> Delivery:
        """`Sender.deliver`, as a call for another event loop: it holds the peer until that loop has made it."""
        return self.sender.deliver(message, key)

    def traffic(self) -> dict[str, int]:
        """Its counters that a manager adds to its sums."""
        sender, receiver = self.sender, self.receiver
        return {
            "messages_received": receiver.messages,
            "bytes_received": receiver.bytes,
            "messages_sent": sender.messages,
            "bytes_sent": sender.bytes,
            "dropped_outbound": sender.queue.dropped,
            "dropped_inbound": receiver.dropped,
        }

    # The first and the last of the milestones of its life; the two between are decided by its closing.

    def opens(self) -> None:
        """The milestone ``opened``: the handshake is complete."""
        self.open = True
        self.opened_at = time.time()
        self.opened = self.identified = monotonic()
        # Before the hub lists the peer: a broadcast must find its sender open.
        self.sender.open()
        self.heartbeat.opens(self._phase())
        if self.subprotocol is not None or self.foreign:
            # The peer speaks a protocol of its own, and gets no message from us that its application has not asked for.
            self.accepts_broadcasts = False
            self.heartbeat.keep_out()
        self.heartbeat.schedule()
        self.owner.opened(self)
        self.carrier.opened()
        if is_heard(logger, logging.INFO):
            logger.info("= opened %s", self.log_name(), extra=self.log_fields())

    def release(self) -> None:
        """The milestone ``released``: its ASGI call has ended, whatever became of it.

        Synchronous, because nothing may be awaited any more. From now on its parts refer to it weakly: it and they
        would be a cycle, which only the garbage collector frees, much later, and with the loop standing. Whoever can
        reach a part holds the peer: a `wsstab.connection.handler.Handler`, a `Connection`, a task.
        """
        self.closing.abandon()
        self.owner.released(self)
        if self.debug:
            self.trace("= released:")
        self.connection = self.second_look = None
        weak: Peer = proxy(self)
        for part in (self.carrier, self.sender, self.heartbeat, self.receiver, self.closing):
            part.peer = weak

    def _phase(self) -> float:
        """Seconds by which the shard delays the first ping: what opened together must not beat together."""
        return self.shard / self.config.num_shards * min(LONGEST_PHASE, self.config.heartbeat_interval / 20)
