"""Pattern 4, statistics and monitoring."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from wsstab import WebSocketConnectionManager


def application() -> FastAPI:
    """The published endpoint, beside a WebSocket."""
    app = FastAPI()
    ws_manager = WebSocketConnectionManager()

    @app.get("/stats")
    async def get_stats() -> dict[str, Any]:
        return {
            "active_connections": ws_manager.get_connection_count(),
            "client_ids": ws_manager.get_active_connections(),
            "memory": ws_manager.get_memory_usage(),  # v1.1.0+
        }

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: str) -> None:
        await websocket.accept()
        await ws_manager.connect(client_id, websocket)
        await ws_manager.set_user_data(client_id, "name", "x" * 1000)
        async for text in websocket.iter_text():
            await websocket.send_text(text)
        await ws_manager.disconnect(client_id)

    return app


def test_an_empty_manager_counts_nothing() -> None:
    """The average of no connections is zero, and not a division by zero."""
    with TestClient(application()) as client:
        assert client.get("/stats").json() == {
            "active_connections": 0,
            "client_ids": [],
            "memory": {"total_memory": 0, "connection_count": 0, "per_connection_average": 0.0},
        }


def test_the_statistics_report_clients_and_their_memory() -> None:
    """Count, names and memory are right while clients are connected, and the memory also afterwards."""
    with TestClient(application()) as client:
        with client.websocket_connect("/ws/ann") as ann, client.websocket_connect("/ws/bob") as bob:
            for socket in (ann, bob):
                socket.send_text("ready")
                assert socket.receive_text() == "ready"
            told = client.get("/stats").json()
            assert told["active_connections"] == 2
            assert sorted(told["client_ids"]) == ["ann", "bob"]
            assert told["memory"]["connection_count"] == 2
            assert told["memory"]["total_memory"] >= 2000
            assert told["memory"]["per_connection_average"] == told["memory"]["total_memory"] / 2
        assert client.get("/stats").json()["memory"]["total_memory"] == 0
