"""What a path means: its spellings, the Overrides that they lead to, and the guards of all of them."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient

from tests.support.knocking import Answer, knock, scope_of
from wsstab import Close, Override, WebSocketConfig, WebSocketStabilizer
from wsstab.routes.routing import Routing, spellings
from wsstab.types import ASGIApp, Scope

pytestmark = pytest.mark.anyio

ACCEPTED = Answer(101)
REFUSED = Answer(403, "not authorized")


async def nobody(scope: Scope) -> bool:
    """Refuse."""
    return False


async def echo(websocket: WebSocket) -> None:
    """Accept."""
    await websocket.accept()


GUARD = Override(authorize=nobody)


def starlette(*paths: str) -> Starlette:
    """An application with these WebSocket routes."""
    return Starlette(routes=[WebSocketRoute(path, echo) for path in paths])


def stabilised(app: Any, **options: Any) -> WebSocketStabilizer:
    """With the Override of `/admin`."""
    return WebSocketStabilizer(app, **{"routes": {"/admin": GUARD}, **options})


@pytest.mark.parametrize("root", ["", "/api", "/", "/api/"])
@pytest.mark.parametrize(
    "path", ["/admin", "/admin\n", "//admin", "/admin/", "/admin/\n", "/api/admin", "/api/admin\n"]
)
async def test_every_spelling_of_a_path_meets_its_guard(root: str, path: str) -> None:
    """This holds for any root path; a path that leads nowhere is refused as well."""
    assert (await knock(stabilised(starlette("/admin", "/open")), path, root)).status == 403
    assert await knock(stabilised(starlette("/admin", "/open")), "/open", root) == ACCEPTED


async def test_inside_a_mount_the_path_is_the_part_behind_the_mount() -> None:
    """The routes of the mounted application are written in this way."""
    inner = Starlette(
        routes=[WebSocketRoute("/admin", echo)], middleware=[Middleware(WebSocketStabilizer, routes={"/admin": GUARD})]
    )
    outer = Starlette(routes=[Mount("/v1", app=Starlette(routes=[Mount("/v2", app=inner)]))])
    for root in ("", "/api"):
        assert await knock(outer, f"{root}/v1/v2/admin", root) == REFUSED


async def test_behind_a_host_route_the_path_is_whole() -> None:
    """A host takes nothing off the path."""
    routes = [Host("chat.example.com", app=Router(routes=[WebSocketRoute("/admin", echo)]))]
    assert await knock(stabilised(Starlette(routes=routes)), "/admin") == REFUSED


@pytest.mark.parametrize("inside", [True, False])
async def test_the_root_path_of_fastapi_counts_before_it_is_in_the_scope(inside: bool) -> None:
    """FastAPI puts it into the scope when it is called."""
    app = FastAPI()
    app.root_path = "/api"
    app.add_api_websocket_route("/admin", echo)
    around: ASGIApp = app if inside else stabilised(app)
    if inside:
        app.add_middleware(WebSocketStabilizer, routes={"/admin": GUARD})
    for path in ("/admin", "/api/admin", "/api/admin\n"):
        assert await knock(around, path) == REFUSED


async def test_an_override_for_the_path_behind_the_root_path_opens_it() -> None:
    """The application routes by that path, and no other spelling has a pattern."""
    app = stabilised(starlette("/public"), authorize=nobody, routes={"/public": Override(authorize=None)})
    assert await knock(app, "/api/public", "/api") == ACCEPTED
    assert await knock(app, "/v1/api/public", "/v1/api") == ACCEPTED


async def test_of_two_spellings_the_stricter_guard_holds() -> None:
    """A pattern that opens the full path does not open what the application routes by another path."""
    closed = stabilised(
        starlette("/public", "/{name}"), authorize=nobody, routes={"/api/public": Override(authorize=None)}
    )
    assert await knock(closed, "/api/public", "/api") == REFUSED
    newline = stabilised(
        starlette("/public", "/{name}"), authorize=nobody, routes={"/public": Override(authorize=None)}
    )
    assert await knock(newline, "/public") == ACCEPTED
    assert await knock(newline, "/public\n") == REFUSED


async def test_all_guards_of_all_spellings_are_asked() -> None:
    """They are asked in their order, each once; the options are those of the path behind the root path."""
    asked: list[str] = []

    def noting(word: str) -> Any:
        async def authorize(scope: Scope) -> bool:
            asked.append(word)
            return True

        return authorize

    one, two = noting("one"), noting("two")
    routes = {
        "/room": Override(authorize=one, max_message_size=5, allowed_origins=["a.example", "b.example"]),
        "/api/*": Override(authorize=two, max_message_size=7, allowed_origins=["b.example", "c.example"]),
    }
    app = stabilised(starlette("/room"), routes=routes)
    assert await knock(app, "/api/room", "/api") == ACCEPTED
    assert asked == ["one", "two"]
    answers = [await knock(app, "/api/room", "/api", origin=f"https://{name}.example") for name in "abc"]
    assert [each.status for each in answers] == [403, 101, 403]
    entrance = Routing(app.manager.config, app.app).entrance(scope_of("/api/room", "/api"))
    assert entrance is not None
    assert entrance.terms().config.max_message_size == 5


@pytest.mark.parametrize(("names", "status"), [(("ann", "ann"), 101), (("ann", "bob"), 403), ((True, "bob"), 101)])
async def test_two_guards_that_give_different_names_refuse(names: tuple[Any, Any], status: int) -> None:
    """If both give the same name, the connection gets it."""

    async def first(scope: Scope) -> Any:
        return names[0]

    async def second(scope: Scope) -> Any:
        return names[1]

    routes = {"/room": Override(authorize=first), "/api/*": Override(authorize=second)}
    assert (await knock(stabilised(starlette("/room"), routes=routes), "/api/room", "/api")).status == status


@pytest.mark.parametrize(("path", "status"), [("/rooms/7", 403), ("/rooms/007", 403), ("/rooms/8", 101)])
async def test_another_spelling_of_a_parameter_meets_the_same_guard(path: str, status: int) -> None:
    """The convertor of the route decides how the parameter is written."""
    app = stabilised(starlette("/rooms/{number:int}"), routes={"/rooms/7": GUARD})
    assert (await knock(app, path)).status == status


def test_a_plain_path_is_looked_up_without_asking_any_route() -> None:
    """With patterns in ``routes``, such a path is one look-up."""
    config = WebSocketConfig(routes={"/a": GUARD}).frozen()

    class Untouched(WebSocketRoute):
        def matches(self, scope: Any) -> Any:
            raise AssertionError

    routing = Routing(config, Starlette(routes=[Untouched("/a", echo)]))
    votes, marks = routing.votes(scope_of("/a"), [""])
    assert ([vote.override for vote in votes], marks) == ([GUARD], ())
    assert routing.plain.config is config


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a", {"/a"}),
        ("/a\n", {"/a\n", "/a"}),
        ("//a//b/", {"//a//b/", "/a/b/", "/a/b"}),
        ("", {"/", ""}),
        ("/", {"/"}),
        ("/\n", {"/\n", "/"}),
    ],
)
def test_a_path_has_these_spellings(path: str, expected: set[str]) -> None:
    """One newline, not two: an expression that ends in ``$`` ignores one."""
    assert set(spellings([path])) == expected


# Overrides of endpoints.


@GUARD
async def guarded(websocket: WebSocket) -> None:
    """Never runs."""
    raise AssertionError


async def test_an_endpoint_is_guarded_by_its_own_override() -> None:
    """No pattern is needed, on Starlette and on FastAPI; the guard is asked before the door lets the peer in."""
    app = WebSocketStabilizer(Starlette(routes=[Mount("/v1", routes=[WebSocketRoute("/any/{name}", guarded)])]))
    assert await knock(app, "/v1/any/thing") == REFUSED
    assert app.manager.statistics().refused == {"authorize": 1}
    fast = FastAPI()
    fast.add_middleware(WebSocketStabilizer)
    fast.add_api_websocket_route("/any", guarded)
    assert await knock(fast, "/any") == REFUSED


async def test_the_decorators_of_route_and_override_work_in_either_order() -> None:
    """FastAPI's decorator returns the function that it was given."""
    fast = FastAPI()
    fast.add_middleware(WebSocketStabilizer)

    @GUARD
    @fast.websocket("/below")
    async def below(websocket: WebSocket) -> None:
        raise AssertionError

    @fast.websocket("/above/{number}")
    @Override(authorize=None)
    async def above(websocket: WebSocket, number: int) -> None:
        assert number == 7
        await websocket.accept()

    assert await knock(fast, "/below") == REFUSED
    assert await knock(fast, "/above/7") == ACCEPTED


