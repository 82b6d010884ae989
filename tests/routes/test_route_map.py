"""The routes of an application: where a request leads, what paths there are, and what is not known."""

from __future__ import annotations

import functools
import logging
from copy import deepcopy
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute

from tests.support.knocking import scope_of
from wsstab import Override
from wsstab.routes.route_map import RouteMap, relative
from wsstab.types import Receive, Scope, Send


async def echo(websocket: WebSocket) -> None:
    """An endpoint."""


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """An application of another kind."""


def page(request: Any) -> None:
    """An endpoint for HTTP."""


class Feed(WebSocketEndpoint):
    """A class of endpoints."""


def service() -> FastAPI:
    """FastAPI with a router in a router."""
    app, outer, inner = FastAPI(), APIRouter(prefix="/outer"), APIRouter()
    inner.add_api_websocket_route("/inner/{name}", echo)
    outer.include_router(inner, prefix="/in")
    app.include_router(outer, prefix="/v2")
    app.get("/page")(page)
    return app


ROUTES: list[BaseRoute] = [
    WebSocketRoute("/echo", echo),
    WebSocketRoute("/rooms/{number:int}", Feed),
    Route("/page", page),
    Mount("/v1", routes=[WebSocketRoute("/{name}", echo)]),
    Mount("/{tenant}/service", app=CORSMiddleware(service())),
    Mount("/other", app=bare),
    Host("chat.example.com", app=Router(routes=[WebSocketRoute("/hosted", echo)])),
]


def where(app: object, path: str, root_path: str = "") -> tuple[object, str] | None:
    """Where it leads."""
    return RouteMap(app).resolve(scope_of(path, root_path), root_path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/echo", (echo, "/echo")),
        ("/echo\n", (echo, "/echo")),
        ("/rooms/007", (Feed, "/rooms/7")),
        ("/v1/a", (echo, "/v1/a")),
        ("/v1/v1/a", None),
        ("/acme/service/v2/outer/in/inner/x", (echo, "/acme/service/v2/outer/in/inner/x")),
        ("/other/way/", (bare, "/other/way/")),
        ("/hosted", (echo, "/hosted")),
        ("/page", None),
        ("/nowhere", None),
    ],
)
@pytest.mark.parametrize("root_path", ["", "/api"])
def test_a_request_leads_to_an_endpoint(path: str, root_path: str, expected: Any) -> None:
    """The map also tells the path as the route writes it."""
    assert where(Starlette(routes=ROUTES), root_path + path, root_path) == expected


def test_resolving_a_path_does_not_change_the_scope() -> None:
    """The application gets the scope afterwards."""
    scope = {**scope_of("/api/acme/service/v2/outer/in/inner/x"), "path_params": {}}
    before = deepcopy(scope)
    # The root path differs from that of the scope, so that writing it into the scope would show.
    assert RouteMap(Starlette(routes=ROUTES)).resolve(scope, "/api") is not None
    assert scope == before


def test_the_paths_are_those_of_all_routes_for_websockets() -> None:
    """A mounted application of an unknown kind may have any path."""
    assert RouteMap(Starlette(routes=ROUTES)).templates() == [
        "/echo",
        "/rooms/{number:int}",
        "/v1/{name}",
        "/{tenant}/service/v2/outer/in/inner/{name}",
        "/other/{rest:path}",
        "/hosted",
    ]


@pytest.mark.parametrize("app", [bare, functools.partial(bare), object(), CORSMiddleware(bare)])
def test_nothing_is_known_of_an_application_without_starlette_s_routes(app: object) -> None:
    """The map asks it for nothing."""
    found = RouteMap(app)
    assert (found.templates(), found.marked, found.root_path, where(app, "/echo")) == (None, False, "", None)


def test_a_router_with_a_default_of_its_own_may_have_any_path() -> None:
    """The default answers where no route matches."""
    assert RouteMap(Router(routes=ROUTES[:1], default=bare)).templates() is None
    mounted = Starlette(routes=[Mount("/v1", app=Router(routes=ROUTES[:1], default=bare))])
    assert RouteMap(mounted).templates() == ["/v1/{rest:path}"]


def test_the_root_path_of_fastapi_replaces_that_of_the_scope() -> None:
    """At the top and in a mount, as FastAPI does in its own call."""
    app = service()
    app.root_path = "/api"
    assert RouteMap(CORSMiddleware(app)).root_path == "/api"
    mounted = Starlette(routes=[Mount("/v2", app=app)])
    # Its route is found by the whole path: what was mounted has forgotten where.
    assert where(mounted, "/v2/outer/in/inner/x") == (echo, "/v2/v2/outer/in/inner/x")


