"""Middleware: wraps the application and gives each WebSocket its connection.

HTTP requests pass through unchanged, with the manager in ``scope["state"]``. If a parent application and a mounted one
both have the middleware, the outer one acts.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from .config import WebSocketConfig
from .connection import Connection, Peer, connection_of, current_peer, run
from .hub.hub import Hub
from .hub.opening import Opening
from .hub.scopes import check_keys, keep, taken
from .hub.serving import SERVER_KEY, ServingServer
from .manager import WebSocketConnectionManager, hub_of
from .routes.routing import Routing
from .signals import watch_signals
from .types import PEER_KEY, ASGIApp, Event, Receive, Scope, Send
from .wires import shield_server

__all__ = ["WebSocketStabilizer", "get_connection", "get_manager"]

MANAGER = "wsstab.manager"
SHORTEST_SHUTDOWN = 0.1
"""Seconds that a shutdown gets at least, since ``Drain(timeout=0)`` is legal for a drain."""


class WebSocketStabilizer:
    """ASGI middleware that stabilises every WebSocket of an application.

    ``app.add_middleware(WebSocketStabilizer, heartbeat_interval=25)``, or around any ASGI callable:
    ``app = WebSocketStabilizer(app)``.

    Args:
        app: the application.
        config: the configuration; exclusive with ``options``.
        manager: the manager to use, for code that needs one outside of requests; exclusive with the other two.
        manager_key: key in ``scope["state"]`` under which handlers find the manager.
        connection_key: key under which WebSocket handlers find their `Connection`.
        **options: any field of `WebSocketConfig`.

    Raises:
        ValueError: an option or key is wrong; the message names it, its value and what is allowed.
        TypeError: an option is unknown, or several of ``config``, ``manager`` and options are given.

    Attributes:
        manager: the manager of the application.
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
            raise TypeError("WebSocketStabilizer needs an application to wrap")
        if sum(given is not None for given in (config, manager, options or None)) > 1:
            raise TypeError("pass options, or config=, or manager=: only one of them")
        check_keys(manager_key, connection_key)
        self.app: ASGIApp = application
        if manager is None:
            manager = WebSocketConnectionManager(config if config is not None else WebSocketConfig(**options))
        self.manager = manager
        self._hub = hub_of(manager)
        self._hub.has_middleware = True
        self._manager_key = manager_key
        self._connection_key = connection_key
        self._routing = Routing(manager.config, application)
        self._opening = Opening(self._hub, self._routing, connection_key)
        shield_server()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Every HTTP request runs this code, so it calls no helper that it can do without.
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
                # An outer middleware has made a scope, or a state in it, that cannot be written to like a dict.
                scope = {**scope, MANAGER: manager}
                there = keep(scope, self._manager_key, manager)
            if kind == "http":
                if there is not manager:
                    self._check_outer(there)
                    scope[MANAGER] = there
                await self.app(scope, receive, send)
                return
            outer = current_peer.get()
            if outer is not None and outer.carrier.carries(scope):
                # A middleware in between has removed the keys by which an outer stabilizer shows itself.
                self._restore(scope, outer)
                if await self._opening.admits(outer, scope):
                    await self.app(scope, receive, send)
            elif there is not manager:
                raise taken(self._manager_key, there, "manager_key")
            elif (handler := await self._opening.open(scope, receive, send)) is not None:
                await run(self.app, scope, handler)
        elif kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind != "websocket" or (outer := outer_peer(scope)) is None or await self._opening.admits(outer, scope):
            # The outer stabilizer acts, but the guards of this one still hold.
            await self.app(scope, receive, send)

    def _check_outer(self, there: object) -> None:
        """Accept the manager of an outer stabilizer under our key; refuse any other value."""
        if not isinstance(there, WebSocketConnectionManager):
            raise taken(self._manager_key, there, "manager_key")

    def _restore(self, scope: Scope, outer: Peer) -> None:
        manager = manager_of(outer)
        scope[MANAGER], scope[PEER_KEY] = manager, outer
        state = scope["state"]
        if isinstance(state, MutableMapping):
            state.update({self._manager_key: manager, self._connection_key: connection_of(outer)})

    # Lifespan: the manager starts and stops with the application.

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = failed = serving = False
        server = ServingServer()

        async def send_if_sound(event: Event) -> None:
            nonlocal failed, serving
            why = self._key_conflict(scope.get("state")) if event["type"] == "lifespan.startup.complete" else None
            if why is not None:
                # An error alone would look to some servers like an application without a lifespan.
                failed = True
                await send({"type": "lifespan.startup.failed", "message": str(why)})
                raise why
            if not failed:
                await send(event)
                # Only now: the application may add routes while it starts.
                if not serving and event["type"] == "lifespan.startup.complete":
                    self._routing.tell_of_unmatched(self._hub.warn_once)
                serving = serving or event["type"] == "lifespan.startup.complete"

        async def receive_and_act() -> Event:
            nonlocal started
            event = await receive()
            if event["type"] == "lifespan.startup":
                if isinstance(state := scope.get("state"), MutableMapping):
                    state[SERVER_KEY] = server
                    self._hub.servers.add(server)
                # Again, because a server may have loaded its modules only after the middleware was made.
                shield_server()
                await self.manager.start()
                watch_signals(self._hub)
                started = True
            elif event["type"] == "lifespan.shutdown":
                # Before the shutdown, so that an error in it does not cause a second one below.
                started = False
                await self._shut_down(server)
            return event

        try:
            await self.app(scope, receive_and_act, send_if_sound)
        finally:
            if started and not serving:
                await self._shut_down(server)
            elif started:
                # The lifespan ended by itself. Servers go on serving then, and never say when they stop.
                self._hub.servers.discard(server)

    def _key_conflict(self, state: object) -> RuntimeError | None:
        """The error if the application uses one of our keys in the lifespan's state: every request would fail."""
        if not isinstance(state, Mapping):
            return None
        for key, option in ((self._manager_key, "manager_key"), (self._connection_key, "connection_key")):
            if state.get(key, self.manager) is not self.manager:
                return taken(key, state[key], option)
        return None

    async def _shut_down(self, server: ServingServer) -> None:
        timeout = max(self.manager.config.drain.timeout, SHORTEST_SHUTDOWN)
        self._hub.servers.discard(server)
        if self._hub.servers:
            await self._hub.stop_server(server, timeout)
        else:
            await self.manager.graceful_shutdown(timeout)


