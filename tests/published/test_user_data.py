"""Pattern 5, per-connection user data."""

from __future__ import annotations

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from tests.published.doubles import fleet
from wsstab import (
    ConnectionNotFoundError,
    MemoryLimitExceededError,
    WebSocketConfig,
    WebSocketConnectionManager,
)


def test_a_handler_stores_and_retrieves_user_data() -> None:
    """The published handler, with a message in place of its print."""
    app = FastAPI()
    ws_manager = WebSocketConnectionManager()

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: str) -> None:
        await websocket.accept()
        await ws_manager.connect(client_id, websocket)

        # Store user state per connection
        await ws_manager.set_user_data(client_id, "username", "Alice")
        await ws_manager.set_user_data(client_id, "room", "general")

        # Retrieve later
        username = await ws_manager.get_user_data(client_id, "username")
        await websocket.send_text(f"{username} joined")  # "Alice joined"

    with TestClient(app).websocket_connect("/ws/ann") as ann:
        assert ann.receive_text() == "Alice joined"


@pytest.mark.anyio
async def test_user_data_belongs_to_one_client_and_leaves_with_it() -> None:
    """Another client does not see it, and it is gone once its client has left."""
    manager, _ = await fleet("ann", "bob")
    await manager.set_user_data("ann", "colour", "green")
    assert await manager.get_user_data("ann", "colour") == "green"
    assert await manager.get_user_data("bob", "colour") is None
    await manager.disconnect("ann")
    assert await manager.get_user_data("ann", "colour") is None


@pytest.mark.anyio
async def test_user_data_needs_a_client() -> None:
    """Setting it for an unknown client raises; asking for it returns ``None``."""
    manager, _ = await fleet()
    with pytest.raises(ConnectionNotFoundError):
        await manager.set_user_data("nobody", "colour", "green")
    assert await manager.get_user_data("nobody", "colour") is None


@pytest.mark.anyio
async def test_user_data_over_the_limit_of_a_connection_is_refused() -> None:
    """The new value is not kept, and the old one stays."""
    manager, _ = await fleet("ann", config=WebSocketConfig(max_memory_per_connection=10_000))
    await manager.set_user_data("ann", "note", "short")
    with pytest.raises(MemoryLimitExceededError):
        await manager.set_user_data("ann", "note", "x" * 20_000)
    assert await manager.get_user_data("ann", "note") == "short"
