"""Scopes belong to the application: other middleware may copy, freeze or rewrite them, outside and inside of ours."""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from wsstab import WebSocketConnectionManager, WebSocketStabilizer, get_connection, get_manager
from wsstab.hub.scopes import check_keys
from wsstab.hub.serving import SERVER_KEY
from wsstab.types import ASGIApp, Receive, Scope, Send

Change = Callable[[Any], Any]


class Between:
    """A middleware that passes another scope on."""

    def __init__(self, app: ASGIApp, change: Change) -> None:
        self.app = app
        self.change = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(self.change(scope) if scope["type"] != "lifespan" else scope, receive, send)


async def page(request: Request) -> JSONResponse:
    """Tell whether the request leads to the manager."""
    return JSONResponse({"found": isinstance(get_manager(request), WebSocketConnectionManager)})


async def socket(websocket: WebSocket) -> None:
    """Take a name, and tell which names are held and whether the name leads to this connection."""
    await websocket.accept()
    manager, connection = get_manager(websocket), get_connection(websocket)
    await manager.connect("ann", websocket)
    names = [each.client_id for each in manager.connections()]
    await websocket.send_json({"names": names, "same": manager.get_connection("ann") is connection})
    await websocket.receive_text()


def site() -> Starlette:
    """An application with a page and a WebSocket."""
    return Starlette(routes=[Route("/", page), WebSocketRoute("/ws", socket)])


def without_ours(scope: Scope) -> Scope:
    """A scope without the keys that ASGI does not define, and without a state."""
    return {key: value for key, value in scope.items() if "wsstab" not in key and key != "state"}


def only_without_marks(scope: Scope) -> Scope:
    """A scope without the stabilizer's own keys; its state stays."""
    return {key: value for key, value in scope.items() if "wsstab" not in key}


def deep(scope: Scope) -> Scope:
    """A deep copy, as hypercorn's ProxyFixMiddleware makes one, without the key ``app``."""
    return copy.deepcopy({key: value for key, value in scope.items() if key != "app"})


INSIDE: dict[str, Change] = {
    "deepcopy": deep,
    "copy": copy.copy,
    "new dict": dict,
    "new state": lambda scope: {**scope, "state": {**scope["state"]}},
    "state of Starlette": lambda scope: {**scope, "state": State(scope["state"])._state},
}
OUTSIDE: dict[str, Change] = {
    "frozen scope": MappingProxyType,
    "frozen state": lambda scope: {**scope, "state": MappingProxyType({"a": 1})},
    "both frozen": lambda scope: MappingProxyType({**scope, "state": MappingProxyType({})}),
    "no state": lambda scope: {key: value for key, value in scope.items() if key != "state"},
    "state of Starlette": lambda scope: {**scope, "state": State({"a": 1})},
}


def everything_works(app: ASGIApp) -> None:
    """Check that HTTP and WebSocket work, and that exactly one connection has the name."""
    client = TestClient(app)
    assert client.get("/").json() == {"found": True}
    with client.websocket_connect("/ws") as connected:
        assert connected.receive_json() == {"names": ["ann"], "same": True}
        connected.send_text("bye")


@pytest.mark.parametrize("change", INSIDE.values(), ids=INSIDE)
def test_middleware_inside_may_copy_the_scope(change: Change) -> None:
    """Manager and connection are still the same objects in a copy, even in a deep one."""
    everything_works(WebSocketStabilizer(Between(site(), change)))


@pytest.mark.parametrize("change", OUTSIDE.values(), ids=OUTSIDE)
def test_middleware_outside_may_pass_on_a_read_only_scope_or_state(change: Change) -> None:
    """The stabilizer then writes to a copy."""
    everything_works(Between(WebSocketStabilizer(site()), change))


def test_a_state_of_unknown_type_is_left_alone() -> None:
    """The scope itself still leads to the manager."""
    state = SimpleNamespace(mine=1)
    found: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append((scope["state"], get_manager(Request(scope))))

    stabilizer = WebSocketStabilizer(app)
    run(stabilizer({"type": "http", "path": "/", "headers": [], "state": state}, nothing, nothing))
    assert found == [(state, stabilizer.manager)]


@pytest.mark.parametrize("change", [without_ours, only_without_marks])
def test_a_scope_without_our_keys_still_leads_to_the_connection(change: Change) -> None:
    """The running handler identifies it; a second registration would make a second connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await socket(WebSocket(scope, receive, send))

    with TestClient(WebSocketStabilizer(Between(app, change))).websocket_connect("/ws") as connected:
        assert connected.receive_json() == {"names": ["ann"], "same": True}
        connected.send_text("bye")


@pytest.mark.parametrize("change", [without_ours, only_without_marks])
def test_a_second_stabilizer_inside_does_not_act_even_without_our_keys(change: Change) -> None:
    """There is one connection, and it belongs to the outer stabilizer."""
    inner = WebSocketStabilizer(site())
    outer = WebSocketStabilizer(Between(inner, change))
    everything_works(outer)
    assert (outer.manager.statistics().opened, inner.manager.statistics().opened) == (1, 0)


@pytest.mark.parametrize("key", ["manager", "connection"])
def test_a_state_key_used_by_the_lifespan_fails_at_startup(key: str) -> None:
    """Otherwise every request would fail."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield {key: "mine"}

    app = WebSocketStabilizer(Starlette(lifespan=lifespan))
    with pytest.raises(RuntimeError, match=rf"{key}.*mine.*{key}_key="), TestClient(app):
        pass


def test_a_lifespan_may_put_the_manager_itself_into_the_state() -> None:
    """It is the same object, so there is no conflict."""
    manager = WebSocketConnectionManager()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield {"manager": manager}

    with TestClient(WebSocketStabilizer(Starlette(lifespan=lifespan), manager=manager)) as client:
        assert client.get("/").status_code == 404


def test_a_failed_startup_is_reported_to_the_server_once() -> None:
    """Frameworks report it a second time, which servers treat as a protocol error."""
    said: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        scope["state"]["manager"] = "mine"
        try:
            await send({"type": "lifespan.startup.complete"})
        except RuntimeError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(event: Any) -> None:
        said.append(event["type"])

    run(WebSocketStabilizer(app)({"type": "lifespan", "state": {}}, receive, send))
    assert said == ["lifespan.startup.failed"]


async def nothing(*arguments: Any) -> Any:
    """Stand in for ``receive`` and ``send``; does nothing."""


def run(coroutine: Awaitable[None]) -> None:
    """Run a coroutine on an event loop of its own."""

    async def main() -> None:
        await coroutine

    anyio.run(main)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave the package's log level as it was."""
    logger = logging.getLogger("wsstab")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.parametrize("name", ["", 7, None, SERVER_KEY])
def test_an_unusable_state_key_is_refused(name: Any) -> None:
    """The error names the option."""
    with pytest.raises(ValueError, match="manager_key="):
        check_keys(name, "connection")
    with pytest.raises(ValueError, match="connection_key="):
        check_keys("manager", name)


def test_manager_key_and_connection_key_must_differ() -> None:
    """Otherwise one would overwrite the other."""
    with pytest.raises(ValueError, match="must be another name than manager_key"):
        check_keys("same", "same")
    check_keys("manager", "connection")
