"""A message that a peer begins and does not finish counts as memory, and its time is limited."""

from __future__ import annotations

import time

import pytest

from tests.conftest import MakeLab
from tests.support.frames import BINARY, CLOSE, CONTINUATION, TEXT, Frame
from tests.support.peer import Peer
from tests.support.waiting import eventually

STATES = "tests.support.apps.states:app"
HALF = 300_000
"""Bytes of a message that is never finished."""


def begin(peer: Peer, how: str) -> None:
    """Begin a message and stop: within its only frame, or between two frames."""
    frame = Frame(BINARY, b"x" * 2 * HALF).encode()
    if how == "frame":
        peer.send_raw(frame[:HALF])
    else:
        peer.send_frame(BINARY, b"x" * (HALF // 2), fin=False)
        peer.send_frame(CONTINUATION, b"x" * (HALF // 2), fin=False)


@pytest.mark.parametrize("how", ["frame", "fragments"])
def test_an_unfinished_message_counts_as_memory(lab: MakeLab, how: str) -> None:
    """The memory is given back when the connection ends."""
    made = lab(max_total_memory=10_000_000)
    peers = [made.connect("/echo") for _ in range(3)]
    for peer in peers:
        begin(peer, how)
    eventually(lambda: made.statistics["memory"] >= 3 * HALF * 0.95, within=3)
    for peer in peers:
        peer.vanish()
    eventually(lambda: made.statistics["memory"] == 0)


def test_a_message_that_is_finished_later_is_received(lab: MakeLab) -> None:
    """It no longer counts as memory afterwards."""
    made = lab(max_total_memory=10_000_000)
    peer = made.connect("/echo")
    frame = Frame(BINARY, b"x" * 2 * HALF).encode()
    peer.send_raw(frame[:HALF])
    peer.send_raw(frame[HALF:])
    assert len(peer.receive()) == 2 * HALF
    eventually(lambda: made.statistics["memory"] == 0)


@pytest.mark.parametrize("how", ["frame", "fragments"])
def test_too_many_unfinished_messages_are_evicted(lab: MakeLab, how: str) -> None:
    """Their connections are evicted as for any other memory over the limit."""
    made = lab(max_total_memory=1_000_000)
    for _ in range(6):
        begin(made.connect("/echo"), how)
    eventually(lambda: made.statistics["evicted"] >= 3, within=3)
    assert made.statistics["memory"] <= 1_000_000


@pytest.mark.parametrize("how", ["frame", "fragments"])
def test_a_peer_that_does_not_continue_its_message_is_closed(lab: MakeLab, how: str) -> None:
    """Answering pings, which is possible between two frames, does not help."""
    made = lab(inbound={"message_timeout": 0.6}, heartbeat_interval=0.3, heartbeat_timeout=30)
    peer = made.connect("/echo")
    begin(peer, how)
    if how == "fragments":
        peer.read_until(lambda frames: any(frame.opcode == CLOSE for frame in frames), 3)
    eventually(lambda: made.statistics["connections"] == 0, within=3)
    assert made.statistics["refused"] == {"message_timeout": 1}


def test_a_peer_that_continues_its_message_may_take_its_time(lab: MakeLab) -> None:
    """The message may take any time as long as it grows."""
    made = lab(inbound={"message_timeout": 0.6})
    peer = made.connect("/echo")
    peer.send_frame(BINARY, b"first", fin=False)
    for _ in range(12):
        peer.read_for(0.15)
        peer.send_frame(CONTINUATION, b"more", fin=False)
    peer.send_frame(CONTINUATION, b"last")
    assert peer.receive() == b"first" + b"more" * 12 + b"last"


def test_a_new_unfinished_message_is_not_taken_for_the_last_one(lab: MakeLab) -> None:
    """Each check finds the same number of unfinished bytes, but they belong to another message."""
    made = lab(inbound={"message_timeout": 0.6})
    peer = made.connect("/echo")
    peer.send_frame(BINARY, b"x" * 1000, fin=False)
    for _ in range(12):
        peer.read_for(0.15)
        peer.send_raw(Frame(CONTINUATION, b"end").encode() + Frame(BINARY, b"x" * 1000, fin=False).encode())
    assert made.statistics["refused"] == {}


def test_a_peer_is_not_blamed_while_its_messages_are_not_read(lab: MakeLab) -> None:
    """A message cannot grow behind unread ones."""
    made = lab(STATES, inbound={"message_timeout": 0.6})
    peer = made.connect("/paused")
    made.wait_for_connections(1)
    peer.send_raw(Frame(TEXT, b"x").encode() * 400 + Frame(BINARY, b"y" * 600_000).encode())
    eventually(lambda: made.statistics["messages_received"] >= 200)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert made.statistics["refused"] == {}
        time.sleep(0.1)
