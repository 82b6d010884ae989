"""The middleware: its options, what it puts into the scope, and what it passes on unchanged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from tests.support.stage import on_stage
from wsstab import (
    Connection,
    Override,
    WebSocketConfig,
    WebSocketConnectionManager,
    WebSocketStabilizer,
    get_connection,
    get_manager,
)
from wsstab.manager import hub_of
from wsstab.types import Event, Receive, Scope, Send


async def count(request: Request) -> JSONResponse:
    """Answer with the number of connections."""
    return JSONResponse({"count": request.state.manager.get_connection_count()})


async def echo(websocket: WebSocket) -> None:
    """Send every text back."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


def plain() -> Starlette:
    """An application with two sockets and a page."""
    return Starlette(routes=[Route("/count", count), WebSocketRoute("/ws", echo), WebSocketRoute("/feed/x", echo)])


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    """Restores the log level of the package."""
    logger = logging.getLogger("wsstab")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.mark.parametrize("with_lifespan", [True, False])
def test_sockets_and_pages_share_one_manager_in_every_session(with_lifespan: bool) -> None:
    """With and without a lifespan, several times on one application."""
    app = WebSocketStabilizer(plain())
    for _ in range(3):
        client = TestClient(app)
        if with_lifespan:
            with client:
                talk(client)
        else:
            talk(client)
    assert app.manager.get_connection_count() == 0


def talk(client: TestClient) -> None:
    """Echo one message, and count the connections during and after it."""
    with client.websocket_connect("/ws") as socket:
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
        assert client.get("/count").json() == {"count": 1}
    assert client.get("/count").json() == {"count": 0}


def test_keyword_options_become_fields_of_the_configuration() -> None:
    """They keep their names."""
    assert WebSocketStabilizer(plain(), heartbeat_interval=25).manager.config.heartbeat_interval == 25


def test_a_configuration_or_a_manager_can_be_passed() -> None:
    """The manager is used as it is."""
    config = WebSocketConfig(max_connections=3)
    assert WebSocketStabilizer(plain(), config=config).manager.config.max_connections == 3
    manager = WebSocketConnectionManager()
    assert WebSocketStabilizer(plain(), manager=manager).manager is manager


@pytest.mark.parametrize(
    "options",
    [
        {"config": WebSocketConfig(), "manager": WebSocketConnectionManager()},
        {"config": WebSocketConfig(), "heartbeat_interval": 5},
        {"manager": WebSocketConnectionManager(), "heartbeat_interval": 5},
    ],
)
def test_configuration_manager_and_options_exclude_each_other(options: dict[str, Any]) -> None:
    """With two of them it would be unclear which counts."""
    with pytest.raises(TypeError, match="only one of them"):
        WebSocketStabilizer(plain(), **options)


def test_the_middleware_needs_an_application() -> None:
    """It takes the application by position, or by name as older versions of Starlette pass it."""
    with pytest.raises(TypeError, match="needs an application"):
        WebSocketStabilizer()
    app = plain()
    assert WebSocketStabilizer(app=app).app is app


def test_unknown_options_and_wrong_values_are_refused_at_construction() -> None:
    """The error names the option."""
    with pytest.raises(TypeError, match="heart_beat"):
        WebSocketStabilizer(plain(), heart_beat=5)
    with pytest.raises(ValueError, match="heartbeat_interval"):
        WebSocketStabilizer(plain(), heartbeat_interval=-1)


def test_the_state_keys_of_manager_and_connection_can_be_renamed() -> None:
    """The default keys are then absent from the scope's state."""
    seen: list[Any] = []

    async def handler(websocket: WebSocket) -> None:
        seen.extend([websocket.state.sockets, websocket.state.socket, sorted(websocket.scope["state"])])
        await websocket.accept()

    app = Starlette(routes=[WebSocketRoute("/", handler)])
    wrapped = WebSocketStabilizer(app, manager_key="sockets", connection_key="socket")
    with TestClient(wrapped).websocket_connect("/") as socket:
        assert socket.receive()["code"] == 1000
    assert seen[0] is wrapped.manager
    assert isinstance(seen[1], Connection)
    assert seen[2] == ["socket", "sockets"]


