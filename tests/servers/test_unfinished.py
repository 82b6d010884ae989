"""A message that a peer has begun and does not end: its memory counts, and its time is limited."""

from __future__ import annotations

import time

import pytest

from tests.conftest import MakeLab
from tests.support.frames import BINARY, CLOSE, CONTINUATION, TEXT, Frame
from tests.support.peer import Peer
from tests.support.waiting import eventually

STATES = "tests.support.apps.states:app"
HALF = 300_000
"""Bytes of a message that never comes to its end."""


def begin(peer: Peer, how: str) -> None:
    """Begin a message and stop: within its only frame, or between two frames."""
    frame = Frame(BINARY, b"x" * 2 * HALF).encode()
    if how == "frame":
        peer.send_raw(frame[:HALF])
    else:
        peer.send_frame(BINARY, b"x" * (HALF // 2), fin=False)
        peer.send_frame(CONTINUATION, b"x" * (HALF // 2), fin=False)


@pytest.mark.parametrize("how", ["frame", "fragments"])
def test_what_is_unfinished_counts_as_memory(lab: MakeLab, how: str) -> None:
    """And is given back with the end of its connection."""
    made = lab(max_total_memory=10_000_000)
    peers = [made.connect("/echo") for _ in range(3)]
    for peer in peers:
        begin(peer, how)
    eventually(lambda: made.statistics["memory"] >= 3 * HALF * 0.95, within=3)
    for peer in peers:
        peer.vanish()
    eventually(lambda: made.statistics["memory"] == 0)


def test_a_message_that_is_finished_after_all_is_received(lab: MakeLab) -> None:
    """What was counted of it is not counted twice, and nothing of it afterwards."""
    made = lab(max_total_memory=10_000_000)
    peer = made.connect("/echo")
    frame = Frame(BINARY, b"x" * 2 * HALF).encode()
    peer.send_raw(frame[:HALF])
    peer.send_raw(frame[HALF:])
    assert len(peer.receive()) == 2 * HALF
    eventually(lambda: made.statistics["memory"] == 0)


@pytest.mark.parametrize("how", ["frame", "fragments"])
def test_too_much_that_is_unfinished_is_evicted(lab: MakeLab, how: str) -> None:
    """As any memory over its limit."""
    made = lab(max_total_memory=1_000_000)
    for _ in range(6):
        begin(made.connect("/echo"), how)
    eventually(lambda: made.statistics["evicted"] >= 3, within=3)
    assert made.statistics["memory"] <= 1_000_000


@pytest.mark.parametrize("how", ["frame", "fragments"])
def test_who_does_not_go_on_with_a_message_is_closed(lab: MakeLab, how: str) -> None:
    """However well it answers pings, which it can between two frames."""
    made = lab(inbound={"message_timeout": 0.6}, heartbeat_interval=0.3, heartbeat_timeout=30)
    peer = made.connect("/echo")
    begin(peer, how)
    if how == "fragments":
        peer.read_until(lambda frames: any(frame.opcode == CLOSE for frame in frames), 3)
    eventually(lambda: made.statistics["connections"] == 0, within=3)
    assert made.statistics["refused"] == {"message_timeout": 1}


def test_who_goes_on_with_a_message_may_take_its_time(lab: MakeLab) -> None:
    """However long, as long as it grows."""
    made = lab(inbound={"message_timeout": 0.6})
    peer = made.connect("/echo")
    peer.send_frame(BINARY, b"first", fin=False)
    for _ in range(12):
        peer.read_for(0.15)
        peer.send_frame(CONTINUATION, b"more", fin=False)
    peer.send_frame(CONTINUATION, b"last")
    assert peer.receive() == b"first" + b"more" * 12 + b"last"


def test_one_message_after_another_is_no_message_that_stands_still(lab: MakeLab) -> None:
    """Though each look finds as much of one that is not finished."""
    made = lab(inbound={"message_timeout": 0.6})
    peer = made.connect("/echo")
    peer.send_frame(BINARY, b"x" * 1000, fin=False)
    for _ in range(12):
        peer.read_for(0.15)
        peer.send_raw(Frame(CONTINUATION, b"end").encode() + Frame(BINARY, b"x" * 1000, fin=False).encode())
    assert made.statistics["refused"] == {}


def test_who_is_not_read_from_is_not_blamed(lab: MakeLab) -> None:
    """Behind unread messages no message can grow."""
    made = lab(STATES, inbound={"message_timeout": 0.6})
    peer = made.connect("/paused")
    made.wait_for_connections(1)
    peer.send_raw(Frame(TEXT, b"x").encode() * 400 + Frame(BINARY, b"y" * 600_000).encode())
    eventually(lambda: made.statistics["messages_received"] >= 200)
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert made.statistics["refused"] == {}
        time.sleep(0.1)