def outer_peer(scope: Scope) -> Peer | None:
    """The peer that an outer stabilizer has opened; ``None`` if there is none."""
    return scope.get(PEER_KEY) or current_peer.get()


def manager_of(peer: Peer) -> Any:
    """The manager that a peer belongs to."""
    assert isinstance(peer.owner, Hub)
    return peer.owner.manager


def get_manager(connection: HTTPConnection) -> WebSocketConnectionManager:
    """The manager of a request or WebSocket; works as a FastAPI dependency.

    Raises:
        RuntimeError: the middleware is not installed.
    """
    manager = connection.scope.get(MANAGER)
    if manager is None and (own := current_peer.get()) is not None and own.carrier.carries(connection.scope):
        manager = manager_of(own)
    if not isinstance(manager, WebSocketConnectionManager):
        raise RuntimeError("no manager here: is the middleware installed? app.add_middleware(WebSocketStabilizer)")
    return manager


def get_connection(websocket: WebSocket) -> Connection:
    """The `Connection` of a WebSocket; works as a FastAPI dependency.

    Raises:
        RuntimeError: the middleware is not installed.
    """
    peer = websocket.scope.get(PEER_KEY)
    if peer is None and (own := current_peer.get()) is not None and own.carrier.carries(websocket.scope):
        peer = own
    if not isinstance(peer, Peer):
        raise RuntimeError("no connection here: is the middleware installed? app.add_middleware(WebSocketStabilizer)")
    return connection_of(peer)
