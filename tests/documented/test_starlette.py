"""Starlette's pages on WebSockets and endpoints: every pattern that they show works behind the middleware."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.documented.clients import MakeClient, every_client
from wsstab import WebSocketStabilizer


async def greeting(scope: Scope, receive: Receive, send: Send) -> None:
    """A bare ASGI application around a WebSocket object."""
    websocket = WebSocket(scope=scope, receive=receive, send=send)
    await websocket.accept()
    await websocket.send_text(f"hello from {websocket.url.path}")
    await websocket.close()


async def iter_text(websocket: WebSocket) -> None:
    """Answer each message until the peer leaves."""
    await websocket.accept()
    async for message in websocket.iter_text():
        await websocket.send_text(f"text: {message}")


async def iter_bytes(websocket: WebSocket) -> None:
    """Answer each binary message until the peer leaves."""
    await websocket.accept()
    async for message in websocket.iter_bytes():
        await websocket.send_bytes(b"bytes: " + message)


async def iter_json(websocket: WebSocket) -> None:
    """Answer each JSON message in both modes until the peer leaves."""
    await websocket.accept()
    async for message in websocket.iter_json():
        await websocket.send_json(message)
        await websocket.send_json(message, mode="binary")


async def denial(websocket: WebSocket) -> None:
    """Refuse the handshake with an HTTP response."""
    await websocket.send_denial_response(PlainTextResponse("not today", status_code=401, headers={"x-why": "closed"}))


async def refusal(websocket: WebSocket) -> None:
    """Refuse by closing before accepting."""
    await websocket.close(code=4003, reason="no")


async def subprotocol(websocket: WebSocket) -> None:
    """Accept with a subprotocol and a header, and close with a code and a reason."""
    await websocket.accept(subprotocol="chat.v2", headers=[(b"x-room", b"lobby")])
    await websocket.close(code=4001, reason="enough")


async def raw(websocket: WebSocket) -> None:
    """Send and receive ASGI events directly."""
    await websocket.accept()
    message = await websocket.receive()
    await websocket.send({"type": "websocket.send", "text": f"{message['type']} {message['text']}"})
    await websocket.close()


class Endpoint(WebSocketEndpoint):
    """A class with one method for each event; subclasses choose the encoding of messages."""

    codes: list[int] = []  # noqa: RUF012

    async def on_connect(self, websocket: WebSocket) -> None:
        """Accept."""
        await websocket.accept()

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        """Record the close code."""
        self.codes.append(close_code)


class BytesEcho(Endpoint):
    """Receives and sends binary messages."""

    encoding = "bytes"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Answer in the same encoding."""
        await websocket.send_bytes(b"message: " + data)


class TextEcho(Endpoint):
    """Receives and sends text."""

    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Answer in the same encoding."""
        await websocket.send_text(f"message: {data}")


class JsonEcho(Endpoint):
    """Receives and sends JSON."""

    encoding = "json"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Answer in the same encoding."""
        await websocket.send_json({"message": data})


async def homepage(_: Any) -> PlainTextResponse:
    """A page beside the sockets."""
    return PlainTextResponse("home")


app = Starlette(
    routes=[
        Route("/", homepage),
        Mount("/greeting", greeting),
        WebSocketRoute("/iter_text", iter_text),
        WebSocketRoute("/iter_bytes", iter_bytes),
        WebSocketRoute("/iter_json", iter_json),
        WebSocketRoute("/denial", denial),
        WebSocketRoute("/refusal", refusal),
        WebSocketRoute("/subprotocol", subprotocol),
        WebSocketRoute("/raw", raw),
        WebSocketRoute("/echo/bytes", BytesEcho),
        WebSocketRoute("/echo/text", TextEcho),
        WebSocketRoute("/echo/json", JsonEcho),
    ],
    middleware=[Middleware(WebSocketStabilizer)],
)


@every_client
def test_a_bare_asgi_application_accepts_sends_and_closes(client_of: MakeClient, repetition: int) -> None:
    """The peer sees the message and the close."""
    with client_of(app) as client, client.websocket_connect("/greeting/room") as socket:
        assert socket.receive_text() == "hello from /greeting/room"
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1000


@every_client
def test_iter_text_ends_when_the_peer_leaves(client_of: MakeClient, repetition: int) -> None:
    """It answers each message, and ends without an error."""
    with client_of(app) as client, client.websocket_connect("/iter_text") as socket:
        for text in ("one", "", "zwölf"):
            socket.send_text(text)
            assert socket.receive_text() == f"text: {text}"


