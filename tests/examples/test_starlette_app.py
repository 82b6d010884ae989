"""The example on plain Starlette."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from examples.starlette_app import app


@pytest.mark.parametrize("repetition", range(2))
def test_a_room_gets_only_the_messages_sent_in_it(repetition: int) -> None:
    """Two people are in one room, and a third one is in another."""
    with (
        TestClient(app) as client,
        client.websocket_connect("/rooms/lobby") as ann,
        client.websocket_connect("/rooms/attic") as cid,
    ):
        ann.send_text("alone")
        assert ann.receive_text() == "alone"
        with client.websocket_connect("/rooms/lobby") as bob:
            bob.send_text("hello lobby")
            assert bob.receive_text() == "hello lobby"
            cid.send_text("hello attic")
            assert cid.receive_text() == "hello attic"
            ann.send_text("hello back")
            assert bob.receive_text() == "hello back"
        assert ann.receive_text() == "hello lobby"
        assert ann.receive_text() == "hello back"