async def test_the_options_of_an_endpoint_win_and_the_guards_of_both_hold() -> None:
    """A pattern that names no guard leaves it to the endpoint."""

    @Override(max_message_size=3, authorize=None)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    routes = {"/small": Override(max_message_size=10, heartbeat_interval=5), "/shut": GUARD}
    inner = Starlette(routes=[WebSocketRoute(path, endpoint) for path in ("/small", "/shut", "/other")])
    app = WebSocketStabilizer(inner, routes=routes, authorize=nobody)
    assert [(await knock(app, path)).status for path in ("/small", "/shut", "/other", "/nowhere")] == [
        101,
        403,
        101,
        403,
    ]
    routing = app._routing
    entrance = routing.entrance(scope_of("/small"))
    again = routing.entrance(scope_of("/small"))
    assert entrance is not None
    assert again is not None
    config = entrance.terms().config
    assert (config.max_message_size, config.heartbeat_interval) == (3, 5)
    assert again.terms().config is config


async def test_combined_options_are_cached_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of endpoints does not matter."""
    monkeypatch.setattr("wsstab.routes.routing.MOST_COMBINED", 2)
    routing = Routing(WebSocketConfig().frozen(), starlette())
    for number in range(1, 10):
        routing.terms([routing._base], (Override(max_message_size=number),))
        assert len(routing._combined) <= 2


# The warning at the start.


def started(app: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a start warns of."""
    with TestClient(app):
        pass
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_a_pattern_that_no_route_can_match_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The line lists the paths that exist."""
    app = stabilised(Starlette(routes=[*starlette("/a/{b}").routes, Route("/admin", lambda request: None)]))
    assert started(app, caplog) == started(app, caplog)[:1]
    assert started(app, caplog) == [
        "! routes: '/admin' matches no WebSocket route of the application; there are: /a/{b} (without the root path)"
    ]


@pytest.mark.parametrize("pattern", ["/a/*", "*", "/a/7", "*/b", "/mounted/anything"])
def test_a_pattern_that_a_route_can_match_is_not_reported(pattern: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a pattern that a mounted application may serve."""

    async def bare(scope: Scope, receive: Any, send: Any) -> None: ...

    app = starlette("/a/{b}", "/{x}/b")
    app.mount("/mounted", bare)
    assert started(stabilised(app, routes={pattern: GUARD}), caplog) == []


