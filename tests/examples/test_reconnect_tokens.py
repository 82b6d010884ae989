"""The example with reconnect tokens."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from examples.reconnect_tokens import app
from tests.support.waiting import eventually
from wsstab import WebSocketConfig, WebSocketConnectionManager


def newcomer(client: TestClient) -> dict[str, Any]:
    """Put one word into a new basket and leave; return the last message of the server."""
    with client.websocket_connect("/basket") as socket:
        socket.send_json({"token": None})
        assert socket.receive_json()["basket"] == []
        socket.send_text("apple")
        told: dict[str, Any] = socket.receive_json()
    assert told["basket"] == ["apple"]
    return told


def close_of(socket: WebSocketTestSession) -> tuple[int, str]:
    """Code and reason of the server's close, which must come next."""
    with pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    return closed.value.code, closed.value.reason


def test_a_token_in_the_first_message_restores_the_basket() -> None:
    """Browsers cannot set headers."""
    with TestClient(app) as client:
        token = newcomer(client)["token"]
        with client.websocket_connect("/basket") as socket:
            socket.send_json({"token": token})
            assert socket.receive_json()["basket"] == ["apple"]


def test_a_token_in_the_header_restores_the_basket() -> None:
    """For clients that can set headers."""
    with TestClient(app) as client:
        token = newcomer(client)["token"]
        with client.websocket_connect("/basket", headers={"Authorization": f"Bearer {token}"}) as socket:
            assert socket.receive_json()["basket"] == ["apple"]
            socket.send_text("pear")
            assert socket.receive_json()["basket"] == ["apple", "pear"]


def test_a_token_works_once() -> None:
    """Its second use is closed with 1008 and a reason."""
    with TestClient(app) as client:
        headers = {"Authorization": f"Bearer {newcomer(client)['token']}"}
        with client.websocket_connect("/basket", headers=headers) as socket:
            socket.receive_json()
        with client.websocket_connect("/basket", headers=headers) as socket:
            assert close_of(socket) == (1008, "reconnect token refused: used")


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ("no JSON", "malformed"),
        ("[]", "malformed"),
        ('{"token": "a.b.c.d"}', "signature"),
        ('{"token": 7}', "malformed"),
        ('{"token": ""}', "malformed"),
    ],
)
def test_an_invalid_first_message_closes_with_1008(first: str, why: str) -> None:
    """The reason says what is wrong with it."""
    with TestClient(app) as client, client.websocket_connect("/basket") as socket:
        socket.send_text(first)
        assert close_of(socket) == (1008, f"reconnect token refused: {why}")


def test_an_expired_token_closes_with_1008_and_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client can then start over instead of trying again."""
    desk = WebSocketConnectionManager(WebSocketConfig(secret_key="key", reconnect_token_ttl=timedelta(milliseconds=1)))
    token = desk.generate_reconnect_token("ann")
    monkeypatch.setattr("examples.reconnect_tokens.manager.validate_reconnect_token", desk.validate_reconnect_token)
    eventually(lambda: has_expired(token))
    with TestClient(app) as client, client.websocket_connect("/basket") as socket:
        socket.send_json({"token": token})
        code, reason = close_of(socket)
        assert code == 1008
        assert re.fullmatch(r"reconnect token expired \d+ ms ago", reason)


def has_expired(token: str) -> bool:
    """Whether a token has expired; its third part is the time of its expiry in milliseconds."""
    return int(token.split(".")[2]) < time.time_ns() // 1_000_000


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "nonsense"])
def test_a_header_without_a_bearer_token_is_ignored(header: str) -> None:
    """The first message decides then."""
    with TestClient(app) as client, client.websocket_connect("/basket", headers={"Authorization": header}) as socket:
        socket.send_json({"token": None})
        assert socket.receive_json()["basket"] == []
