"""The manager: what applications call. Its methods forward to the hub."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .close import CloseCode, requested
from .config import Drain, WebSocketConfig
from .connection import Connection, connection_of
from .events import Event
from .hub.connecting import connect
from .hub.drain_endpoint import DrainEndpoint
from .hub.hub import Hub
from .levels import suggest_level
from .payload import Payload
from .reports import BroadcastResult, ShutdownReport, Statistics
from .types import ASGIApp, Itself

__all__ = ["WebSocketConnectionManager", "hub_of"]

CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])

WATCHED = {
    "admission": "admission",
    "calls": "calls",
    "ledger": "ledger",
    "registry": "registry",
    "_counters": "counters",
    "_lingering": "lingering",
    "_subscribers": "subscribers",
    "_warned": "notices",
}
"""Names under which programs that monitor a manager find the parts of its hub; none of them is public."""


class WebSocketConnectionManager(Itself):
    """All WebSocket connections of one application in this process.

    Handlers find it at ``websocket.state.manager`` and ``request.state.manager`` where the middleware
    runs; without the middleware it works alone, with any object that has Starlette's coroutines.

    Args:
        config: the configuration, of which a frozen copy is taken; ``None`` for the defaults.

    Raises:
        ValueError: the configuration is wrong; the message names the field, its value and what is allowed.

    Attributes:
        config: the frozen copy.
    """

    def __init__(self, config: WebSocketConfig | None = None) -> None:
        self.config = (config if config is not None else WebSocketConfig()).frozen()
        self._hub = Hub(self.config, self)
        suggest_level(self.config.log_level)

    def __repr__(self) -> str:
        hub = self._hub
        queued = sum(peer.sender.queue.bytes for peer in hub.lagging())
        return (
            f"<WebSocketConnectionManager [{len(hub.registry)} connections, {hub.registry.room_count} rooms"
            f" | queued {queued / 1024:.1f} KiB | {'draining' if hub.is_draining else 'open'}]>"
        )

    if not TYPE_CHECKING:
        # Hidden from type checkers: to them, a class with this method has every attribute.
        def __getattr__(self, name):
            if name == "_services":
                return self._hub.loops.services
            if name in WATCHED:
                return getattr(self._hub, WATCHED[name])
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # Life of the manager.

    async def start(self) -> None:
        """Start the heartbeat and the other services on this event loop.

        Calls are counted: the services run until the last ``graceful_shutdown()``. The middleware calls both. After a
        drain, ``start()`` lets new connections in again.
        """
        self._hub.start()

    async def drain(self, plan: Drain | None = None) -> ShutdownReport:
        """Refuse new connections, and close the open ones in batches.

        Args:
            plan: pace, timeout and close code; ``None`` for ``config.drain``.

        Returns:
            How many closed and how many had to be aborted. New connections stay refused until ``start()``.
        """
        return await self._hub.drain(plan)

    def drain_endpoint(self) -> ASGIApp:
        """The drain as an ASGI application, for a ``preStop`` hook.

        With ``from starlette.routing import Route``, on Starlette and FastAPI:

            app.router.routes.append(Route("/drain", manager.drain_endpoint(), methods=["GET", "POST"]))

        A request with ``Authorization: Bearer <token>`` is answered when the drain is over, with the report as JSON.
        The token is ``config.drain.endpoint_token``; if that is not set, every answer is 404.
        """
        return DrainEndpoint(self)

    async def graceful_shutdown(self, timeout: float = 30.0) -> ShutdownReport:
        """Close all connections at once and stop. If a drain is running, it is joined and no longer paced.

        After several ``start()``, each call closes all connections, and the last one stops the services. If several
        servers serve the application, a server that stops closes only its own connections. The next ``start()``, or
        the next connection, starts the services again.

        Args:
            timeout: seconds until open connections are aborted and their handlers cancelled.

        Returns:
            How many closed and how many had to be aborted.

        Raises:
            ValueError: ``timeout`` is not 0 or above.
        """
        return await self._hub.shut_down(timeout)

    @property
    def is_draining(self) -> bool:
        """Whether new connections are refused."""
        return self._hub.is_draining

    @property
    def is_ready(self) -> bool:
        """Whether new connections are let in; the answer for a readiness probe."""
        return not self._hub.is_draining

    # Connections.

    async def connect(self, client_id: str, websocket: Any, metadata: dict[str, Any] | None = None) -> None:
        """Give a connection its client id.

        Behind the middleware the connection is registered already and gets its name; without the middleware it is
        registered now. ``duplicate_client`` decides what happens to another connection with this name. A connection
        that is replaced has closed when this returns, or after one second is still closing. Before accept, the name
        is checked now and taken at accept; if it is no longer free by then, the connection is closed with the close
        of the error below.

        Args:
            client_id: the name; not empty.
            websocket: Starlette's ``WebSocket``, or any object with the same coroutines.
            metadata: values to keep with the connection.

        Raises:
            ConnectionNotFoundError: the name is empty.
            ConnectionLimitExceededError: ``max_connections`` or ``max_connections_per_client`` is reached, or the name
                is taken under ``duplicate_client="reject"``.
            MemoryLimitExceededError: no eviction makes room for the metadata.
            ShutdownError: the manager is draining.
        """
        await connect(self._hub, client_id, websocket, metadata)

    async def disconnect(self, client_id: str, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connections of a client.

        In a handler, its own client id means its own connection, even one that was replaced or has closed. The
        connection that replaced it is left alone.

        Args:
            client_id: the client to disconnect.
            code: close code.
            reason: at most 123 bytes of UTF-8 reach the peer.

        Raises:
            ConnectionNotFoundError: no connection has this name, and the connection of this handler had another.
        """
        await self._hub.close_all(self._hub.clients.addressed(client_id), requested(code, reason))

    async def disconnect_all(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close every connection, ``max_concurrent_cleanup`` at a time. New connections are still let in."""
        close = requested(code, reason)
        for peers in self._hub.registry.slices(self.config.max_concurrent_cleanup):
            await self._hub.close_all(peers, close)

    def get_active_connections(self) -> list[str]:
        """The client ids of all open connections, each once."""
        return self._hub.registry.client_ids()

    def get_connection_count(self) -> int:
        """How many connections are open."""
        return len(self._hub.registry)

    def get_connection(self, client_id: str) -> Connection | None:
        """The newest connection of a client; ``None`` if it has none."""
        peer = self._hub.registry.find(client_id)
        return None if peer is None else connection_of(peer)

    def connections(self) -> list[Connection]:
        """All open connections."""
        return [connection_of(peer) for peer in self._hub.registry]

    async def handle_pong(self, client_id: str) -> None:
        """Note that a client has answered a heartbeat. Only needed without the middleware, harmless with it."""
        for peer in self._hub.registry.find_all(client_id):
            peer.heartbeat.pong(b"")

    # Messages.

    async def send_to_client(self, client_id: str, message: Payload, key: Hashable = None) -> bool:
        """Send one message to a client, on each of its connections.

        It does not wait for the peer, unless its queue is over three quarters full. Then it waits up to 0.5 s for a
        peer that reads, and for a peer that does not read until the 0.5 s of that peer are used up.

        Args:
            client_id: the client.
            message: ``str`` and ``bytes`` as they are; ``dict``, ``list`` and pydantic models as JSON.
            key: see ``Outbound.policy`` ``latest``.

        Returns:
            Whether the message was sent or queued on at least one connection.

        Raises:
            TypeError: not a message.
        """
        return await self._hub.courier.send(client_id, message, key)

    async def broadcast(
        self,
        message: Payload,
        exclude_client: str | None = None,
        *,
        room: str | None = None,
        exclude: str | Iterable[str] = (),
        key: Hashable = None,
    ) -> BroadcastResult:
        """Send one message to everyone, or to a room.

        A broadcast without a room passes over connections that speak a protocol of their own (a subprotocol was
        selected, or Engine.IO) and have neither a client id nor a room, and over routes with ``broadcast=False``. For
        all peers together it waits no longer than `send_to_client` does for one.

        Args:
            message: ``str`` and ``bytes`` as they are; ``dict``, ``list`` and pydantic models as JSON.
            exclude_client: a client id to leave out.
            room: send to the members of this room only.
            exclude: more client ids to leave out.
            key: see ``Outbound.policy`` ``latest``.

        Returns:
            What became of the message. ``total`` counts the audience before exclusion.

        Raises:
            BroadcastFailedError: the audience is not empty, and no delivery succeeded.
            TypeError: not a message.
        """
        names = {exclude} if isinstance(exclude, str) else set(exclude)
        if exclude_client is not None:
            names.add(exclude_client)
        return await self._hub.courier.send_to_all(message, room, names, key)

    async def broadcast_to_clients(
        self, client_ids: Iterable[str], message: Payload, key: Hashable = None
    ) -> BroadcastResult:
        """Send one message to several clients, on each of their connections.

        Returns:
            What became of the message; client ids without a connection are not counted.

        Raises:
            BroadcastFailedError: the audience is not empty, and no delivery succeeded.
            TypeError: not a message.
        """
        return await self._hub.courier.send_to_clients(client_ids, message, key)

    # Rooms.

    async def join(self, client_id: str, room: str) -> None:
        """Put all connections of a client into a room.

        Raises:
            ConnectionNotFoundError: no connection has this name.
        """
        for peer in self._hub.clients.addressed(client_id):
            self._hub.rooms.enter(peer, room)

    async def leave(self, client_id: str, room: str) -> None:
        """Take all connections of a client out of a room; not being in it is fine.

        Raises:
            ConnectionNotFoundError: no connection has this name.
        """
        for peer in self._hub.clients.addressed(client_id):
            self._hub.rooms.exit(peer, room)

    def get_rooms(self, client_id: str | None = None) -> list[str]:
        """The rooms that have members, or those of one client."""
        return self._hub.registry.room_names() if client_id is None else self._hub.rooms.of(client_id)

    def get_room_members(self, room: str) -> list[str]:
        """The client ids in a room, each once."""
        return self._hub.rooms.members(room)

    # Reconnect tokens.

    def generate_reconnect_token(self, client_id: str) -> str:
        """A signed token that proves, once and until it expires, that its holder is this client.

        Raises:
            InvalidTokenError: tokens are switched off (``enable_reconnect=False``).
        """
        return self._hub.tokens.issue(client_id)

    async def validate_reconnect_token(self, token: str) -> str:
        """The client id that a token was issued for; the token is used up.

        Raises:
            InvalidTokenError: the token is not ours or was used before, or tokens are switched off.
            TokenExpiredError: the token has expired.
        """
        return self._hub.tokens.validate(token)

    # Memory and user data.

    def get_memory_usage(self) -> dict[str, int | float]:
        """``total_memory`` in bytes, ``connection_count`` and ``per_connection_average`` in bytes."""
        count, total = len(self._hub.registry), self._hub.ledger.total
        return {
            "total_memory": total,
            "connection_count": count,
            "per_connection_average": total / count if count else 0.0,
        }

    async def set_user_data(self, client_id: str, key: str, value: Any) -> None:
        """Keep a value with each connection of a client.

        Raises:
            ConnectionNotFoundError: no connection has this name.
            MemoryLimitExceededError: a limit of the memory is exceeded, and no eviction helps.
        """
        for peer in self._hub.clients.addressed(client_id):
            self._hub.evictor.keep_user_data(peer, key, value)

    async def get_user_data(self, client_id: str, key: str) -> Any | None:
        """The value; ``None`` if there is none, or no connection has this name."""
        peer = self._hub.clients.own(client_id) or self._hub.registry.find(client_id)
        return None if peer is None or peer.data is None else peer.data.get(key)

    # Watching.

    def statistics(self) -> Statistics:
        """A snapshot of all counters."""
        return self._hub.statistics()

    @overload
    def on(self, event: type[Event], callback: CallbackT) -> CallbackT: ...

    @overload
    def on(self, event: type[Event], callback: None = None) -> Callable[[CallbackT], CallbackT]: ...

    def on(self, event: type[Event], callback: Any = None) -> Any:
        """Call ``callback(event)``, plain or async, for each event of a class; also as a decorator.

        Args:
            event: a class of `wsstab.events`; `Event` for all events.
            callback: the callback. An error in it is logged and harms no connection.

        Returns:
            The callback.
        """
        if callback is None:
            return lambda function: self._hub.subscribers.add(event, function)
        return self._hub.subscribers.add(event, callback)


def hub_of(manager: WebSocketConnectionManager) -> Hub:
    """The hub behind a manager, for the middleware around the same application."""
    return manager._hub
