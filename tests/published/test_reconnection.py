"""Pattern 3, reconnection support: a token from an endpoint, shown when the client comes back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from wsstab import (
    InvalidTokenError,
    TokenExpiredError,
    WebSocketConfig,
    WebSocketConnectionManager,
    WebSocketStabilizerError,
)

KEY = "a key of these tests"
TTL = timedelta(milliseconds=1)


def application(ws_manager: WebSocketConnectionManager) -> FastAPI:
    """The published pattern; it also sends the restored client id, so that a test can see it."""
    app = FastAPI()

    @app.post("/reconnect-token/{client_id}")
    async def get_reconnect_token(client_id: str) -> dict[str, str]:
        """Get a token before intentional disconnection."""
        token = ws_manager.generate_reconnect_token(client_id)
        return {"token": token}

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: str, token: str | None = None) -> None:
        await websocket.accept()
        restored_id = None

        # Restore session if token provided
        if token:
            try:
                restored_id = await ws_manager.validate_reconnect_token(token)
                # Continue with restored session
            except TokenExpiredError:
                await websocket.close(code=1008, reason="Token expired")
                return

        await ws_manager.connect(client_id, websocket)
        await ws_manager.send_to_client(client_id, {"restored": restored_id})

    return app


def manager(ttl: timedelta = timedelta(hours=1)) -> WebSocketConnectionManager:
    """A manager with the key that all processes of a deployment share."""
    return WebSocketConnectionManager(WebSocketConfig(secret_key=KEY, reconnect_token_ttl=ttl))


def token_of(client: TestClient) -> str:
    """Ask for a token, as the page does before it leaves."""
    return str(client.post("/reconnect-token/ann").json()["token"])


def test_a_client_comes_back_with_its_token() -> None:
    """The token tells the server which client it was."""
    client = TestClient(application(manager()))
    token = token_of(client)
    with client.websocket_connect(f"/ws/ann?token={token}") as ann:
        assert ann.receive_json() == {"restored": "ann"}


def test_a_client_without_a_token_is_new() -> None:
    """Without a token no session is restored."""
    client = TestClient(application(manager()))
    with client.websocket_connect("/ws/ann") as ann:
        assert ann.receive_json() == {"restored": None}


def test_a_token_of_another_process_with_the_same_key_is_valid() -> None:
    """Processes that share a key accept each other's tokens."""
    token = manager().generate_reconnect_token("ann")
    client = TestClient(application(manager()))
    with client.websocket_connect(f"/ws/ann?token={token}") as ann:
        assert ann.receive_json() == {"restored": "ann"}


def test_an_expired_token_closes_with_1008() -> None:
    """The published handler catches `TokenExpiredError` and gives the reason."""
    ws_manager = manager(TTL)
    token = ws_manager.generate_reconnect_token("ann")
    client = TestClient(application(ws_manager))
    with client.websocket_connect(f"/ws/ann?token={token}") as ann, pytest.raises(WebSocketDisconnect) as closed:
        ann.receive_json()
    assert (closed.value.code, closed.value.reason) == (1008, "Token expired")


@pytest.mark.anyio
async def test_a_token_works_once() -> None:
    """A second use is refused."""
    ws_manager = manager()
    token = ws_manager.generate_reconnect_token("ann")
    assert await ws_manager.validate_reconnect_token(token) == "ann"
    with pytest.raises(InvalidTokenError):
        await ws_manager.validate_reconnect_token(token)


@pytest.mark.anyio
@pytest.mark.parametrize("spoiled", ["", "a.b.c.d", "not a token", "{}x", "x{}"])
async def test_a_token_that_was_tampered_with_is_refused(spoiled: str) -> None:
    """Whatever is presented, the error is `InvalidTokenError`."""
    ws_manager = manager()
    token = ws_manager.generate_reconnect_token("ann")
    with pytest.raises(InvalidTokenError):
        await ws_manager.validate_reconnect_token(spoiled.format(token))


def test_a_token_has_four_parts() -> None:
    """As published: name, nonce, expiry and signature."""
    assert len(manager().generate_reconnect_token("ann").split(".")) == 4


@pytest.mark.anyio
async def test_both_token_methods_raise_when_tokens_are_switched_off() -> None:
    """``enable_reconnect=False`` switches them off."""
    ws_manager = WebSocketConnectionManager(WebSocketConfig(enable_reconnect=False))
    with pytest.raises(WebSocketStabilizerError):
        ws_manager.generate_reconnect_token("ann")
    with pytest.raises(WebSocketStabilizerError):
        await ws_manager.validate_reconnect_token("a.b.c.d")
