"""The quick start: a chat in one handler, with the published names and one other import."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession

from examples import basic_app
from tests.support.waiting import eventually

MakeClient = Callable[[], AbstractContextManager[TestClient]]

PUBLISHED_IMPORT = "from fastapi_websocket_stabilizer import WebSocketConnectionManager, WebSocketConfig\n"
PUBLISHED_QUICK_START = """\
import json
from contextlib import asynccontextmanager
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi_websocket_stabilizer import WebSocketConnectionManager, WebSocketConfig

# Configure the manager
ws_config = WebSocketConfig(
    heartbeat_interval=30.0,
    heartbeat_timeout=60.0,
    max_connections=100,
)
ws_manager = WebSocketConnectionManager(ws_config)

# Setup lifespan events
@asynccontextmanager
async def lifespan(app: FastAPI):
    await ws_manager.start()
    yield
    await ws_manager.graceful_shutdown()

app = FastAPI(lifespan=lifespan)

@app.websocket("/ws/{client_id}")
async def websocket_endpoint(websocket: WebSocket, client_id: str):
    await websocket.accept()

    try:
        # Register connection
        await ws_manager.connect(client_id, websocket)

        # Handle messages
        while True:
            data = await websocket.receive_text()

            # Handle heartbeat responses
            if data == "pong":
                await ws_manager.handle_pong(client_id)
                continue

            # Broadcast to all clients
            await ws_manager.broadcast(json.dumps({
                "user": client_id,
                "message": data
            }))

    except WebSocketDisconnect:
        await ws_manager.disconnect(client_id)
"""


@contextmanager
def client_with_lifespan() -> Iterator[TestClient]:
    """A client that starts and stops the application."""
    with TestClient(basic_app.app) as client:
        yield client


@contextmanager
def bare_client() -> Iterator[TestClient]:
    """A client without lifespan, in which each socket has a loop and a thread of its own."""
    yield TestClient(basic_app.app)


def leave(socket: WebSocketTestSession, client_id: str) -> None:
    """Close, and wait until the handler has disconnected: older test clients cancel it where their context ends."""
    socket.close()
    eventually(lambda: client_id not in basic_app.ws_manager.get_active_connections())


clients = pytest.mark.parametrize("make_client", [client_with_lifespan, bare_client])


def test_only_the_import_line_differs_from_what_is_published() -> None:
    """The example is the published text, with the module's name in one line replaced."""
    expected = PUBLISHED_QUICK_START.replace("fastapi_websocket_stabilizer", "wsstab")
    assert inspect.getsource(basic_app).endswith(expected)
    assert PUBLISHED_IMPORT in PUBLISHED_QUICK_START


@clients
@pytest.mark.parametrize("round_number", range(3))
def test_two_clients_chat_again_and_again_on_one_app(make_client: MakeClient, round_number: int) -> None:
    """Both receive what either of them sends, and no connection remains afterwards."""
    with make_client() as client, ExitStack() as stack:
        ann = stack.enter_context(client.websocket_connect("/ws/ann"))
        ann.send_text("alone")
        assert ann.receive_json() == {"user": "ann", "message": "alone"}
        bob = stack.enter_context(client.websocket_connect("/ws/bob"))
        bob.send_text("hello")
        assert ann.receive_json() == {"user": "bob", "message": "hello"}
        assert bob.receive_json() == {"user": "bob", "message": "hello"}
        assert sorted(basic_app.ws_manager.get_active_connections()) == ["ann", "bob"]
        leave(bob, "bob")
        leave(ann, "ann")
    assert basic_app.ws_manager.get_connection_count() == 0


@clients
def test_a_pong_is_taken_as_a_sign_of_life_and_not_broadcast(make_client: MakeClient) -> None:
    """The first message received after a pong is the next one that was sent."""
    with make_client() as client, client.websocket_connect("/ws/ann") as ann:
        ann.send_text("pong")
        ann.send_text("after")
        assert ann.receive_json() == {"user": "ann", "message": "after"}


@clients
def test_the_rest_go_on_when_one_leaves(make_client: MakeClient) -> None:
    """A client that left is no longer listed, and the others are not affected."""
    with make_client() as client, client.websocket_connect("/ws/ann") as ann:
        with client.websocket_connect("/ws/bob") as bob:
            bob.send_text("short visit")
            assert ann.receive_json() == {"user": "bob", "message": "short visit"}
            leave(bob, "bob")
        ann.send_text("still here")
        assert ann.receive_json() == {"user": "ann", "message": "still here"}
        assert basic_app.ws_manager.get_active_connections() == ["ann"]
