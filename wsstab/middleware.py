"""The middleware: stands around the application and gives each WebSocket its connection.

HTTP passes with nothing changed but the manager in ``scope["state"]``. Entered twice, by a parent
and a mounted application, the outer one acts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

import anyio
import anyio.lowlevel
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from .close import DRAINING, RAISED, RETURNED, Close
from .config import CompressionMode, HeartbeatType, WebSocketConfig
from .config.marks import watch
from .connection import Carrier, Connection, current_connection
from .connection.carrier import denial
from .connection.closing import CLOSE_TIMEOUT
from .connection.outcome import is_quiet
from .core.lifecycle import OutboundState
from .errors import WebSocketStabilizerError
from .hub.door import Door, Guest
from .hub.plain import tell_of_plain
from .hub.scopes import check_keys, is_engine_io, keep, taken
from .hub.second_look import SecondLook, admits
from .hub.serving import SERVER_KEY, ServingServer, server_of
from .loop.tasks import begins_in_creator
from .loop.usercode import Uncaught, ends_the_process, is_cancellation
from .manager import WebSocketConnectionManager
from .routes.routing import Routing
from .signals import watch_signals
from .types import CONNECTION_KEY, ASGIApp, Event, Receive, Scope, Send
from .wires import shield_server, wire_for
from .wires.base import Wire
from .wires.departure import promises_an_error
from .wording import quoted

__all__ = ["WebSocketStabilizer", "get_connection", "get_manager"]

logger = logging.getLogger("wsstab")

MANAGER = "wsstab.manager"
SHORTEST_SHUTDOWN = 0.1
"""Seconds: a shutdown takes some time, where a drain may be told to take none."""


class WebSocketStabilizer:
    """ASGI middleware that stabilises every WebSocket of an application.

    ``app.add_middleware(WebSocketStabilizer, heartbeat_interval=25)``, or around any ASGI callable:
    ``app = WebSocketStabilizer(app)``.

    Args:
        app: the application.
        config: how; exclusive with ``options``.
        manager: use this manager, for those who need it outside of requests; exclusive with the others.
        manager_key: where in ``scope["state"]`` handlers find the manager.
        connection_key: where WebSocket handlers find their `Connection`.
        **options: any field of `WebSocketConfig`.

    Raises:
        ValueError: a wrong option or key; says which, its value and what is allowed.
        TypeError: an unknown option, or ``config``, ``manager`` and options together.

    Attributes:
        manager: the manager.
    """

    def __init__(
        self,
        app: ASGIApp | None = None,
        /,
        config: WebSocketConfig | None = None,
        manager: WebSocketConnectionManager | None = None,
        *,
        manager_key: str = "manager",
        connection_key: str = "connection",
        **options: Any,
    ) -> None:
        # Starlette before 0.41 passes it by name.
        application = app if app is not None else options.pop("app", None)
        if application is None:
            raise TypeError("WebSocketStabilizer needs the application that it stands around")
        if sum(given is not None for given in (config, manager, options or None)) > 1:
            raise TypeError("pass options, or config=, or manager=: only one of them")
        check_keys(manager_key, connection_key)
        self.app: ASGIApp = application
        if manager is None:
            manager = WebSocketConnectionManager(config if config is not None else WebSocketConfig(**options))
        self.manager = manager
        manager.has_middleware = True
        self._manager_key = manager_key
        self._connection_key = connection_key
        self._door = Door(manager)
        self._routing = Routing(manager.config, application)
        shield_server()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Every HTTP request comes by here, and what it meets is written out: a call would be felt.
        kind = scope["type"]
        if (kind == "http" or kind == "websocket") and MANAGER not in scope:
            manager = self.manager
            try:
                scope[MANAGER] = manager
                state = scope.get("state")
                if state is None:
                    state = scope["state"] = {}
                there = state.setdefault(self._manager_key, manager)
            except (AttributeError, TypeError):
                # Somebody outside has made a scope, or a state in it, that is not written to like a dict.
                scope = {**scope, MANAGER: manager}
                there = keep(scope, self._manager_key, manager)
            if kind == "http":
                if there is not manager:
                    self._check_outer(there)
                    scope[MANAGER] = there
                await self.app(scope, receive, send)
                return
            outer = current_connection.get()
            if outer is not None and outer.carrier.carries(scope):
                # Somebody between has taken out of the scope what says that another of us stands outside.
                await self._enter_again(self._restored(scope, outer), outer, receive, send)
            elif there is not manager:
                raise taken(self._manager_key, there, "manager_key")
            elif (connection := await self._enter(scope, receive, send)) is not None:
                await self._run(scope, connection)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind == "websocket" and (outer := scope.get(CONNECTION_KEY) or current_connection.get()) is not None:
            await self._enter_again(scope, outer, receive, send)
        else:
            await self.app(scope, receive, send)

    def _check_outer(self, there: object) -> None:
        """Whose name it is: another of us may stand outside, and somebody between has taken out what says so."""
        if not isinstance(there, WebSocketConnectionManager):
            raise taken(self._manager_key, there, "manager_key")

    def _restored(self, scope: Scope, outer: Connection) -> Scope:
        scope[MANAGER], scope[CONNECTION_KEY] = outer.owner, outer
        state = scope["state"]
        if isinstance(state, MutableMapping):
            state.update({self._manager_key: outer.owner, self._connection_key: outer})
        return scope

    # Lifespan: the manager starts and stops with the application.

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = failed = serving = False
        server = ServingServer()

        async def send_if_sound(event: Event) -> None:
            nonlocal failed, serving
            why = self._taken_in(scope.get("state")) if event["type"] == "lifespan.startup.complete" else None
            if why is not None:
                # Some servers take an error alone for an application without a lifespan.
                failed = True
                await send({"type": "lifespan.startup.failed", "message": str(why)})
                raise why
            if not failed:
                await send(event)
                if not serving and event["type"] == "lifespan.startup.complete":
                    self._routing.tell_of_unmatched(self.manager.warn_once)
                serving = serving or event["type"] == "lifespan.startup.complete"

        async def receive_and_act() -> Event:
            nonlocal started
            event = await receive()
            if event["type"] == "lifespan.startup":
                if isinstance(state := scope.get("state"), MutableMapping):
                    state[SERVER_KEY] = server
                    self.manager.servers.add(server)
                shield_server()
                await self.manager.start()
                watch_signals(self.manager)
                started = True
            elif event["type"] == "lifespan.shutdown":
                started = False
                await self._shut_down(server)
            return event

        try:
            await self.app(scope, receive_and_act, send_if_sound)
        finally:
            if started and not serving:
                await self._shut_down(server)
            elif started:
                # It ended without being told to, and alone: servers serve on, and never say when they stop.
                self.manager.servers.discard(server)

    def _taken_in(self, state: object) -> RuntimeError | None:
        """What to say of a lifespan's state that has a name of ours: each request would fail."""
        if not isinstance(state, Mapping):
            return None
        for key, option in ((self._manager_key, "manager_key"), (self._connection_key, "connection_key")):
            if state.get(key, self.manager) is not self.manager:
                return taken(key, state[key], option)
        return None

    async def _shut_down(self, server: ServingServer) -> None:
        timeout = max(self.manager.config.drain.timeout, SHORTEST_SHUTDOWN)
        self.manager.servers.discard(server)
        if self.manager.servers:
            await self.manager.stop_server(server, timeout)
        else:
            await self.manager.graceful_shutdown(timeout)

    # WebSockets.

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> Connection | None:
        """The connection of a WebSocket that may come in; the others have their answer."""
        if begins_in_creator():
            await anyio.lowlevel.checkpoint()
        watch_signals(self.manager, send)
        entrance = self._routing.entrance(scope)
        terms = self._routing.plain if entrance is None else entrance.terms()
        config = terms.config
        wire = self._wire(scope, receive, send)
        can_deny = "websocket.http.response" in (scope.get("extensions") or {})
        server = server_of(scope)
        if server is not None and server.stopping:
            admitted: Guest | Close = DRAINING
        else:
            admitted = await self._door.admit(scope, config, wire.peer_address(), terms)
            if server is not None and server.stopping and isinstance(admitted, Guest):
                # To be let in may have taken long.
                self.manager.admission.release(admitted.address)
                admitted = DRAINING
        if isinstance(admitted, Close):
            for event in denial(admitted, can_deny):
                await wire.deny(event)
            return None
        try:
            self._prepare(wire, config, told=tell_of_plain(self.manager, wire, config, scope, send))
            connection = self._connection(scope, wire, config, admitted, can_deny, promises_an_error(scope, send))
            connection.carrier.server = server
            if entrance is not None:
                look = connection.second_look = SecondLook(connection, terms)
                look.add(entrance, self._door)
            return connection
        except BaseException:
            self.manager.admission.release(admitted.address)
            raise

    async def _enter_again(self, scope: Scope, outer: Connection, receive: Receive, send: Send) -> None:
        """The outer one acts; but what guards the application is not off because it was mounted."""
        if await admits(outer, self._routing, self._door, scope):
            await self.app(scope, receive, send)

    def _connection(
        self, scope: Scope, wire: Wire, config: WebSocketConfig, guest: Guest, can_deny: bool, error_promised: bool
    ) -> Connection:
        services = self.manager.services()
        delays = config.rate_limit is not None and config.rate_limit.action == "delay"
        carrier = Carrier(wire, services.loop, can_deny=can_deny, reader_only=delays, readahead=services.readahead)
        connection = Connection(
            self.manager,
            services,
            carrier,
            config,
            id=self.manager.next_id(),
            path=scope.get("path", ""),
            address=guest.address,
            error_promised=error_promised,
        )
        connection.chosen_id = guest.client_id
        connection.foreign = is_engine_io(scope)
        there = keep(scope, self._connection_key, connection)
        if there is not connection:
            raise taken(self._connection_key, there, "connection_key")
        carrier.headers = scope.get("headers")
        self.manager.enrol(connection)
        scope[CONNECTION_KEY] = connection
        return connection

    def _wire(self, scope: Scope, receive: Receive, send: Send) -> Wire:
        return wire_for(scope, receive, send)

    def _prepare(self, wire: Wire, config: WebSocketConfig, told: bool) -> None:
        if config.heartbeat_type is not HeartbeatType.OFF:
            wire.take_over_keepalive()
        self._prepare_compression(wire, config, told)
        if config.max_message_size is not None:
            smaller = wire.limit_message_size(config.max_message_size)
            if smaller is not None:
                self.manager.warn_once(
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
            self.manager.warn_once("compression", '! compression="none" cannot act on this server')

    async def _run(self, scope: Scope, connection: Connection) -> None:
        """Run the handler, and end the connection whatever the handler does."""
        carrier, manager = connection.carrier, self.manager
        token = current_connection.set(connection)
        watching = watch.set(connection.second_look)
        manager.calls.add(carrier)
        connection.heartbeat.schedule()
        try:
            with carrier.loop.cancel_scope() as carrier.scope:
                try:
                    await self.app(scope, connection.receiver.receive, connection.application.send)
                except Exception as error:
                    if not await self._settled(error, connection):
                        raise
                except BaseException as error:
                    if isinstance(error, GeneratorExit) or ends_the_process(error) or is_cancellation(error):
                        raise
                    # Such as the result of a cancelled task. Some servers end by what is no Exception.
                    raise await self._told_of(Uncaught(error), connection) from error
                else:
                    await self._finish(connection, RETURNED)
        finally:
            # No await from here on: a test client cancels right after a disconnect.
            connection.ending.abandon()
            manager.calls.discard(carrier)
            manager.left(connection)
            current_connection.reset(token)
            watch.reset(watching)
            connection.let_go()

    async def _told_of(self, error: Uncaught, connection: Connection) -> Uncaught:
        """`_settled`; in no frame that its traceback holds is the error kept, which would be a cycle."""
        await self._settled(error, connection)
        return error

    async def _settled(self, error: Exception, connection: Connection) -> bool:
        """`_settle`; who is cancelled meanwhile still raises the error of the handler, as without us."""
        try:
            return await self._settle(error, connection)
        except anyio.get_cancelled_exc_class():
            if is_quiet(error, connection) or isinstance(error, WebSocketStabilizerError):
                raise
            return False

    async def _settle(self, error: Exception, connection: Connection) -> bool:
        """End the connection of a handler that raised; whether the server need not hear of it."""
        if is_quiet(error, connection):
            await connection.ending.settled()
            return True
        if isinstance(error, WebSocketStabilizerError):
            name, fields = connection.log_name(), connection.log_fields()
            # A limit or a token that is refused is an answer to the peer; what has no close of its own is a mistake.
            trace = error if error.close is RAISED else None
            if self.manager.may_tell("an error escaped a handler"):
                line = "! an error escaped the handler of %s: %s"
                logger.warning(line, name, quoted(error), extra=fields, exc_info=trace)
        await self._close_for(error, connection)
        return isinstance(error, WebSocketStabilizerError)

    async def _close_for(self, error: Exception, connection: Connection) -> None:
        close = error.close if isinstance(error, WebSocketStabilizerError) else RAISED
        if connection.lifecycle.outbound is OutboundState.CONNECTING:
            if isinstance(error, WebSocketStabilizerError):
                connection.ending.begin(close.refusing())
                await connection.ending.latch.wait()
            elif not connection.wire.traits.error_response:
                with anyio.move_on_after(CLOSE_TIMEOUT):
                    await connection.carrier.deny(RAISED)
            return
        if not isinstance(error, WebSocketStabilizerError):
            connection.wire.leave_error_to_server()
        await self._finish(connection, close)

    async def _finish(self, connection: Connection, close: Close) -> None:
        if connection.lifecycle.outbound is OutboundState.OPEN or connection.ending.close is not None:
            connection.ending.begin(close)
            await connection.ending.latch.wait()


def get_manager(connection: HTTPConnection) -> WebSocketConnectionManager:
    """The manager of a request or WebSocket; works as a FastAPI dependency.

    Raises:
        RuntimeError: the middleware is not installed.
    """
    manager = connection.scope.get(MANAGER)
    if manager is None and (own := current_connection.get()) is not None and own.carrier.carries(connection.scope):
        manager = own.owner
    if not isinstance(manager, WebSocketConnectionManager):
        raise RuntimeError("no manager here: is the middleware installed? app.add_middleware(WebSocketStabilizer)")
    return manager


def get_connection(websocket: WebSocket) -> Connection:
    """The `Connection` of a WebSocket; works as a FastAPI dependency.

    Raises:
        RuntimeError: the middleware is not installed.
    """
    connection = websocket.scope.get(CONNECTION_KEY)
    if connection is None and (own := current_connection.get()) is not None and own.carrier.carries(websocket.scope):
        connection = own
    if not isinstance(connection, Connection):
        raise RuntimeError("no connection here: is the middleware installed? app.add_middleware(WebSocketStabilizer)")
    return connection
