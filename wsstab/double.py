"""A connection without the middleware: what is known of it is whether a send succeeds.

Its heartbeat is the published JSON message. An application that never calls ``handle_pong()`` has a
client that seems never to answer; that one is not killed but left to TCP, with one warning.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import anyio

from .carrier import Carrier
from .close import VANISHED
from .config import WebSocketConfig
from .connection import Connection, Delivery, Owner, default_heartbeat
from .core.deadlines import Action, Deadlines
from .core.lifecycle import Event as Happening
from .options import HeartbeatType
from .payload import Payload
from .services import Services
from .tasks import current_loop
from .wires.double import DoubleWire

__all__ = ["DoubleConnection"]

logger = logging.getLogger("wsstab")


class DoubleConnection(Connection):
    """A peer behind an object with Starlette's coroutines.

    Args:
        owner: the manager.
        services: of the running event loop.
        config: of the manager.
        connection_id: unique in the process.
        websocket: the object.

    Attributes:
        websocket: the object.
    """

    __slots__ = ("_message", "websocket")

    def __init__(
        self, owner: Owner, services: Services, config: WebSocketConfig, connection_id: str, websocket: Any
    ) -> None:
        self.websocket = websocket
        super().__init__(owner, services, Carrier(DoubleWire(websocket), services.loop), config, id=connection_id)
        services.timekeeper.read()
        on = config.heartbeat_type is not HeartbeatType.OFF
        self.deadlines = Deadlines(
            services.timekeeper.now,
            heartbeat_interval=config.heartbeat_interval if on else None,
            heartbeat_timeout=config.heartbeat_timeout,
            idle_timeout=config.idle_timeout,
            max_age=config.max_connection_age,
        )
        self._message = config.custom_heartbeat if config.custom_heartbeat is not None else default_heartbeat

    def open_now(self) -> None:
        """Register it: its handshake was none of ours."""
        self.lifecycle.fire(Happening.ACCEPT)
        self._opened()

    def start_heartbeat(self) -> None:
        """Begin to send heartbeats, once ``start()`` was called."""
        if self._deadline is None and self.open:
            self.schedule()

    def schedule(self) -> None:
        if self.services.started:
            super().schedule()

    def visit(self, now: float) -> None:
        self._deadline = None
        action = self.deadlines.decide(now)
        if action is Action.PING:
            self.services.heartbeats_sent += 1
            self._ping_sent = self.loop.time()
            self.loop.spawn(self._beat)
        elif action is Action.DEAD and not self.ever_answered:
            self._give_up_heartbeat()
        elif action is Action.DEAD:
            self._dead(now)
        elif action is not Action.NOTHING:
            self.expire(action)
        if self.ending is None:
            self.schedule()

    def pong(self, payload: bytes) -> None:
        super().pong(payload)
        self.last_traffic = monotonic()

    def hand_over(self, message: Payload) -> Delivery:
        """Send from another loop or thread."""
        if not self.loop.call_from_thread(self.loop.spawn, self._post, message):
            return Delivery.GONE
        return Delivery.QUEUED

    async def measure(self, message: Payload) -> str | None:
        """Send and wait; ``None``, or why it failed. One that fails counts as gone.

        Raises:
            TypeError: not a message.
        """
        if not self.open:
            return "the peer has left"
        if current_loop() is not self.loop:
            return None if self.hand_over(message) is Delivery.QUEUED else "the peer has left"
        assert isinstance(self.wire, DoubleWire)
        try:
            with anyio.fail_after(self.config.outbound.send_timeout):
                await self.wire.deliver(message)
        except TypeError:
            raise
        except Exception as failure:
            self.begin_close(VANISHED, flush=False)
            return str(failure) or type(failure).__name__
        self.messages_sent += 1
        self.deadlines.data_at = self.services.timekeeper.read()
        self.last_traffic = monotonic()
        return None

    async def _post(self, message: Payload) -> None:
        await self.measure(message)

    async def _beat(self) -> None:
        message = self._message() if callable(self._message) else self._message
        await self.measure(message)

    def _give_up_heartbeat(self) -> None:
        self.deadlines.stop_heartbeat()
        logger.warning(
            "! never answered a heartbeat, left to TCP: call handle_pong() on a pong, or add the middleware",
            extra=self.log_fields(),
        )
