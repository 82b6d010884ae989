"""Several tasks of a handler use one socket at the same time."""

from __future__ import annotations

import time

import pytest

from tests.conftest import MakeLab
from tests.support.frames import BINARY
from tests.support.waiting import eventually

WAYS = ["websocket", "connection", "manager"]


def test_ten_tasks_send_at_once(lab: MakeLab) -> None:
    """Each message arrives whole and once, and the messages of one task arrive in order."""
    peer = lab(outbound={"policy": "block"}).connect("/ten-senders?count=30")
    got = [message if isinstance(message, str) else message.decode() for message in peer.receive_many(300, 30)]
    for sender in range(10):
        own = [text for text in got if text.startswith(f"{sender}:")]
        assert [text.rstrip("x") for text in own] == [f"{sender}:{number}:" for number in range(30)]
        assert [len(text) for text in own] == [8, 1000, 70_000] * 10


@pytest.mark.parametrize("way", WAYS)
def test_a_close_gets_past_a_pending_receive(lab: MakeLab, way: str) -> None:
    """The close frame leaves at once, and the receive returns the disconnect."""
    made = lab()
    peer = made.connect(f"/close-beside-receive?way={way}")
    peer.send("close, please")
    close = peer.receive_close()
    assert (close.code, close.reason) == (4001, "enough")
    peer.ended()
    assert peer.after_close() == []
    assert made.note() == {"type": "websocket.disconnect", "code": 4001}


@pytest.mark.parametrize("way", WAYS)
def test_a_close_follows_a_blocked_send(lab: MakeLab, way: str) -> None:
    """A slow peer gets what was sent before, then the close frame, and nothing after it."""
    made = lab(outbound={"policy": "block"})
    peer = made.connect(f"/close-beside-send?way={way}", receive_buffer=65536)
    eventually(lambda: made.connections[0]["statistics"]["queued_bytes"] > 500_000)
    peer.send("close, please")
    assert peer.receive_close(within=20).code == 4001
    peer.ended()
    numbers = [int.from_bytes(frame.payload[:8], "big") for frame in peer.frames if frame.opcode == BINARY]
    assert numbers == list(range(len(numbers)))
    assert made.note()["sent"] in (len(numbers), len(numbers) - 1)
    assert peer.after_close() == []


def test_a_close_is_not_held_up_by_a_blocked_send(lab: MakeLab) -> None:
    """A peer that reads nothing is dropped in time, and the send that waited for it fails."""
    made = lab(outbound={"policy": "block", "send_timeout": 1.0})
    peer = made.connect("/close-beside-send?way=websocket", receive_buffer=4096)
    eventually(lambda: made.connections[0]["statistics"]["queued_bytes"] > 500_000)
    asked = time.monotonic()
    peer.send("close, please")
    assert made.event("ConnectionClosed", within=15)["at"] - asked < 4
    assert made.note()["sent"] > 20
    assert peer.ended(within=10) in ("fin", "rst")
