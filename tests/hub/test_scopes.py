"""Scopes belong to the application: what others do to them on both sides of the middleware."""

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
    """A middleware that hands on another scope."""

    def __init__(self, app: ASGIApp, change: Change) -> None:
        self.app = app
        self.change = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(self.change(scope) if scope["type"] != "lifespan" else scope, receive, send)


async def page(request: Request) -> JSONResponse:
    """Whether the manager is found."""
    return JSONResponse({"found": isinstance(get_manager(request), WebSocketConnectionManager)})


async def socket(websocket: WebSocket) -> None:
    """Take a name, and tell how many hold one."""
    await websocket.accept()
    manager, connection = get_manager(websocket), get_connection(websocket)
    await manager.connect("ann", websocket)
    names = [each.client_id for each in manager.connections()]
    await websocket.send_json({"names": names, "same": manager.get_connection("ann") is connection})
    await websocket.receive_text()


def site() -> Starlette:
    """A page and a socket."""
    return Starlette(routes=[Route("/", page), WebSocketRoute("/ws", socket)])


def without_ours(scope: Scope) -> Scope:
    """Nothing but what the specification names."""
    return {key: value for key, value in scope.items() if "wsstab" not in key and key != "state"}


def only_without_marks(scope: Scope) -> Scope:
    """The state stays."""
    return {key: value for key, value in scope.items() if "wsstab" not in key}


def deep(scope: Scope) -> Scope:
    """As hypercorn's ProxyFixMiddleware does; what is the test client's own stays."""
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
    """HTTP and WebSocket, and one connection has the name."""
    client = TestClient(app)
    assert client.get("/").json() == {"found": True}
    with client.websocket_connect("/ws") as connected:
        assert connected.receive_json() == {"names": ["ann"], "same": True}
        connected.send_text("bye")


@pytest.mark.parametrize("change", INSIDE.values(), ids=INSIDE)
def test_a_middleware_inside_may_copy_the_scope(change: Change) -> None:
    """Manager and connection copy as themselves."""
    everything_works(WebSocketStabilizer(Between(site(), change)))


@pytest.mark.parametrize("change", OUTSIDE.values(), ids=OUTSIDE)
def test_a_middleware_outside_may_hand_on_what_cannot_be_written_to(change: Change) -> None:
    """Then a copy is written to."""
    everything_works(Between(WebSocketStabilizer(site()), change))


def test_a_state_of_an_unknown_kind_stays_as_it_is() -> None:
    """The scope leads to the manager all the same."""
    state = SimpleNamespace(mine=1)
    found: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append((scope["state"], get_manager(Request(scope))))

    stabilizer = WebSocketStabilizer(app)
    run(stabilizer({"type": "http", "path": "/", "headers": [], "state": state}, nothing, nothing))
    assert found == [(state, stabilizer.manager)]


@pytest.mark.parametrize("change", [without_ours, only_without_marks])
def test_a_scope_without_our_marks_still_leads_to_the_one_connection(change: Change) -> None:
    """By the handler that runs; a second name would be a second connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await socket(WebSocket(scope, receive, send))

    with TestClient(WebSocketStabilizer(Between(app, change))).websocket_connect("/ws") as connected:
        assert connected.receive_json() == {"names": ["ann"], "same": True}
        connected.send_text("bye")


@pytest.mark.parametrize("change", [without_ours, only_without_marks])
def test_a_second_stabilizer_inside_does_not_act_though_the_mark_is_gone(change: Change) -> None:
    """One connection, of the outer one."""
    inner = WebSocketStabilizer(site())
    outer = WebSocketStabilizer(Between(inner, change))
    everything_works(outer)
    assert (outer.manager.statistics().opened, inner.manager.statistics().opened) == (1, 0)


@pytest.mark.parametrize("key", ["manager", "connection"])
def test_a_name_of_ours_in_the_state_of_the_lifespan_is_told_at_startup(key: str) -> None:
    """Each request would fail."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield {key: "mine"}

    app = WebSocketStabilizer(Starlette(lifespan=lifespan))
    with pytest.raises(RuntimeError, match=rf"{key}.*mine.*{key}_key="), TestClient(app):
        pass


def test_a_lifespan_may_hold_the_manager_itself() -> None:
    """That is the same one."""
    manager = WebSocketConnectionManager()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        yield {"manager": manager}

    with TestClient(WebSocketStabilizer(Starlette(lifespan=lifespan), manager=manager)) as client:
        assert client.get("/").status_code == 404


def test_a_failed_startup_is_said_once() -> None:
    """To the server, in words; frameworks say it once more, which servers take for a mistake."""
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
    """Neither receives nor sends."""


def run(coroutine: Awaitable[None]) -> None:
    """Run it on a loop of its own."""

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
def test_a_name_that_could_hold_nothing_is_refused(name: Any) -> None:
    """The message names the option."""
    with pytest.raises(ValueError, match="manager_key="):
        check_keys(name, "connection")
    with pytest.raises(ValueError, match="connection_key="):
        check_keys("manager", name)


def test_two_things_need_two_names() -> None:
    """One would be in the place of the other."""
    with pytest.raises(ValueError, match="must be another name than manager_key"):
        check_keys("same", "same")
    check_keys("manager", "connection")
