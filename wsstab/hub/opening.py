"""Opening: gives an incoming WebSocket its peer, or a refusal."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel

from ..close import DRAINING, Close
from ..config import CompressionMode, HeartbeatType, WebSocketConfig
from ..connection import Handler, Peer, connection_of
from ..connection.carrier import denial
from ..loop.tasks import begins_in_creator
from ..routes.routing import Routing
from ..signals import watch_signals
from ..types import PEER_KEY, Receive, Scope, Send
from ..wires import wire_for
from ..wires.base import Wire
from ..wires.departure import promises_an_error
from .door import Door, Guest
from .hub import Hub
from .plain import tell_of_plain
from .scopes import is_engine_io, keep, taken
from .second_look import SecondLook, admits
from .serving import ServingServer, server_of

__all__ = ["Opening"]


class Opening:
    """Opens WebSockets.

    Args:
        hub: the hub that the peers belong to.
        routing: finds the options and the guards of a path.
        connection_key: where in ``scope["state"]`` handlers find their `Connection`.

    Attributes:
        wire_for: chooses the wire of a call, see `wsstab.wires.wire_for`.
    """

    def __init__(self, hub: Hub, routing: Routing, connection_key: str) -> None:
        self._hub = hub
        self._routing = routing
        self._connection_key = connection_key
        self._door = Door(hub)
        self.wire_for: Callable[[Scope, Receive, Send], Wire] = wire_for

    async def open(self, scope: Scope, receive: Receive, send: Send) -> Handler | None:
        """Let a WebSocket in, or refuse it.

        Args:
            scope: the scope of its handshake.
            receive: the server's ``receive``.
            send: the server's ``send``.

        Returns:
            The handler's side of the new peer; ``None`` if the WebSocket was refused, and has been answered.
        """
        # Under an eager task factory this call runs inside the function of the server that creates it. Some servers
        # have not finished their own objects by then: daphne's is not recognised, and a refusal fails.
        if begins_in_creator():
            await anyio.lowlevel.checkpoint()
        watch_signals(self._hub, send)
        entrance = self._routing.entrance(scope)
        terms = self._routing.plain if entrance is None else entrance.terms()
        config = terms.config
        wire = self.wire_for(scope, receive, send)
        can_deny = "websocket.http.response" in (scope.get("extensions") or {})
        server = server_of(scope)
        if server is not None and server.stopping:
            admitted: Guest | Close = DRAINING
        else:
            admitted = await self._door.admit(scope, config, wire.peer_address(), terms)
            if server is not None and server.stopping and isinstance(admitted, Guest):
                # The guards may have taken long.
                self._hub.admission.release(admitted.address)
                admitted = DRAINING
        if isinstance(admitted, Close):
            for event in denial(admitted, can_deny):
                await wire.deny(event)
            return None
        try:
            told = tell_of_plain(self._hub, wire, config, scope, send)
            self._prepare(wire, config, told)
            peer = self._peer(scope, wire, config, admitted, can_deny, server)
            if entrance is not None:
                look = peer.second_look = SecondLook(peer, terms)
                look.add(entrance, self._door)
            handler = Handler(peer, promises_an_error(scope, send))
        except BaseException:
            self._hub.admission.release(admitted.address)
            raise
        # Last, when nothing can fail any more: from here on, the end of the call gives the place back.
        self._hub.enrol(peer)
        if peer.debug:
            peer.trace("< handshake:")
        return handler

    async def admits(self, outer: Peer, scope: Scope) -> bool:
        """Whether the guards of this stabilizer also let in a peer of an outer one; if not, it has been answered.

        Args:
            outer: the peer of the outer stabilizer.
            scope: the scope as it arrives here.
        """
        return await admits(outer, self._routing, self._door, scope)

    def _peer(
        self,
        scope: Scope,
        wire: Wire,
        config: WebSocketConfig,
        guest: Guest,
        can_deny: bool,
        server: ServingServer | None,
    ) -> Peer:
        hub = self._hub
        peer = Peer(
            hub,
            hub.loops.here(),
            wire,
            config,
            id=hub.next_id(),
            path=scope.get("path", ""),
            address=guest.address,
            can_deny=can_deny,
        )
        peer.chosen_id = guest.client_id
        peer.foreign = is_engine_io(scope)
        connection = connection_of(peer)
        there = keep(scope, self._connection_key, connection)
        if there is not connection:
            raise taken(self._connection_key, there, "connection_key")
        peer.carrier.headers = scope.get("headers")
        peer.carrier.server = server
        scope[PEER_KEY] = peer
        return peer

    def _prepare(self, wire: Wire, config: WebSocketConfig, told: bool) -> None:
        """Tell the server to leave keepalive, compression and the size limit to us, where it can be told."""
        if config.heartbeat_type is not HeartbeatType.OFF:
            wire.take_over_keepalive()
        self._prepare_compression(wire, config, told)
        if config.max_message_size is not None:
            smaller = wire.limit_message_size(config.max_message_size)
            if smaller is not None:
                self._hub.warn_once(
                    "max_message_size",
                    "! the server refuses messages over %s bytes, before max_message_size=%s can",
                    smaller,
                    config.max_message_size,
                )

    def _prepare_compression(self, wire: Wire, config: WebSocketConfig, told: bool) -> None:
        if config.compression is CompressionMode.DEFLATE:
            wire.compress_from = config.compression_threshold
            wire.refuse_context_takeover()
        elif not wire.refuse_compression() and not told:
            self._hub.warn_once("compression", '! compression="none" cannot act on this server')