def test_the_line_about_a_pattern_names_only_some_of_many_paths(caplog: pytest.LogCaptureFixture) -> None:
    """Nor are more pairs compared than a warning is worth."""
    paths = [f"/path{number}" for number in range(30)]
    (line,) = started(stabilised(starlette(*paths)), caplog)
    assert line.endswith("/path9, and 20 more (without the root path)")
    caplog.clear()
    assert started(stabilised(starlette(*paths * 400)), caplog) == []


def test_a_pattern_is_not_reported_if_the_paths_are_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """An application that is not Starlette may answer any path."""

    async def bare(scope: Scope, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    assert started(stabilised(bare), caplog) == []


def test_a_pattern_is_reported_if_the_application_has_no_routes(caplog: pytest.LogCaptureFixture) -> None:
    """An empty Starlette application answers no path at all."""
    (line,) = started(stabilised(Starlette()), caplog)
    assert "there are: none" in line


def test_a_pattern_may_begin_with_fastapi_s_own_root_path(caplog: pytest.LogCaptureFixture) -> None:
    """It is known at the start."""
    app = FastAPI()
    app.root_path = "/api"
    app.add_api_websocket_route("/admin", echo)
    assert started(stabilised(app, routes={"/api/admin": GUARD}), caplog) == []


async def test_a_close_of_a_guard_is_the_answer() -> None:
    """It is answered with the guard's own code and reason, whichever spelling it guards."""

    async def ban(scope: Scope) -> Close:
        return Close(4403, "banned", status=401)

    app = stabilised(starlette("/room"), routes={"/api/*": Override(authorize=ban)})
    assert await knock(app, "/api/room", "/api") == Answer(401, "banned")
    with anyio.fail_after(5):
        assert await knock(app, "/room", "/api") == ACCEPTED
