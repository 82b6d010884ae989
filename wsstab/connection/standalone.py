"""Standalone: a peer without the middleware, about which only one thing is known: whether a send succeeds.

Its heartbeat is the published JSON message. If the application never calls ``handle_pong()``, its clients seem never to
answer; they are not closed but left to TCP, with one warning.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from functools import partial
from time import monotonic
from typing import Any

import anyio

from ..close import VANISHED
from ..config import HeartbeatType, WebSocketConfig
from ..core.deadlines import Action, Deadlines
from ..core.frames import Outgoing
from ..core.lifecycle import Transition
from ..loop.services import Services
from ..loop.usercode import awaited, call
from ..payload import Payload, encode
from ..wires.standalone import DoubleWire
from ..wording import quoted, said
from .base import Owner
from .carrier import Carrier
from .connection import Connection
from .heartbeat import Heartbeat, default_message
from .peer import Peer
from .sender import Delivery, kind_and_size

__all__ = ["DoubleConnection", "DoublePeer"]

logger = logging.getLogger("wsstab")


class DoublePeer(Peer):
    """A peer behind an object with Starlette's coroutines.

    Args:
        owner: the hub.
        services: the services of the running event loop.
        config: the configuration of the manager.
        id: an id that is unique in the process.
        websocket: the object.

    Attributes:
        websocket: the object.
    """

    __slots__ = ("websocket",)

    def __init__(self, owner: Owner, services: Services, config: WebSocketConfig, *, id: str, websocket: Any) -> None:
        self.websocket = websocket
        super().__init__(owner, services, DoubleWire(websocket), config, id=id)
        self.connection = DoubleConnection(self)

    def make_carrier(self, can_deny: bool) -> Carrier:
        """Without a reader: there is nothing to read."""
        return Carrier(self, can_deny=can_deny)

    def make_heartbeat(self) -> Heartbeat:
        return DoubleHeartbeat(self)

    def open_now(self) -> None:
        """Open the peer at once: the handshake was completed by somebody else."""
        self.lifecycle.fire(Transition.ACCEPT)
        self.opens()

    async def measure(self, message: Payload) -> str | None:
        """Send and wait; ``None``, or why it failed. A peer whose send fails counts as gone."""
        if self.open and self.elsewhere():
            return None if self.hand_over(message) is Delivery.QUEUED else "the peer has left"
        failed = await self._deliver(message)
        if failed is None:
            outgoing = Outgoing(encode(message))
            if self.debug:
                self.trace("> %s of %d bytes:", *kind_and_size(outgoing))
            self.sender.messages += 1
            self.sender.bytes += outgoing.size
            self.sender.passed_at = monotonic()
            self.sender.data_at = self.services.timekeeper.read()
        return failed

    async def beat(self, message: Payload) -> None:
        """Send a heartbeat message, which does not count as traffic."""
        if self.debug:
            self.trace("%% heartbeat message:")
        await self._deliver(message)

    async def _deliver(self, message: Payload) -> str | None:
        if not self.open:
            return "the peer has left"
        assert isinstance(self.wire, DoubleWire)
        try:
            # The object has no backpressure that we could see, so a deadline is all there is.
            with anyio.fail_after(self.config.outbound.send_timeout):
                await awaited(self.wire.deliver(message))
        except Exception as failure:
            # A failed send is the only sign that such a peer has left.
            self.closing.begin(VANISHED, flush=False)
            return said(failure)
        return None

    async def post(self, message: Payload) -> None:
        """`measure`, for a task that nobody awaits."""
        await self.measure(message)

    def hand_over(self, message: Payload) -> Delivery:
        """Send from another event loop or thread."""
        post = partial(self.loop.spawn, self.post, message, context=self.wire.context)
        handed_over = self.loop.call_from_thread(post)
        return Delivery.QUEUED if handed_over else Delivery.GONE


class DoubleConnection(Connection):
    """What a handler holds of a `DoublePeer`."""

    __slots__ = ()

    async def send(self, message: Payload, key: Hashable = None) -> bool:
        """`Connection.send`, which also waits until the double has taken the message."""
        hash(key)
        # An error of the encoding is the caller's, and must not count as a failure of the peer.
        Outgoing(encode(message))
        peer = self._peer
        assert isinstance(peer, DoublePeer)
        return await peer.measure(message) is None


class DoubleHeartbeat(Heartbeat):
    """Sends application messages, and takes silence for death only if the peer has answered before."""

    __slots__ = ("_double",)

    def __init__(self, peer: DoublePeer) -> None:
        config, timekeeper = peer.config, peer.services.timekeeper
        deadlines = Deadlines(
            timekeeper.read(),
            heartbeat_interval=None if config.heartbeat_type is HeartbeatType.OFF else config.heartbeat_interval,
            heartbeat_timeout=config.heartbeat_timeout,
            idle_timeout=config.idle_timeout,
            max_age=config.max_connection_age,
        )
        super().__init__(peer, peer.carrier, peer.sender, deadlines)
        self._double = peer
        self.message = config.custom_heartbeat if config.custom_heartbeat is not None else default_message

    def schedule(self) -> None:
        """Schedule the next visit, but only after ``start()``: before that, nothing runs in the background."""
        if self._double.services.started and self._double.open:
            super().schedule()

    def visit(self, now: float) -> None:
        self._deadline = None
        self.deadlines.data_at = self._double.sender.data_at
        try:
            self.act(self.deadlines.decide(now), now)
        finally:
            if self._double.closing.close is None:
                self.schedule()

    def act(self, action: Action, now: float) -> None:
        if action is Action.DEAD and not self.answered:
            self._give_up()
        else:
            super().act(action, now)

    def beat(self) -> None:
        self._double.services.heartbeats_sent += 1
        self._ping_sent = self._double.loop.time()
        message = call(self.message) if callable(self.message) else self.message
        self._double.loop.spawn(self._double.beat, message, context=self._double.wire.context)

    def _give_up(self) -> None:
        self.deadlines.stop_heartbeat()
        if not self._double.owner.may_tell("never answered a heartbeat"):
            return
        logger.warning(
            "! %s never answered a heartbeat, left to TCP: call handle_pong() on a pong, or add the middleware",
            quoted(self._double.client_id),
            extra=self._double.log_fields(),
        )
