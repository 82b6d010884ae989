"""Second look: guards that the door could not know are asked before accept; of two stabilizers both are asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.routing import Mount, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.support.knocking import Answer, knock, scope_of
from tests.support.odd import LocalProxy
from wsstab import Override, WebSocketStabilizer
from wsstab.config.marks import watch
from wsstab.connection import current_peer
from wsstab.manager import hub_of
from wsstab.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio

ACCEPTED = Answer(101)
REFUSED = Answer(403, "not authorized")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


async def nobody(scope: Scope) -> bool:
    """An ``authorize`` that refuses everybody."""
    return False


async def echo(websocket: WebSocket) -> None:
    """Accept."""
    await websocket.accept()


GUARD = Override(authorize=nobody)


@GUARD
async def guarded(websocket: WebSocket) -> None:
    """Never runs."""
    raise AssertionError


@GUARD
class Guarded(WebSocketEndpoint):
    """Never runs."""

    async def on_connect(self, websocket: WebSocket) -> None:
        """Never."""
        raise AssertionError


@GUARD
class Bare:
    """An ASGI application as a class whose instances are awaited, one for each call."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.send = send

    def __await__(self) -> Any:
        return self.send({"type": "websocket.accept"}).__await__()


def rewriting(app: ASGIApp, copies: bool, **changes: Any) -> ASGIApp:
    """Middleware that changes the scope, or a copy of it."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope} if copies else scope
        scope.update(changes)
        await app(scope, receive, send)

    return middleware


@pytest.mark.parametrize("copies", [True, False])
@pytest.mark.parametrize("endpoint", [guarded, Guarded, Bare])
async def test_an_endpoint_is_guarded_even_if_middleware_rewrote_the_path(endpoint: Any, copies: bool) -> None:
    """The door decided by another path."""
    inner = Starlette(routes=[WebSocketRoute("/open", echo), WebSocketRoute("/admin", endpoint)])
    app = WebSocketStabilizer(rewriting(inner, copies, path="/admin"))
    assert await knock(app, "/open") == REFUSED
    assert app.manager.statistics().refused == {"authorize": 1}
    assert hub_of(app.manager).admission.count == 0


@pytest.mark.parametrize("changes", [{"path": "/admin"}, {"path": "/api/admin", "root_path": "/api"}])
@pytest.mark.parametrize("mounted", [True, False])
async def test_a_route_pattern_applies_to_the_rewritten_path(changes: dict[str, str], mounted: bool) -> None:
    """That holds even if the root path was rewritten as well, and if mounts follow."""
    inner = Starlette(routes=[WebSocketRoute("/admin", echo), WebSocketRoute("/v1/{x}", echo)])
    if mounted:
        inner = Starlette(routes=[Mount("/v1", app=inner)])
        changes = {**changes, "path": changes["path"].replace("/admin", "/v1/admin")}
    pattern = "/v1/admin" if mounted else "/admin"
    app = WebSocketStabilizer(rewriting(inner, False, **changes), routes={pattern: GUARD})
    assert await knock(app, "/open") == REFUSED
    open_to_all = WebSocketStabilizer(rewriting(inner, False, **changes), routes={"/else": GUARD})
    assert await knock(open_to_all, "/open") == ACCEPTED


async def test_an_override_that_opens_one_endpoint_does_not_open_another() -> None:
    """The door let the peer in by the Override of an endpoint that did not run, so the other guard is still asked."""

    @Override(authorize=None)
    async def public(websocket: WebSocket) -> None:
        await websocket.accept()

    inner = Starlette(routes=[WebSocketRoute("/public", public), WebSocketRoute("/private", echo)])
    assert await knock(WebSocketStabilizer(inner, authorize=nobody), "/public") == ACCEPTED
    for copies in (True, False):
        app = WebSocketStabilizer(rewriting(inner, copies, path="/private"), authorize=nobody)
        assert await knock(app, "/public") == REFUSED


async def test_an_endpoint_behind_an_unknown_router_is_guarded() -> None:
    """The decorated endpoint reports itself when it is called."""

    @GUARD
    async def endpoint(send: Send) -> None:
        raise AssertionError

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await endpoint(send)

    assert await knock(WebSocketStabilizer(bare), "/anything") == REFUSED


async def test_a_dependency_that_accepts_runs_into_the_guard() -> None:
    """FastAPI runs dependencies before the endpoint."""
    from fastapi import Depends

    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()

    app = FastAPI()

    @app.websocket("/admin")
    @GUARD
    async def admin(websocket: WebSocket, ready: None = Depends(accept)) -> None:
        raise AssertionError

    assert await knock(WebSocketStabilizer(rewriting(app, False, path="/admin")), "/open") == REFUSED


def test_a_peer_that_middleware_accepted_before_the_guard_is_closed() -> None:
    """The middleware on the way knows nothing of the guard, so a refusal comes too late."""
    inner = Starlette(routes=[WebSocketRoute("/admin", guarded)])

    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        await inner({**scope, "path": "/admin"}, receive, send)

    with TestClient(WebSocketStabilizer(early)) as client, client.websocket_connect("/open") as socket:
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
        assert caught.value.code == 1008


async def test_each_guard_is_asked_only_once() -> None:
    """A ticket, for example, may be valid only once."""
    asked: list[str] = []

    async def ticket(scope: Scope) -> str:
        asked.append(scope["path"])
        return "ann"

    @Override(authorize=ticket)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        assert websocket.state.connection.client_id == "ann"

    inner = Starlette(
        routes=[WebSocketRoute("/room", endpoint)],
        middleware=[Middleware(WebSocketStabilizer, authorize=ticket, routes={"/room": Override(authorize=ticket)})],
    )
    app = WebSocketStabilizer(Starlette(routes=[Mount("/v1", app=inner)]), authorize=ticket)
    assert await knock(app, "/v1/room") == ACCEPTED
    assert asked == ["/v1/room"]


@pytest.mark.parametrize(("name", "status"), [("ann", 101), ("bob", 403), (True, 101)])
async def test_a_later_guard_must_give_the_same_name_or_none(name: Any, status: int) -> None:
    """A different name is refused."""

    async def first(scope: Scope) -> str:
        return "ann"

    async def second(scope: Scope) -> Any:
        return name

    inner = WebSocketStabilizer(Starlette(routes=[WebSocketRoute("/room", echo)]), authorize=second)
    assert (await knock(WebSocketStabilizer(inner, authorize=first), "/room")).status == status


LIMITS = [
    ({"duplicate_client": "allow", "max_connections_per_client": 1}, "max_connections_per_client", 429),
    ({"duplicate_client": "reject"}, "duplicate_client", 409),
]


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize(("options", "limit", "status"), LIMITS, ids=["allow", "reject"])
async def test_a_name_from_a_later_guard_is_subject_to_the_limits_of_the_door(
    options: dict[str, Any], limit: str, status: int, inner: bool
) -> None:
    """The limits are those of the outer stabilizer, and apply before accept."""

    async def named(scope: Scope) -> str:
        return "ann"

    within, done = anyio.Event(), anyio.Event()
    told = iter([{"type": "websocket.connect"}])

    async def receive() -> Any:
        if (event := next(told, None)) is None:
            await done.wait()
        return event or {"type": "websocket.disconnect", "code": 1001}

    async def send(event: Any) -> None: ...

    async def stay(websocket: WebSocket) -> None:
        await websocket.accept()
        within.set()
        await websocket.receive()

    endpoint = stay if inner else Override(authorize=named)(stay)
    app: Any = Starlette(routes=[WebSocketRoute("/room", endpoint)])
    if inner:
        app = WebSocketStabilizer(app, authorize=named)
    app = WebSocketStabilizer(rewriting(app, True, path="/room"), **options)
    with anyio.fail_after(3):
        async with anyio.create_task_group() as visitors:
            visitors.start_soon(app, scope_of("/open"), receive, send)
            await within.wait()
            answer = await knock(app, "/open")
            done.set()
    assert answer.status == status
    assert app.manager.statistics().refused == {limit: 1}
    assert app.manager.admission.count == 0


async def test_a_name_from_a_later_guard_is_expected_until_accept() -> None:
    """Simultaneous handshakes therefore cannot exceed the limit of a name, and no count remains afterwards."""
    waiting: list[str] = []
    ready = anyio.Event()

    async def named(scope: Scope) -> str:
        return "ann"

    @Override(authorize=named)
    async def endpoint(websocket: WebSocket) -> None:
        waiting.append("")
        await ready.wait()
        await websocket.accept()

    inner = Starlette(routes=[WebSocketRoute("/room", endpoint)])
    options: dict[str, Any] = {"duplicate_client": "allow", "max_connections_per_client": 2}
    app = WebSocketStabilizer(rewriting(inner, True, path="/room"), **options)
    statuses: list[int] = []

    async def visit() -> None:
        statuses.append((await knock(app, "/open")).status)
        if len(statuses) == 3:
            ready.set()

    with anyio.fail_after(3):
        async with anyio.create_task_group() as visitors:
            for _ in range(5):
                visitors.start_soon(visit)
    assert (statuses, len(waiting)) == ([429, 429, 429, 101, 101], 2)
    assert hub_of(app.manager).clients.expected("ann") == 0


@GUARD
class Raw:
    """An ASGI application whose one instance is called for every connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError


