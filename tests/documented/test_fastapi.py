"""FastAPI's page on WebSockets: every pattern that it shows works behind the middleware."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, FastAPI, Query, WebSocket, WebSocketDisconnect, WebSocketException
from starlette.types import ASGIApp

from tests.documented.clients import MakeClient, every_client
from tests.support.waiting import eventually
from wsstab import WebSocketStabilizer


def from_the_docstring() -> FastAPI:
    """The application in the documentation of ``FastAPI.websocket``, unchanged."""
    match = re.search(r"```python\n(.*?)```", inspect.getdoc(FastAPI.websocket) or "", re.DOTALL)
    assert match is not None
    names: dict[str, Any] = {}
    exec(match[1], names)
    application = names["app"]
    assert isinstance(application, FastAPI)
    application.add_middleware(WebSocketStabilizer)
    return application


documented = from_the_docstring()


class ConnectionManager:
    """A list of sockets and a loop over it, as the page shows before it recommends other libraries."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        """Accept a socket and add it to the list."""
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        """Remove a socket from the list."""
        self.active_connections.remove(websocket)

    async def send_personal_message(self, message: str, websocket: WebSocket) -> None:
        """Send a message to one socket."""
        await websocket.send_text(message)

    async def broadcast(self, message: str) -> None:
        """Send a message to all sockets, one after the other."""
        for connection in self.active_connections:
            await connection.send_text(message)


clients_app = FastAPI()
clients_app.add_middleware(WebSocketStabilizer)
manager = ConnectionManager()


@clients_app.websocket("/ws/{client_id}")
async def multiple_clients(websocket: WebSocket, client_id: int) -> None:
    """Answer the sender, broadcast its message, and tell the others when it leaves."""
    await manager.connect(websocket)
    try:
        while True:
            data = await websocket.receive_text()
            await manager.send_personal_message(f"you: {data}", websocket)
            await manager.broadcast(f"{client_id}: {data}")
    except WebSocketDisconnect:
        manager.disconnect(websocket)
        await manager.broadcast(f"{client_id} left")


dependencies_app = FastAPI()
dependencies_app.add_middleware(WebSocketStabilizer)


async def cookie_or_token(
    websocket: WebSocket,
    session: Annotated[str | None, Cookie()] = None,
    token: Annotated[str | None, Query()] = None,
) -> str:
    """A dependency that refuses by raising an exception."""
    if session is None and token is None:
        raise WebSocketException(code=1008, reason="neither cookie nor token")
    return session or token or ""


@dependencies_app.websocket("/items/{item_id}/ws")
async def items(
    *,
    websocket: WebSocket,
    item_id: str,
    q: int | None = None,
    credentials: Annotated[str, Depends(cookie_or_token)],
) -> None:
    """A handler with path and query parameters, a cookie and a dependency."""
    await websocket.accept()
    while True:
        data = await websocket.receive_text()
        await websocket.send_text(f"credentials: {credentials}")
        if q is not None:
            await websocket.send_text(f"q: {q}")
        await websocket.send_text(f"{item_id}: {data}")


@every_client
def test_the_example_in_fastapis_own_docstring_works_unchanged(client_of: MakeClient, repetition: int) -> None:
    """It echoes; the disconnect that it does not catch causes no error."""
    with client_of(documented) as client, client.websocket_connect("/ws") as socket:
        for text in ("one", "two"):
            socket.send_text(text)
            assert socket.receive_text() == f"Message text was: {text}"


@every_client
def test_a_handwritten_connection_manager_works_unchanged(client_of: MakeClient, repetition: int) -> None:
    """Two clients, on one event loop or on two; one of them hears that the other has left."""
    with (
        client_of(clients_app) as client,
        client.websocket_connect("/ws/1234") as one,
        client.websocket_connect("/ws/5678") as two,
    ):
        eventually(lambda: len(manager.active_connections) == 2)  # A socket is accepted before it is listed.
        one.send_text("hello")
        assert one.receive_text() == "you: hello"
        assert two.receive_text() == "1234: hello"
        assert one.receive_text() == "1234: hello"
        one.close()
        assert two.receive_text() == "1234 left"
    eventually(lambda: not manager.active_connections)


@every_client
@pytest.mark.parametrize(
    ("path", "cookies", "credentials"),
    [
        ("/items/2/ws?token=some-token", {}, "some-token"),
        ("/items/2/ws", {"session": "some-session"}, "some-session"),
    ],
)
def test_dependencies_with_cookie_and_query_work_unchanged(
    client_of: MakeClient, repetition: int, path: str, cookies: dict[str, str], credentials: str
) -> None:
    """Either of them gives the credentials."""
    with client_of(dependencies_app) as client:
        client.cookies.update(cookies)
        with client.websocket_connect(path) as socket:
            for text in ("one", "two"):
                socket.send_text(text)
                assert socket.receive_text() == f"credentials: {credentials}"
                assert socket.receive_text() == f"2: {text}"


@every_client
def test_a_query_parameter_works_unchanged(client_of: MakeClient, repetition: int) -> None:
    """It is converted to its type."""
    with client_of(dependencies_app) as client, client.websocket_connect("/items/bar/ws?token=t&q=3") as socket:
        socket.send_text("x")
        assert [socket.receive_text() for _ in range(3)] == ["credentials: t", "q: 3", "bar: x"]


@every_client
@pytest.mark.parametrize("path", ["/items/foo/ws", "/items/foo/ws?token=t&q=not-a-number"])
def test_a_refusing_dependency_keeps_its_close_code(client_of: MakeClient, repetition: int, path: str) -> None:
    """1008 before accept: from the dependency itself, or from FastAPI for a wrong parameter."""
    with client_of(dependencies_app) as client, pytest.raises(WebSocketDisconnect) as closed:
        client.websocket_connect(path).__enter__()
    assert closed.value.code == 1008


async def accept_then_raise(websocket: WebSocket) -> None:
    """Raise a WebSocketException after accept."""
    await websocket.accept()
    raise WebSocketException(code=4400, reason="bad first word")


dependencies_app.add_api_websocket_route("/late", accept_then_raise)


@every_client
def test_a_websocket_exception_after_accept_keeps_code_and_reason(client_of: MakeClient, repetition: int) -> None:
    """The handler chose both."""
    app: ASGIApp = dependencies_app
    with (
        client_of(app) as client,
        client.websocket_connect("/late") as socket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (4400, "bad first word")
