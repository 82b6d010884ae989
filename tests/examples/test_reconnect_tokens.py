"""The example with reconnect tokens."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from examples.reconnect_tokens import app


def newcomer(client: TestClient) -> dict[str, Any]:
    """Collect one word and leave; what was told last."""
    with client.websocket_connect("/basket") as socket:
        socket.send_json({"token": None})
        assert socket.receive_json()["basket"] == []
        socket.send_text("apple")
        told: dict[str, Any] = socket.receive_json()
    assert told["basket"] == ["apple"]
    return told


def code_of(socket: WebSocketTestSession) -> int:
    """The code that the server closes with next."""
    with pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    return closed.value.code


def test_a_token_in_the_first_message_brings_the_basket_back() -> None:
    """For browsers, which cannot set headers."""
    with TestClient(app) as client:
        token = newcomer(client)["token"]
        with client.websocket_connect("/basket") as socket:
            socket.send_json({"token": token})
            assert socket.receive_json()["basket"] == ["apple"]


def test_a_token_in_the_header_brings_the_basket_back() -> None:
    """For clients that can."""
    with TestClient(app) as client:
        token = newcomer(client)["token"]
        with client.websocket_connect("/basket", headers={"Authorization": f"Bearer {token}"}) as socket:
            assert socket.receive_json()["basket"] == ["apple"]
            socket.send_text("pear")
            assert socket.receive_json()["basket"] == ["apple", "pear"]


def test_a_token_works_once() -> None:
    """The second use closes with 1008."""
    with TestClient(app) as client:
        headers = {"Authorization": f"Bearer {newcomer(client)['token']}"}
        with client.websocket_connect("/basket", headers=headers) as socket:
            socket.receive_json()
        with client.websocket_connect("/basket", headers=headers) as socket:
            assert code_of(socket) == 1008


@pytest.mark.parametrize("first", ["no JSON", "[]", '{"token": "a.b.c.d"}', '{"token": 7}'])
def test_a_first_message_that_is_no_token_closes_with_1008(first: str) -> None:
    """Whatever it is."""
    with TestClient(app) as client, client.websocket_connect("/basket") as socket:
        socket.send_text(first)
        assert code_of(socket) == 1008


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "nonsense"])
def test_a_header_that_is_no_bearer_token_is_passed_over(header: str) -> None:
    """The first message decides then."""
    with TestClient(app) as client, client.websocket_connect("/basket", headers={"Authorization": header}) as socket:
        socket.send_json({"token": None})
        assert socket.receive_json()["basket"] == []