def test_an_endpoint_whose_override_was_added_later_is_found() -> None:
    """Also in a router that is included."""

    class Own(WebSocketEndpoint):
        pass

    async def late(websocket: WebSocket) -> None: ...

    marked = Override(broadcast=False)(Own)

    def add(app: Any) -> None:
        app.router.routes.append(WebSocketRoute("/marked", marked))

    app = Starlette(routes=[Mount("/in", app=Starlette(routes=[WebSocketRoute("/echo", echo)]))])
    found = RouteMap(app)
    assert (found.marked, found.literal) == (False, True)
    add(app.routes[0].app)  # type: ignore[attr-defined]
    assert found.marked
    assert found.resolve(scope_of("/in/marked"), "") == (marked, "/in/marked")
    fast, router = FastAPI(), APIRouter()
    fast.include_router(router, prefix="/late")
    known = RouteMap(fast)
    assert not known.marked
    router.add_api_websocket_route("/marked", Override(broadcast=False)(late))
    if known.resolve(scope_of("/late/marked"), "") is None:
        # FastAPI before 0.139 copies the routes of a router that it includes.
        fast.include_router(router, prefix="/late")
    assert known.marked


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_route_that_replaces_another_is_noticed(depth: int) -> None:
    """The number of routes stays the same, however deep it is mounted."""

    async def late(websocket: WebSocket) -> None: ...

    app: Any = Starlette(routes=[WebSocketRoute("/feed", echo)])
    routes = app.router.routes
    for _ in range(depth):
        app = Starlette(routes=[Mount("/in", app=app)])
    found, path = RouteMap(app), "/in" * depth + "/feed"
    assert (found.marked, found.resolve(scope_of(path), "")) == (False, (echo, path))
    marked = Override(broadcast=False)(late)
    routes[0] = WebSocketRoute("/feed", marked)
    assert (found.marked, found.resolve(scope_of(path), "")) == (True, (marked, path))


def test_a_route_that_replaces_another_in_an_included_router_is_noticed() -> None:
    """The number of routes stays the same."""

    async def late(websocket: WebSocket) -> None: ...

    app, router = FastAPI(), APIRouter()
    router.add_api_websocket_route("/feed", echo)
    app.include_router(router)
    found = RouteMap(app)
    assert not found.marked
    router.routes.pop()
    router.add_api_websocket_route("/feed", Override(broadcast=False)(late))
    # FastAPI before 0.139 copies the routes of a router that it includes.
    assert found.marked is RouteMap(app).marked


def test_whether_a_path_has_one_spelling_depends_on_its_convertors() -> None:
    """``7`` and ``007`` are the same number."""
    for patterns, literal in ((["/rooms/7"], False), (["/room/7", "/rooms"], True), (["*"], False), ([], True)):
        assert RouteMap(Starlette(routes=ROUTES[:2]), patterns).literal is literal
        assert RouteMap(Starlette(routes=ROUTES[:1]), patterns).literal
    mounted = [Mount("/{tenant}", routes=[WebSocketRoute("/{rest:path}", echo)])]
    assert RouteMap(Starlette(routes=mounted), ["*"]).literal
    assert not RouteMap(Starlette(routes=ROUTES[1:2] * 10_001), ["/a"]).literal


class Failing(Convertor[str]):
    """A convertor with a mistake."""

    regex = "x+"

    def convert(self, value: str) -> str:
        """Fail."""
        raise LookupError("of the convertor")

    def to_string(self, value: str) -> str:
        """Not reached."""
        return value


def test_a_route_whose_convertor_raises_is_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """The request itself then shows the error."""
    register_url_convertor("failing", Failing())
    caplog.set_level(logging.DEBUG, "wsstab")
    assert where(Starlette(routes=[WebSocketRoute("/{word:failing}", echo)]), "/x") is None
    assert "could not be resolved" in caplog.text


def test_an_application_that_is_mounted_in_itself_is_walked_once() -> None:
    """Otherwise the walk would never end."""
    app = Starlette(routes=ROUTES[:1])
    for name in ("/again", "/more"):
        app.mount(name, app)
    assert RouteMap(app).templates() == ["/echo", "/again/{rest:path}", "/more/{rest:path}"]


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/api/x", "/api", "/x"),
        ("/apix", "/api", "/apix"),
        ("/api", "/api", ""),
        ("/x", "/api", "/x"),
        ("/x", "", "/x"),
        ("//x", "/", "/x"),
        ("/api/x", "/api/", "/api/x"),
    ],
)
def test_the_relative_path_is_that_of_starlette(path: str, root: str, expected: str) -> None:
    """``get_route_path`` is the reference."""
    assert relative(path, root) == expected
