"""The example with user data."""

from __future__ import annotations

from starlette.testclient import TestClient

from examples.user_data import app


def test_a_value_is_kept_until_its_connection_ends() -> None:
    """Both the socket and an HTTP endpoint return it."""
    with TestClient(app) as client:
        with client.websocket_connect("/ws/ann", headers={"user-agent": "a test"}) as ann:
            ann.send_text("colour green")
            assert ann.receive_text() == "kept"
            ann.send_text("colour")
            assert ann.receive_text() == "green"
            told = client.get("/clients/ann").json()
            assert told["user_data"] == {"colour": "green"}
            assert told["metadata"] == {"agent": "a test"}
            assert told["memory"] > 0
        assert client.get("/clients/ann").status_code == 404


def test_a_value_over_the_limit_is_refused_with_a_message() -> None:
    """The socket stays open."""
    with TestClient(app) as client, client.websocket_connect("/ws/ann") as ann:
        ann.send_text("film €" + "x" * 40_000)  # The euro sign makes every character take two bytes in memory.
        assert ann.receive_text().startswith("not kept: memory limit")
        ann.send_text("film")
        assert ann.receive_text() == "None"