async def by_name(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that passes its WebSocket by keyword, beside an object that fails when it is inspected."""

    @GUARD
    async def endpoint(proxy: object, *, socket: WebSocket) -> None:
        raise AssertionError

    await endpoint(LocalProxy(), socket=WebSocket(scope, receive, send))


@pytest.mark.parametrize("app", [WebSocketRoute("/admin", guarded), Guarded, Bare, Raw(), by_name])
async def test_an_endpoint_is_guarded_in_a_task_with_an_empty_context(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Middleware may call the application in such a task. The endpoint still gets the scope, here as a copy."""
    inner = Starlette(routes=[app]) if isinstance(app, WebSocketRoute) else app
    stabilizer = WebSocketStabilizer(in_an_empty_context(inner))
    assert await knock(stabilizer, "/open") == REFUSED
    assert "does nothing" not in caplog.text


def in_an_empty_context(app: ASGIApp) -> ASGIApp:
    """Middleware that runs an application without its caller's context variables, and rewrites the path."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        token = watch.set(None)
        current = current_peer.set(None)
        try:
            await app({**scope, "path": "/admin"}, receive, send)
        finally:
            current_peer.reset(current)
            watch.reset(token)

    return middleware


# Two stabilizers.


def mounted(outer: dict[str, Any], inner: dict[str, Any], around: Any = None) -> WebSocketStabilizer:
    """A parent application and one that is mounted at ``/v1``, each with a stabilizer of its own."""
    app: Any = Starlette(
        routes=[WebSocketRoute("/admin", echo), WebSocketRoute("/open", echo)],
        middleware=[Middleware(WebSocketStabilizer, **inner)],
    )
    return WebSocketStabilizer(Starlette(routes=[Mount("/v1", app=around(app) if around else app)]), **outer)


async def test_the_routes_of_an_inner_stabilizer_guard_its_own_paths() -> None:
    """Its patterns match paths of its own application, without the mount."""
    app = mounted({}, {"routes": {"/admin": GUARD}})
    assert await knock(app, "/v1/admin") == REFUSED
    assert await knock(app, "/v1/open") == ACCEPTED


async def test_the_guards_of_an_inner_stabilizer_are_asked_before_accept() -> None:
    """That goes for ``authorize`` and the origins. The refusal reaches the client like one of the outer stabilizer."""
    assert await knock(mounted({}, {"authorize": nobody}), "/v1/open") == REFUSED
    app = mounted({"allowed_origins": "*"}, {"allowed_origins": ["a.example"]})
    answers = [await knock(app, "/v1/open", origin=f"https://{name}.example") for name in "ab"]
    assert answers == [ACCEPTED, Answer(403, "origin not allowed")]


async def test_the_default_origins_of_an_inner_stabilizer_do_not_apply() -> None:
    """The outer one lets all pages in. Only an Override that names origins restricts them again."""
    page = {"origin": "https://b.example"}
    assert await knock(mounted({"allowed_origins": "*"}, {}), "/v1/open", **page) == ACCEPTED
    named = {"routes": {"/open": Override(allowed_origins="same-host")}}
    assert (await knock(mounted({"allowed_origins": "*"}, named), "/v1/open", **page)).status == 403
    other = {"routes": {"/open": Override(broadcast=False)}}
    assert await knock(mounted({"allowed_origins": "*"}, other), "/v1/open", **page) == ACCEPTED


async def test_the_limits_of_an_inner_stabilizer_do_not_apply() -> None:
    """The outer stabilizer counts, and its options hold."""
    app = mounted({}, {"max_connections": 1, "routes": {"/admin": Override(max_message_size=1)}})
    for _ in range(2):
        assert await knock(app, "/v1/admin") == ACCEPTED


async def test_an_inner_stabilizer_acts_even_if_our_keys_were_removed() -> None:
    """Middleware on the way may have removed them together with the state."""

    def around(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            ours = {key: value for key, value in scope.items() if not key.startswith("wsstab")}
            await app({**ours, "state": {}}, receive, send)

        return middleware

    assert await knock(mounted({}, {"authorize": nobody}, around), "/v1/open") == REFUSED


async def test_an_inner_stabilizer_acts_even_if_only_the_peer_key_was_removed() -> None:
    """The running handler identifies the connection as well."""

    def around(app: ASGIApp) -> ASGIApp:
        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            await app({key: value for key, value in scope.items() if key != "wsstab.peer"}, receive, send)

        return middleware

    assert await knock(mounted({}, {"authorize": nobody}, around), "/v1/open") == REFUSED


async def test_a_guard_may_be_an_object_without_a_hash() -> None:
    """Guards are compared, not looked up in a table."""

    @dataclass
    class Guard:
        answer: bool

        async def __call__(self, scope: Scope) -> bool:
            return self.answer

    routes = {"/room": Override(authorize=Guard(True)), "/api/*": Override(authorize=Guard(False))}
    inner = Starlette(routes=[WebSocketRoute("/room", echo)])
    assert await knock(WebSocketStabilizer(inner, routes=routes), "/api/room", "/api") == REFUSED
    assert await knock(WebSocketStabilizer(inner, routes=routes), "/room", "/api") == ACCEPTED


async def test_the_guards_of_an_inner_stabilizer_follow_a_path_rewritten_behind_it() -> None:
    """The guards of the outer one do so, too."""
    inner = rewriting(Starlette(routes=[WebSocketRoute("/admin", echo)]), False, path="/admin", root_path="")
    app = WebSocketStabilizer(WebSocketStabilizer(inner, routes={"/admin": GUARD}))
    assert await knock(app, "/open") == REFUSED
