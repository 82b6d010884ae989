"""The example with statistics and health probes."""

from __future__ import annotations

import signal

from starlette.testclient import TestClient

from examples.health import app
from tests.support.peer import Peer
from tests.support.server import VARIANTS, Server
from tests.support.waiting import eventually


def test_the_statistics_count_connections_messages_and_bytes() -> None:
    """One socket, with one message in each direction."""
    with TestClient(app) as client, client.websocket_connect("/ws") as socket:
        socket.send_text("four")
        assert socket.receive_text() == "four"
        told = client.get("/stats").json()
        assert (told["connections"], told["messages_received"], told["bytes_received"]) == (1, 1, 4)
        assert (told["messages_sent"], told["bytes_sent"]) == (1, 4)
        assert told["memory_usage"]["connection_count"] == 1


def test_a_running_process_is_alive_and_ready() -> None:
    """With the lifespan and without it."""
    with TestClient(app) as running:
        for client in (running, TestClient(app)):
            assert client.get("/live").status_code == 200
            assert client.get("/ready").status_code == 200


def test_during_a_drain_readiness_fails_and_liveness_does_not() -> None:
    """A peer that does not answer its close keeps the drain busy long enough to look."""
    with Server("examples.health:app", VARIANTS[0]) as server:
        with Peer(server.address, "/ws") as peer:
            assert server.request("GET", "/ready") == (200, {"ready": True, "draining": False})
            server.signal(signal.SIGTERM)
            assert eventually(lambda: not_ready(server), within=10) == {"ready": False, "draining": True}
            assert server.request("GET", "/live")[0] == 200
            assert peer.receive_close().code == 1012
        server.wait(within=20)


def not_ready(server: Server) -> object:
    """The answer of the readiness endpoint once its status is 503; ``None`` before."""
    status, body = server.request("GET", "/ready")
    return body if status == 503 else None
