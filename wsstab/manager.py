"""The manager: composes the parts, and is what applications call.

Its methods are a few lines each; what they do stands in the parts. It may be used from any event
loop and, by tests, from several at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Any, TypeVar, overload

import anyio

from .close import DUPLICATE_CLIENT, VANISHED, Close, CloseCode, requested
from .config import Drain, WebSocketConfig
from .config.config import dead_without_middleware
from .config.marks import any_marked
from .connection import Carrier, Connection, DoubleConnection, UserData, current_connection
from .connection.receiver import message_timeout
from .core.limits import Admission
from .core.memory import Ledger, estimate
from .core.registry import Registry
from .errors import (
    ConnectionLimitExceededError,
    ConnectionNotFoundError,
    MemoryLimitExceededError,
    ShutdownError,
    WebSocketStabilizerError,
)
from .events import ConnectionIdentified, ConnectionOpened, Event, LimitHit
from .hub.counters import Counters
from .hub.delivery import Courier, lagging_of
from .hub.drain import Drainer, PartOfServer
from .hub.drain_endpoint import DrainEndpoint
from .hub.eviction import Evictor
from .hub.names import Clients
from .hub.serving import ServingServer
from .hub.subscribers import Subscribers
from .hub.tokens import TokenDesk
from .levels import suggest_level
from .loop.lingering import Lingering, Place
from .loop.services import Services
from .loop.tasks import EventLoop, current_loop
from .notices import Notices
from .payload import Payload
from .reports import BroadcastResult, ShutdownReport, Statistics
from .signals import forget_signals
from .types import CONNECTION_KEY, ASGIApp, Itself
from .wires.standalone import is_websocket

__all__ = ["WebSocketConnectionManager"]

logger = logging.getLogger("wsstab")

CallbackT = TypeVar("CallbackT", bound=Callable[..., Any])

LONGEST_GOODBYE = 1.0
"""Seconds that ``connect()`` waits for the connection that it has replaced to be closed."""
HOOKS_TIMEOUT = 2.0
"""Seconds in which async callbacks of the last closes may still end at a drain."""
DEAD = (
    "! no middleware stands around this application, so these options cannot act: %s; "
    "app.add_middleware(WebSocketStabilizer, manager=manager) makes them act"
)
LOOK_OFTEN = 1.0
"""Seconds between two looks at unfinished messages, where memory is limited or endpoints have their own limits."""
LOOK_SELDOM = 5.0
"""The same elsewhere, at most: each costs about a microsecond for each connection."""
LOOKED_AT_ONCE = 100
"""Connections that are looked at before others have their turn."""
SWEEP_EVERY = 300.0
"""Seconds between two sweeps of the used tokens."""


class WebSocketConnectionManager(Itself):
    """All WebSocket connections of one application in this process.

    Handlers find it at ``websocket.state.manager`` and ``request.state.manager`` where the middleware
    runs; without the middleware it works alone, with any object that has Starlette's coroutines.

    Args:
        config: how; a frozen copy is taken. ``None``: the defaults.

    Raises:
        ValueError: the configuration is wrong; says which field, its value and what is allowed.

    Attributes:
        config: the frozen copy.
    """

    def __init__(self, config: WebSocketConfig | None = None) -> None:
        self.config = (config if config is not None else WebSocketConfig()).frozen()
        self.registry: Registry[Connection] = Registry(self.config.num_shards)
        self.ledger: Ledger[Connection] = Ledger(self.config.num_shards, self.config.memory_eviction_policy.value)
        self.admission = Admission(self.config.max_connections, self.config.max_connections_per_address)
        self.calls: set[Carrier] = set()
        self.servers: set[ServingServer] = set()
        self._warned = Notices()
        self._tokens = TokenDesk(self.config, self.emit)
        self._subscribers = Subscribers(self.config.hooks, self.may_tell)
        self._courier = Courier(self.config, self.only_services, self.observe)
        self._evictor = Evictor(self.config, self.ledger, self.emit, self.may_tell)
        self._drainer = Drainer(self)
        self._services: dict[EventLoop, Services] = {}
        self.has_middleware = False
        self._starts = 0
        self._draining = False
        self._next_id = 0
        self._doubles: dict[int, DoubleConnection] = {}
        self._lingering = Lingering(self._free)
        self._counters = Counters(("ping", "broadcast") if self.config.enable_metrics else ())
        self.clients = Clients(self, self.registry, self.emit)
        suggest_level(self.config.log_level)

    def __repr__(self) -> str:
        queued = sum(connection.sender.queue.bytes for connection in self._behind())
        return (
            f"<WebSocketConnectionManager [{len(self.registry)} connections, {self.registry.room_count} rooms"
            f" | queued {queued / 1024:.1f} KiB | {'draining' if self._draining else 'open'}]>"
        )

    # Life of the manager.

    async def start(self) -> None:
        """Start the heartbeat and the other services on this event loop.

        Calls are counted: the services run until the last ``graceful_shutdown()``. With the middleware
        both happen by themselves. After a drain it lets connections in again.
        """
        self._starts += 1
        services = self.services()
        services.started = True
        self._set_draining(False)
        for connection in list(self._courier.doubles):
            if connection.services is services:
                connection.heartbeat.schedule()

    async def drain(self, plan: Drain | None = None) -> ShutdownReport:
        """Refuse new connections, and close all there are, in batches.

        Args:
            plan: how; ``None``: ``config.drain``.

        Returns:
            How many closed and how many had to be aborted. New connections stay refused until ``start()``.
        """
        self._set_draining(True)
        report = await self._drainer.drain(plan if plan is not None else self.config.drain)
        await self._subscribers.idle(HOOKS_TIMEOUT)
        return report

    def drain_endpoint(self) -> ASGIApp:
        """The drain as an ASGI application, for a ``preStop`` hook.

        With ``from starlette.routing import Route``, on Starlette and FastAPI:

            app.router.routes.append(Route("/drain", manager.drain_endpoint(), methods=["GET", "POST"]))

        A request with ``Authorization: Bearer <token>`` is answered when the drain is over, with the report as JSON.
        The token is ``config.drain.endpoint_token``; without one every answer is 404.
        """
        return DrainEndpoint(self)

    def hurry(self) -> None:
        """End the drain that is under way as if its time were over: abort, cancel, and be done."""
        self._drainer.hurry()

    async def graceful_shutdown(self, timeout: float = 30.0) -> ShutdownReport:
        """Close all connections at once and stop. A drain that is under way is joined, and paced no more.

        With several ``start()`` each call closes all connections, and the last one stops the services. Where several
        servers serve the application behind the middleware, each that stops closes its own alone. The next
        ``start()``, or the next connection, starts again.

        Args:
            timeout: seconds until what did not close is aborted, and handlers are cancelled.

        Returns:
            How many closed and how many had to be aborted.

        Raises:
            ValueError: ``timeout`` is not 0 or above.
        """
        plan = self.config.drain
        shutdown = Drain(timeout=timeout, code=plan.code, reason=plan.reason, handle_signals=False)
        self._set_draining(True)
        report = await self._drainer.drain(shutdown, paced=False)
        await self._subscribers.idle(min(timeout, HOOKS_TIMEOUT))
        self._starts = max(self._starts - 1, 0)
        self._set_draining(False)
        if self._starts == 0:
            self._subscribers.cancel()
            self._stop()
        return report

    async def stop_server(self, server: ServingServer, timeout: float) -> None:
        """Close what came by one server, which stops while others serve on.

        Args:
            server: the one that stops.
            timeout: see `graceful_shutdown`.
        """
        server.stopping = True
        self._starts = max(self._starts - 1, 0)
        plan = self.config.drain
        part = Drain(timeout=timeout, code=plan.code, reason=plan.reason, handle_signals=False)
        await Drainer(PartOfServer(self, server)).drain(part, paced=False)

    @property
    def is_draining(self) -> bool:
        """Whether new connections are refused."""
        return self._draining

    @property
    def is_ready(self) -> bool:
        """Whether new connections are let in: what a readiness probe should ask."""
        return not self._draining

    # Connections.

    async def connect(self, client_id: str, websocket: Any, metadata: dict[str, Any] | None = None) -> None:
        """Give a connection its client id.

        Behind the middleware the connection is registered already and gets a name; elsewhere it is
        registered now. What happens to another that holds the name, ``duplicate_client`` says; one that
        is replaced is closed when this returns, or after a second still closing. Before
        accept, the name is looked at now and taken when the socket is accepted; who may not have it any
        more by then is closed with the code that the error below would have given.

        Args:
            client_id: the name, not empty.
            websocket: Starlette's ``WebSocket``, or any object with its coroutines.
            metadata: anything to keep with the connection.

        Raises:
            ConnectionNotFoundError: the name is empty.
            ConnectionLimitExceededError: ``max_connections``, ``max_connections_per_client``, or a
                name that is taken under ``duplicate_client="reject"``.
            MemoryLimitExceededError: no eviction makes room for it.
            ShutdownError: the manager is draining.
        """
        if not isinstance(client_id, str) or not client_id:
            raise ConnectionNotFoundError(client_id)
        connection = self._connection_of(websocket)
        if connection is None:
            if self._draining:
                raise ShutdownError
            connection = self._register_double(client_id, websocket)
        if connection.ending.close is None:
            replaced = self._connect(connection, client_id, metadata)
            if replaced:
                await self._closed_soon(replaced)

    async def disconnect(self, client_id: str, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close the connections of a client.

        A handler that says goodbye for a connection of its own that was replaced or has ended does
        nothing to the one that replaced it.

        Args:
            client_id: the client to disconnect.
            code: close code.
            reason: at most 123 bytes of UTF-8 reach the peer.

        Raises:
            ConnectionNotFoundError: nobody has this name, and no ended connection of this handler had.
        """
        await self._close_all(self.clients.addressed(client_id), requested(code, reason))

    async def disconnect_all(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Close every connection, ``max_concurrent_cleanup`` at a time; new ones are still let in."""
        close = requested(code, reason)
        for connections in self.registry.slices(self.config.max_concurrent_cleanup):
            await self._close_all(connections, close)

    def get_active_connections(self) -> list[str]:
        """The client ids that are connected, each once."""
        return self.registry.client_ids()

    def get_connection_count(self) -> int:
        """How many connections are open."""
        return len(self.registry)

    def get_connection(self, client_id: str) -> Connection | None:
        """The newest connection of a client, ``None`` when there is none."""
        return self.registry.find(client_id)

    def connections(self) -> list[Connection]:
        """All open connections."""
        return list(self.registry)

    async def handle_pong(self, client_id: str) -> None:
        """Note a sign of life of a client; only needed without the middleware, harmless with it."""
        for connection in self.registry.find_all(client_id):
            connection.heartbeat.pong(b"")

    # Messages.

    async def send_to_client(self, client_id: str, message: Payload, key: Hashable = None) -> bool:
        """Send one message to a client, to each of its connections where it has several.

        It waits for no peer, unless the queue is over three quarters full: then it is paced, for 0.5 s at
        most, by a peer that reads, and by one that does not until its half second is used up.

        Args:
            client_id: the client to send to.
            message: ``str`` and ``bytes`` as they are; ``dict``, ``list`` and pydantic models as JSON.
            key: see ``Outbound.policy`` ``latest``.

        Returns:
            Whether it was handed over or queued for one at least.

        Raises:
            TypeError: not a message.
        """
        answers = [await each.send(message, key) for each in self.registry.find_all(client_id)]
        return any(answers)

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

        Without a room, connections that speak a protocol of their own (a subprotocol was selected,
        or Engine.IO) and that were neither named nor joined a room do not get it, nor do those on
        routes with ``broadcast=False``. It waits for peers no longer than `send_to_client` does, for all
        of them together.

        Args:
            message: ``str`` and ``bytes`` as they are; ``dict``, ``list`` and pydantic models as JSON.
            exclude_client: a client id that does not get it.
            room: only its members get it.
            exclude: more client ids that do not get it.
            key: see ``Outbound.policy`` ``latest``.

        Returns:
            What became of it. ``total`` counts the audience before exclusion.

        Raises:
            BroadcastFailedError: there is an audience, and not one delivery succeeded.
            TypeError: not a message.
        """
        audience = self.registry.audience if room is None else self.registry.members(room)
        names = {exclude} if isinstance(exclude, str) else set(exclude)
        if exclude_client is not None:
            names.add(exclude_client)
        excluded = [connection for name in names for connection in self.registry.find_all(name)]
        return await self._courier.broadcast(message, audience, excluded, key)

    async def broadcast_to_clients(
        self, client_ids: Iterable[str], message: Payload, key: Hashable = None
    ) -> BroadcastResult:
        """Send one message to these clients, to each of their connections.

        Returns:
            What became of it; names that nobody holds are in no count.

        Raises:
            BroadcastFailedError: there is an audience, and not one delivery succeeded.
            TypeError: not a message.
        """
        audience = {connection for name in client_ids for connection in self.registry.find_all(name)}
        return await self._courier.broadcast(message, audience, (), key)

    # Rooms.

    async def join(self, client_id: str, room: str) -> None:
        """Put all connections of a client into a room.

        Raises:
            ConnectionNotFoundError: nobody has this name.
        """
        for connection in self.clients.addressed(client_id):
            await self.enter(connection, room)

    async def leave(self, client_id: str, room: str) -> None:
        """Take all connections of a client out of a room; not being in it is fine.

        Raises:
            ConnectionNotFoundError: nobody has this name.
        """
        for connection in self.clients.addressed(client_id):
            await self.exit(connection, room)

    def get_rooms(self, client_id: str | None = None) -> list[str]:
        """The rooms that have members, or those of one client."""
        if client_id is None:
            return self.registry.room_names()
        return sorted({room for connection in self.registry.find_all(client_id) for room in connection.rooms})

    def get_room_members(self, room: str) -> list[str]:
        """The client ids in a room, each once."""
        return list(dict.fromkeys(connection.client_id for connection in list(self.registry.members(room))))

    # Reconnect tokens.

    def generate_reconnect_token(self, client_id: str) -> str:
        """A signed token that proves once, until it expires, that its holder is this client.

        Raises:
            InvalidTokenError: tokens are off (``enable_reconnect=False``).
        """
        return self._tokens.issue(client_id)

    async def validate_reconnect_token(self, token: str) -> str:
        """The client id that a token was made for; the token is used up.

        Raises:
            InvalidTokenError: not a token of ours, used before, or tokens are off.
            TokenExpiredError: its time is over.
        """
        return self._tokens.validate(token)

    # Memory and user data.

    def get_memory_usage(self) -> dict[str, int | float]:
        """``total_memory`` in bytes, ``connection_count`` and ``per_connection_average`` in bytes."""
        count = len(self.registry)
        total = self.ledger.total
        return {
            "total_memory": total,
            "connection_count": count,
            "per_connection_average": total / count if count else 0.0,
        }

    async def set_user_data(self, client_id: str, key: str, value: Any) -> None:
        """Keep a value with a client's connection, each of them where it has several.

        Raises:
            ConnectionNotFoundError: nobody has this name.
            MemoryLimitExceededError: ``max_memory_per_connection``, or in all and no eviction helps.
        """
        for connection in self.clients.addressed(client_id):
            self._set_user_data(connection, key, value)

    async def get_user_data(self, client_id: str, key: str) -> Any | None:
        """The value, ``None`` where there is none or nobody has this name."""
        own = self.clients.own(client_id)
        connection = own if own is not None else self.registry.find(client_id)
        return None if connection is None else connection.user_data.get(key)

    # Watching.

    def statistics(self) -> Statistics:
        """A snapshot of all counters."""
        counters, traffic = self._counters, self._counters.traffic(self.registry)
        services = list(self._services.values())
        return Statistics(
            connections=len(self.registry),
            rooms=self.registry.room_count,
            opened=counters.opened,
            closed=dict(counters.closed),
            refused=dict(counters.refused),
            broadcasts=self._courier.broadcasts,
            messages_received=traffic["messages_received"],
            bytes_received=traffic["bytes_received"],
            messages_sent=traffic["messages_sent"],
            bytes_sent=traffic["bytes_sent"],
            dropped_outbound=traffic["dropped_outbound"],
            dropped_inbound=traffic["dropped_inbound"],
            queued_bytes=sum(connection.sender.queue.bytes for connection in self._behind()),
            slow_consumers=sum(1 for _ in self._behind()),
            heartbeats_sent=counters.heartbeats_sent + sum(each.heartbeats_sent for each in services),
            heartbeats_missed=counters.heartbeats_missed + sum(each.heartbeats_missed for each in services),
            evicted=self._evictor.evicted,
            memory=self.ledger.total,
            draining=self._draining,
            latencies=counters.latencies(),
        )

    @overload
    def on(self, event: type[Event], callback: CallbackT) -> CallbackT: ...

    @overload
    def on(self, event: type[Event], callback: None = None) -> Callable[[CallbackT], CallbackT]: ...

    def on(self, event: type[Event], callback: Any = None) -> Any:
        """Call ``callback(event)``, plain or async, for each event of a class; also as a decorator.

        Args:
            event: a class of `wsstab.events`; `Event` for all.
            callback: what to call. It may raise: that is logged and harms no connection.

        Returns:
            The callback.
        """
        if callback is None:
            return lambda function: self._subscribers.add(event, function)
        return self._subscribers.add(event, callback)

    # What the parts ask of their manager.

    def services(self) -> Services:
        """The services of the running event loop."""
        loop = current_loop()
        services = self._services.get(loop)
        if services is None:
            services = self._services[loop] = Services(loop, self.config, self.observe, self._lingering)
            services.draining = self._draining
            services.every(self.config.memory_check_interval, lambda: self._recount(services))
            services.every(SWEEP_EVERY, self._tokens.sweep)
            services.every(self._looks_every(), lambda: self._look_at_unfinished(services))
        return services

    def only_services(self) -> Services | None:
        """The services, when all connections are on the running loop; ``None`` when some are elsewhere."""
        if len(self._services) != 1:
            return None
        (services,) = self._services.values()
        return services if services.loop is current_loop() else None

    def next_id(self) -> str:
        """A connection id."""
        self._next_id += 1
        return f"c{self._next_id:x}-{id(self) & 0xFFFF:04x}{time.time_ns() & 0xFFFFFF:06x}"

    def emit(self, event: Event) -> None:
        """Tell the subscribers."""
        if isinstance(event, LimitHit):
            self._counters.refused[event.limit] += 1
        self._subscribers.emit(event)

    def observe(self, name: str, seconds: float) -> None:
        """Note a latency."""
        self._counters.observe(name, seconds)

    def charge(self, connection: Connection, delta: int) -> None:
        """Count memory, and evict where it becomes too much."""
        self._evictor.charge(connection, delta)

    def warn_once(self, key: str, line: str, *args: object, by_peers: bool = False) -> None:
        """Log a warning the first time it is asked for; of the operator's causes at most a hundred different ones.

        Args:
            key: by which it is known again.
            line: the sentence.
            args: of the sentence.
            by_peers: whether peers choose the key: its first word has a budget of its own, a few in a minute.
        """
        tell = self._warned.of_peers if by_peers else self._warned.once
        tell(key, line, *args)

    def may_tell(self, kind: str, level: int = logging.WARNING) -> bool:
        """Whether one more line that peers can cause may be logged now: a few of each kind in a minute."""
        return self._warned.may_tell(kind, level)

    def enrol(self, connection: Connection) -> None:
        """Note that a connection exists; `left` must follow."""
        connection.shard = self.registry.shard_of(connection.id)
        connection.services.connections += 1
        connection.services.carried += connection.wire.readable
        connection.counted = True
        if connection.chosen_id is not None:
            self.clients.expect(connection, connection.chosen_id)

    def promise(self, connection: Connection, client_id: str) -> Close | None:
        """Give a connection whose handshake is not complete this name for accept, or say why not."""
        return self.clients.promise(connection, client_id)

    def accepted(self, connection: Connection) -> None:
        """List a connection whose handshake is complete."""
        self.registry.add(connection)
        self.ledger.add(connection)
        self._counters.opened += 1
        if connection.accepts_broadcasts:
            self.registry.listen(connection)
        if self._subscribers.wants(ConnectionOpened):
            subprotocol, address = connection.subprotocol, connection.address
            self.emit(ConnectionOpened(connection.id, connection.client_id, connection.path, address, subprotocol))
        if connection.metadata or connection.data is not None:
            self.charge(connection, estimate_of(connection))
        if connection.rooms_joined is not None:
            self._listen(connection)
        self.clients.expect_no_more(connection)
        if connection.chosen_id is not None:
            self._take_chosen_name(connection, connection.chosen_id)

    def forget(self, connection: Connection) -> None:
        """Unlist a connection that is closing or gone; synchronous and idempotent."""
        if self.registry.remove(connection):
            self.ledger.remove(connection)
            self._counters.closing(connection)
            if connection.named and connection.counted:
                self.clients.leaves(connection.client_id)
        if isinstance(connection, DoubleConnection) and connection in self._courier.doubles:
            self._courier.doubles.discard(connection)
            self._doubles.pop(id(connection.websocket), None)
            self.left(connection)

    def account(self, connection: Connection) -> None:
        """Keep the counters of a connection that is over; until then they still move."""
        self._counters.over(connection)

    def missed(self) -> None:
        """Count a message that came for a connection that was over."""
        self._counters.missed()

    def cut_lingering(self) -> None:
        """Abort the TCP connections that have closed, but whose peer takes nothing."""
        self._lingering.cut()

    def left(self, connection: Connection) -> None:
        """The last word of a connection: its event loop may have no other."""
        connection.services.carried -= connection.wire.readable
        if connection.counted:
            connection.counted = False
            self.clients.expect_no_more(connection)
            place = (connection.address, connection.client_id if connection.named else None)
            self._lingering.leave_place(connection.wire, place)
        self._release(connection.services)

    async def enter(self, connection: Connection, room: str) -> None:
        """Put a connection into a room, after all that was broadcast there before; before accept, for then."""
        if self._is_awaited(connection):
            connection.rooms_joined = {*(connection.rooms_joined or ()), room}
            return
        self._catch_up(connection)
        self.registry.join(connection, room)
        self._listen(connection)

    async def exit(self, connection: Connection, room: str) -> None:
        """Take a connection out of a room, after all that was broadcast there before."""
        if self._is_awaited(connection):
            connection.rooms_joined = {*(connection.rooms_joined or ())} - {room} or None
            return
        self._catch_up(connection)
        self.registry.leave(connection, room)

    # Inside.

    def _free(self, place: Place) -> None:
        address, client_id = place
        self.admission.release(address)
        if client_id is not None:
            self.clients.has_left(client_id)

    def _connection_of(self, websocket: Any) -> Connection | None:
        """The connection that is registered for this object."""
        if is_websocket(websocket):
            connection = websocket.scope.get(CONNECTION_KEY)
            if isinstance(connection, Connection) and connection.owner is self:
                return connection
            own = current_connection.get()
            if own is not None and own.owner is self and own.carrier.carries(websocket.scope):
                # Somebody between has built the scope anew.
                return own
        return self._doubles.get(id(websocket))

    def _register_double(self, client_id: str, websocket: Any) -> Connection:
        replacing = self.config.duplicate_client == "replace" and self.registry.find(client_id) is not None
        if not self.has_middleware and (dead := dead_without_middleware(self.config)):
            self.warn_once("dead", DEAD, ", ".join(dead))
        refusal = self.admission.admit(None, replacing=replacing)
        if refusal is not None:
            self.emit(LimitHit("max_connections", None, ""))
            raise ConnectionLimitExceededError(self.config.max_connections, refusal)
        connection = DoubleConnection(self, self.services(), self.config, self.next_id(), websocket)
        self._courier.doubles.add(connection)
        self._doubles[id(websocket)] = connection
        self.enrol(connection)
        connection.open_now()
        if is_websocket(websocket):
            current_connection.set(connection)
        return connection

    async def _closed_soon(self, replaced: Iterable[Connection]) -> None:
        """Wait until those that were replaced are closed; not long, and not for who is waiting here."""
        own = current_connection.get()
        with anyio.move_on_after(LONGEST_GOODBYE):
            for each in replaced:
                if each is not own:
                    await each.ending.latch.wait()

    def _connect(self, connection: Connection, client_id: str, metadata: dict[str, Any] | None) -> list[Connection]:
        """Give it the name; those that it replaces, which begin to close."""
        try:
            others = self.clients.others(connection, client_id)
            self._keep_metadata(connection, metadata)
        except WebSocketStabilizerError:
            if isinstance(connection, DoubleConnection) and not connection.named:
                connection.ending.abort(VANISHED)
            raise
        if self._is_awaited(connection):
            # Whoever holds the name keeps it until the handshake is complete, which it may never be.
            connection.chosen_id = client_id
            return []
        for other in others:
            connection.identified = min(connection.identified, other.identified)
            other.ending.begin(DUPLICATE_CLIENT)
        self.identify(connection, client_id)
        return others

    def _take_chosen_name(self, connection: Connection, client_id: str) -> None:
        connection.chosen_id = None
        if connection.ending.close is not None:
            return
        try:
            self._connect(connection, client_id, None)
        except WebSocketStabilizerError as error:
            # It was free when it was chosen, but another may have been faster.
            connection.ending.begin(error.close)

    def _is_awaited(self, connection: Connection) -> bool:
        """Whether its handshake is not complete, and still can be."""
        return connection.ending.close is None and connection not in self.registry

    def identify(self, connection: Connection, client_id: str) -> None:
        """Give a connection its name."""
        previous, connection.named = connection.client_id, True
        self.registry.identify(connection, client_id)
        self.ledger.rekey(connection)
        self._listen(connection)
        if previous != client_id:
            self.emit(ConnectionIdentified(connection.id, client_id, previous))

    def _keep_metadata(self, connection: Connection, metadata: dict[str, Any] | None) -> None:
        if metadata is None:
            return
        delta = estimate(metadata) - (estimate(connection.metadata) if connection.metadata else 0)
        self._check_memory(connection, delta)
        connection.metadata = metadata
        self.charge(connection, delta)

    def _set_user_data(self, connection: Connection, key: str, value: Any) -> None:
        data = connection.data if connection.data is not None else UserData()
        growth, size = data.growth(key, value)
        self._check_memory(connection, growth)
        connection.data = data
        data.set(key, value, size)
        self.charge(connection, growth)

    def _check_memory(self, connection: Connection, growth: int) -> None:
        limit = connection.config.max_memory_per_connection
        # Nothing is counted before accept.
        held = estimate_of(connection) if self._is_awaited(connection) else connection.memory
        if limit is not None and held + growth > limit:
            raise MemoryLimitExceededError(limit, held + growth)
        if growth > 0:
            self._evictor.make_room(growth, connection)

    def _listen(self, connection: Connection) -> None:
        """Named or in a room: whoever did that wants messages, whatever protocol it speaks."""
        if connection.config.broadcast and not connection.accepts_broadcasts:
            connection.accepts_broadcasts = True
            self._catch_up(connection)
            self.registry.listen(connection)

    def _catch_up(self, connection: Connection) -> None:
        turn_log = connection.services.turn_log
        if isinstance(connection, DoubleConnection):
            # What is in the log for it was awaited when it was said.
            connection.sender.cursor = turn_log.end
        elif turn_log.pending:
            turn_log.catch_up(connection)

    async def _close_all(self, connections: Iterable[Connection], close: Close) -> None:
        closing = list(connections)
        for connection in closing:
            connection.ending.begin(close)
        for connection in closing:
            await connection.ending.latch.wait()

    def _set_draining(self, draining: bool) -> None:
        self._draining = draining
        for services in list(self._services.values()):
            services.draining = draining

    def _stop(self) -> None:
        forget_signals(self)
        self._warned.tell_left_out()
        for services in list(self._services.values()):
            services.started = False
            self._release(services, 0)

    def _release(self, services: Services, leaving: int = 1) -> None:
        """Let go of the services of a loop that has no connection any more."""
        services.connections -= leaving
        if services.connections or services.started:
            return
        if self._services.pop(services.loop, None) is not None:
            services.retire()
            self._counters.retire(services)

    def _looks_every(self) -> float:
        """Seconds between two looks at unfinished messages."""
        config = self.config
        paths = (config, *(each for _, each in config.by_pattern))
        timeouts = [message_timeout(each) for each in paths]
        counts = config.max_total_memory is not None or any(each.max_memory_per_connection for each in paths)
        # What stands on endpoints is known when they are reached.
        often = counts or any_marked()
        return min(LOOK_OFTEN if often else LOOK_SELDOM, *[timeout / 4 for timeout in timeouts])

    def _look_at_unfinished(self, services: Services) -> None:
        services.timekeeper.soon([partial(self._look_on, services, self.registry.slices(LOOKED_AT_ONCE))])

    def _look_on(self, services: Services, slices: Iterator[list[Connection]], now: float) -> None:
        connections = next(slices, None)
        if connections is not None:
            for connection in connections:
                if connection.services is services:
                    connection.receiver.look(now)
                    # What a slow peer had in its buffer when it was looked at last may have left since.
                    connection.heartbeat.sample()
            services.timekeeper.soon([partial(self._look_on, services, slices)])

    def _recount(self, services: Services) -> None:
        self._warned.tell_left_out(monotonic())
        ours = [each for each in self.registry if each.services is services and each.data is not None]
        self._evictor.recount(ours, services.loop)

    def _behind(self) -> Iterable[Connection]:
        for services in list(self._services.values()):
            yield from lagging_of(services)


def estimate_of(connection: Connection) -> int:
    """Bytes of what an application keeps with a connection."""
    metadata = estimate(connection.metadata) if connection.metadata else 0
    return metadata + (connection.data.size if connection.data is not None else 0)