@pytest.mark.parametrize("key", ["manager", "connection"])
def test_a_foreign_value_under_a_state_key_is_an_error_naming_the_option(key: str) -> None:
    """The value is never overwritten, and the failed connection is not counted."""
    wrapped = WebSocketStabilizer(plain())

    async def stranger(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {key: "mine"}
        await wrapped(scope, receive, send)

    with (
        pytest.raises(RuntimeError, match=f"'mine'.*{key}_key="),
        TestClient(stranger).websocket_connect("/ws"),
    ):
        pass
    assert wrapped.manager.get_connection_count() == 0
    assert hub_of(wrapped.manager).admission.count == 0


def test_manager_and_connection_work_as_fastapi_dependencies() -> None:
    """They are typed, and work in requests and in sockets."""
    app = FastAPI()

    @app.get("/count")
    async def page(manager: Annotated[WebSocketConnectionManager, Depends(get_manager)]) -> int:
        return manager.get_connection_count()

    @app.websocket("/ws")
    async def socket(
        websocket: WebSocket,
        manager: Annotated[WebSocketConnectionManager, Depends(get_manager)],
        connection: Annotated[Connection, Depends(get_connection)],
    ) -> None:
        await websocket.accept()
        await websocket.send_text(f"{manager.get_connection(connection.id) is connection}")

    app.add_middleware(WebSocketStabilizer)
    client = TestClient(app)
    assert client.get("/count").json() == 0
    with client.websocket_connect("/ws") as session:
        assert session.receive_text() == "True"


def test_without_the_middleware_the_dependencies_say_how_to_install_it() -> None:
    """Their error has the line that adds it."""
    scope = {"type": "websocket", "headers": []}
    with pytest.raises(RuntimeError, match="add_middleware"):
        get_manager(HTTPConnection(scope))
    with pytest.raises(RuntimeError, match="add_middleware"):
        get_connection(WebSocket(scope, None, None))  # type: ignore[arg-type]


def test_of_two_nested_middlewares_only_the_outer_one_acts() -> None:
    """A mounted application may have been wrapped on its own."""
    inner = WebSocketStabilizer(plain())
    outer = WebSocketStabilizer(Starlette(routes=[Mount("/sub", app=inner)]))
    client = TestClient(outer)
    with client.websocket_connect("/sub/ws") as socket:
        socket.send_text("x")
        assert socket.receive_text() == "x"
        assert (outer.manager.get_connection_count(), inner.manager.get_connection_count()) == (1, 0)
        assert client.get("/sub/count").json() == {"count": 1}


def test_the_manager_starts_and_stops_with_the_application() -> None:
    """Its services run from the beginning of the lifespan to its end."""
    app = WebSocketStabilizer(plain())
    with TestClient(app):
        (services,) = hub_of(app.manager).loops.services.values()
        assert services.started
    assert hub_of(app.manager).loops.services == {}
    assert app.manager.is_ready


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_socket_that_is_open_at_the_end_of_the_lifespan_is_closed(backend: str) -> None:
    """It is closed before the application learns of the end, and without any signal."""
    closes: list[Any] = []

    async def call() -> None:
        started, ends = anyio.Event(), anyio.Event()

        async def program(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                await echo(WebSocket(scope, receive, send))
                return
            await receive()
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            closes.append(peer.closed)

        async def receive() -> Event:
            if not started.is_set():
                return {"type": "lifespan.startup"}
            await ends.wait()
            closes.append(peer.closed)
            return {"type": "lifespan.shutdown"}

        async def send(event: Event) -> None:
            started.set()

        async with on_stage(program, bare=True) as stage, anyio.create_task_group() as group:
            group.start_soon(stage.middleware, {"type": "lifespan", "state": {}}, receive, send)
            await started.wait()
            peer = await stage.open()
            ends.set()

    anyio.run(call, backend=backend)
    assert closes == [None, (1012, "service restart")]


def test_a_route_can_override_options() -> None:
    """The pattern of ``routes`` decides; other paths keep the common options."""
    app = WebSocketStabilizer(plain(), max_message_size=10, routes={"/feed/*": Override(max_message_size=3)})
    client = TestClient(app)
    with client.websocket_connect("/ws") as socket:
        socket.send_text("long")
        assert socket.receive_text() == "long"
    with client.websocket_connect("/feed/x") as socket:
        socket.send_text("long")
        assert socket.receive()["code"] == 1009


def test_a_test_client_causes_no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """``compression="none"`` and the default heartbeat have no effect there, and nobody misses them."""
    client = TestClient(WebSocketStabilizer(plain(), compression="none"))
    for _ in range(2):
        with client.websocket_connect("/ws"):
            pass
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_test_client_behind_middleware_causes_no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    """It is recognised whatever address it claims to have."""
    app = WebSocketStabilizer(plain())

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def change(event: Any) -> None:
            await send({**event})

        await app(scope, receive, change)

    with TestClient(middleware, client=("192.0.2.1", 5)).websocket_connect("/ws") as socket:
        socket.send_text("x")
        assert socket.receive_text() == "x"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_connection_over_the_limit_gets_an_http_denial() -> None:
    """The denial has a body and ``Retry-After``; the open connection goes on."""
    client = TestClient(WebSocketStabilizer(plain(), max_connections=1))
    with client.websocket_connect("/ws") as socket:
        with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/ws"):
            pass
        assert (caught.value.status_code, caught.value.text) == (503, "connection limit reached\n")
        assert caught.value.headers["retry-after"] == "5"
        socket.send_text("x")
        assert socket.receive_text() == "x"


def test_authorize_names_the_connection() -> None:
    """The name is the client id of the connection from its first message on."""

    async def authorize(scope: Any) -> str:
        return str(scope["path"].strip("/"))

    app = WebSocketStabilizer(plain(), authorize=authorize)
    client = TestClient(app)
    with client.websocket_connect("/ws") as socket:
        socket.send_text("x")
        assert socket.receive_text() == "x"
        assert app.manager.get_active_connections() == ["ws"]


def test_a_name_taken_between_authorize_and_accept_closes_the_later_socket() -> None:
    """The name was free at the handshake, but another connection took it before this one was accepted."""
    manager: WebSocketConnectionManager

    async def named(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    async def authorize(scope: Any) -> str:
        return "ann"

    async def late(websocket: WebSocket) -> None:
        (holder,) = hub_of(manager).peers()
        hub_of(manager).clients.identify(holder, "ann")
        await websocket.accept()
        await websocket.receive()

    routes = [WebSocketRoute("/named", named), WebSocketRoute("/late", late)]
    app = WebSocketStabilizer(
        Starlette(routes=routes),
        duplicate_client="reject",
        routes={"/late": Override(authorize=authorize)},
    )
    manager = app.manager
    client = TestClient(app)
    with client.websocket_connect("/named"), client.websocket_connect("/late") as socket:
        assert socket.receive()["code"] == 4409
        assert manager.get_active_connections() == ["ann"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_handler_error_survives_cancellation_during_its_close(backend: str) -> None:
    """A test client cancels right after it has closed; without the middleware, the error has left the call by then."""

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise ValueError("of the handler")

    async def call() -> None:
        closing, told = anyio.Event(), iter([{"type": "websocket.connect"}])

        async def receive() -> Event:
            event = next(told, None)
            if event is None:
                await anyio.sleep_forever()
            return event or {}

        async def send(event: Event) -> None:
            if event["type"] == "websocket.close":
                closing.set()
                await anyio.sleep_forever()

        async def run() -> None:
            scope = {"type": "websocket", "path": "/", "headers": [], "extensions": {}}
            with pytest.raises(ValueError, match="of the handler"):
                await WebSocketStabilizer(fail)(scope, receive, send)
            ended.append(True)

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await closing.wait()
                group.cancel_scope.cancel()

    ended: list[bool] = []
    anyio.run(call, backend=backend)
    assert ended == [True]