@every_client
def test_iter_bytes_answers_binary_messages(client_of: MakeClient, repetition: int) -> None:
    """The answers are binary, too."""
    with client_of(app) as client, client.websocket_connect("/iter_bytes") as socket:
        socket.send_bytes(b"\x00\xff")
        assert socket.receive_bytes() == b"bytes: \x00\xff"


@every_client
def test_iter_json_answers_in_both_modes(client_of: MakeClient, repetition: int) -> None:
    """JSON is sent as text and as bytes."""
    with client_of(app) as client, client.websocket_connect("/iter_json") as socket:
        socket.send_json({"a": [1, None, "ü"]})
        assert socket.receive_json() == {"a": [1, None, "ü"]}
        assert socket.receive_json(mode="binary") == {"a": [1, None, "ü"]}


@every_client
def test_a_denial_response_reaches_the_peer_unchanged(client_of: MakeClient, repetition: int) -> None:
    """It keeps its status, header and body."""
    with client_of(app) as client, pytest.raises(WebSocketDenialResponse) as denied:
        client.websocket_connect("/denial").__enter__()
    response = denied.value
    assert (response.status_code, response.text, response.headers["x-why"]) == (401, "not today", "closed")


@every_client
def test_a_close_before_accept_keeps_code_and_reason(client_of: MakeClient, repetition: int) -> None:
    """The handler chose both."""
    with client_of(app) as client, pytest.raises(WebSocketDisconnect) as closed:
        client.websocket_connect("/refusal").__enter__()
    assert (closed.value.code, closed.value.reason) == (4003, "no")


@every_client
def test_an_unknown_path_is_refused(client_of: MakeClient, repetition: int) -> None:
    """The router closes before accept, and the peer sees its code."""
    with client_of(app) as client, pytest.raises(WebSocketDisconnect) as closed:
        client.websocket_connect("/nowhere").__enter__()
    assert closed.value.code == 1000


@every_client
def test_subprotocol_headers_code_and_reason_reach_the_peer(client_of: MakeClient, repetition: int) -> None:
    """The handler chose all of them."""
    with client_of(app) as client, client.websocket_connect("/subprotocol", subprotocols=["chat.v2"]) as socket:
        assert socket.accepted_subprotocol == "chat.v2"
        assert (b"x-room", b"lobby") in (socket.extra_headers or [])
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (4001, "enough")


@every_client
def test_raw_asgi_events_pass(client_of: MakeClient, repetition: int) -> None:
    """``receive()`` returns ASGI events, and ``send()`` takes them."""
    with client_of(app) as client, client.websocket_connect("/raw") as socket:
        socket.send_text("hi")
        assert socket.receive_text() == "websocket.receive hi"


@every_client
def test_an_endpoint_class_receives_in_its_encoding(client_of: MakeClient, repetition: int) -> None:
    """Bytes, text and JSON; ``on_disconnect`` gets the peer's close code."""
    Endpoint.codes.clear()
    with client_of(app) as client:
        with client.websocket_connect("/echo/bytes") as socket:
            socket.send_bytes(b"b")
            assert socket.receive_bytes() == b"message: b"
            socket.close(4005)
        with client.websocket_connect("/echo/text") as socket:
            socket.send_text("t")
            assert socket.receive_text() == "message: t"
            socket.close(4006)
        with client.websocket_connect("/echo/json") as socket:
            socket.send_json({"j": 1})
            assert socket.receive_json() == {"message": {"j": 1}}
            socket.close(4007)
    assert Endpoint.codes == [4005, 4006, 4007]


@every_client
def test_an_endpoint_class_closes_with_1003_on_a_wrong_encoding(client_of: MakeClient, repetition: int) -> None:
    """The peer sends text to a class that expects bytes."""

    def speak_text(client: TestClient) -> None:
        with client.websocket_connect("/echo/bytes") as socket:
            socket.send_text("text")
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_bytes()
            assert closed.value.code == 1003

    with client_of(app) as client, pytest.raises(RuntimeError, match=r"binary|bytes"):
        speak_text(client)


@every_client
def test_http_requests_are_served_beside_open_sockets(client_of: MakeClient, repetition: int) -> None:
    """The socket goes on as well."""
    with client_of(app) as client, client.websocket_connect("/iter_text") as socket:
        assert client.get("/").text == "home"
        socket.send_text("after")
        assert socket.receive_text() == "text: after"
