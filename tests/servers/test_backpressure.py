"""A slow peer harms only itself: its policy applies, its memory is bounded, and nobody waits for it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.conftest import MakeLab, MakeServer
from tests.support.crowd import Crowd
from tests.support.frames import BINARY
from tests.support.lab import Lab
from tests.support.peer import Peer, Vanished
from tests.support.server import VARIANTS, Server, Variant
from tests.support.waiting import eventually

SIZE = 16384
MEBIBYTE = 1 << 20


def outbound(policy: str, **more: Any) -> dict[str, Any]:
    """The option group with this policy."""
    return {"outbound": {"policy": policy, "send_timeout": 20.0, **more}}


def stalled(lab: Lab, path: str = "/push") -> Peer:
    """A peer that reads nothing until it is asked to, with little room for what it did not read."""
    peer = lab.connect(path, receive_buffer=65536)
    lab.wait_for_connections(1)
    return peer


def fill(lab: Lab) -> int:
    """Broadcast to a stalled peer until its socket takes no more; some servers write only a little in each turn.

    Returns:
        How many messages that took, all with one key.
    """
    bursts = 0

    def taken() -> int:
        nonlocal bursts
        bursts += 1
        lab.burst(100, SIZE, text=False, key="fill")
        return int(lab.connections[0]["statistics"]["messages_sent"])

    eventually(lambda: taken() == taken() == taken(), within=20)
    return bursts * 100


def numbers(peer: Peer, last: int, within: float = 20.0) -> list[int]:
    """Read up to the message with this number and return the numbers of all that arrived."""
    ending = f"{last:08d}".encode()
    peer.read_until(lambda frames: bool(frames) and frames[-1].payload[:8] == ending, within)
    return [int(frame.payload[:8]) for frame in peer.frames if frame.opcode == BINARY]


def position(message: str | bytes) -> int:
    """The number with which ``/flood`` begins a message."""
    assert isinstance(message, bytes)
    return int.from_bytes(message[:8], "big")


@pytest.mark.usefixtures("heavy")
def test_one_stalled_reader_harms_nobody(serve: MakeServer, variant: Variant) -> None:
    """400 messages of 16 KiB to 200 clients: 199 get all of it, the stalled one is closed, memory is bounded."""
    stall_one_of_many(serve("tests.support.apps.lab:app", variant, log_level="warning"), "close")


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("policy", ["block", "drop_oldest", "drop_newest", "latest"])
def test_one_stalled_reader_harms_nobody_under_any_policy(serve: MakeServer, policy: str) -> None:
    """Queueing and dropping happen before a server is involved, so one variant is enough."""
    stall_one_of_many(serve("tests.support.apps.lab:app", VARIANTS[1], log_level="warning"), policy)


def stall_one_of_many(server: Server, policy: str) -> None:
    """Broadcast to 200 clients, the first of which reads nothing."""
    with Lab(server, outbound={"policy": policy, "send_timeout": 2.0}) as made, Crowd(server.address) as crowd:
        crowd.open(made.path("/push"), 200, stalled=1)
        made.wait_for_connections(200)
        before = server.peak_rss
        result = made.burst(400, SIZE, text=False, key="{number}")
        eventually(lambda: all(client["messages"] == 400 for client in crowd.report()[1:]), within=20)
        assert {client["bytes"] for client in crowd.report()[1:]} == {400 * SIZE}
        assert result["total"] == result["succeeded"] + result["failed"]
        assert result["failed"] <= 400
        assert server.peak_rss - before < 64 * MEBIBYTE
        assert made.event("SlowConsumer")["policy"] == policy
        event = made.event("ConnectionClosed", within=10)
        assert (event["code"], event["reason"]) == (1013, "slow consumer")
        assert len(made.events("ConnectionClosed")) == 1


def test_drop_oldest_keeps_the_newest_messages(lab: MakeLab) -> None:
    """The last message arrives after an unbroken run of those before it, and the dropped ones are counted."""
    made = lab(**outbound("drop_oldest"))
    peer = stalled(made)
    result = made.burst(1000, SIZE, text=False)
    got = numbers(peer, 999)
    assert got == sorted(set(got))
    assert got[-60:] == list(range(940, 1000))
    assert made.statistics["dropped_outbound"] == 1000 - len(got) > 0
    assert result["dropped"] == 0 or result["dropped"] == result["failed"]


def test_drop_newest_keeps_the_oldest_messages(lab: MakeLab) -> None:
    """An unbroken run from the first message on arrives, and the sender is told how many were dropped."""
    made = lab(**outbound("drop_newest"))
    peer = stalled(made)
    result = made.burst(1000, SIZE, text=False)
    got = numbers(peer, result["succeeded"] - 1)
    assert got == list(range(len(got)))
    assert result["dropped"] == result["failed"] == 1000 - len(got) > 0
    assert made.statistics["dropped_outbound"] == 1000 - len(got)


def test_latest_keeps_the_newest_of_each_key(lab: MakeLab) -> None:
    """After what was already sent, the peer gets one message for each key: the newest."""
    made = lab(**outbound("latest"))
    peer = stalled(made)
    filled = fill(made)
    made.burst(600, SIZE, text=False, key="first")
    made.burst(600, SIZE, text=False, key="second")
    made.call("broadcast", "the end", key="third")
    # One message for each of the three keys and one of fill(), unless a kernel that grew its buffer has taken some.
    assert made.connections[0]["statistics"]["queued_messages"] <= 4
    messages: list[str | bytes] = []
    while not messages or messages[-1] != "the end":
        messages.append(peer.receive())
    numbers = [str(message)[2:10] for message in messages]
    assert numbers[-2] == "00000599"
    assert numbers.count("00000599") == 2
    assert made.statistics["dropped_outbound"] == filled + 1201 - len(messages)


def test_close_ends_a_peer_that_is_too_far_behind(lab: MakeLab) -> None:
    """The peer is closed when its queue overflows, after a ``SlowConsumer`` event; other peers get everything.

    Where nothing can overtake a send, the connection may take ``send_timeout`` to end.
    """
    made = lab(**outbound("close", send_timeout=3.0))
    stalled(made)
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/push"), 1)
        result = made.burst(1000, SIZE, text=False)
        eventually(lambda: crowd.report()[0]["messages"] == 1000)
        event = made.event("ConnectionClosed", within=8)
    assert (event["code"], event["reason"], event["cause"]) == (1013, "slow consumer", "stabilizer")
    slow = made.event("SlowConsumer")
    assert slow["policy"] == "close"
    assert 0 < slow["queued_bytes"] <= MEBIBYTE
    assert result["succeeded"] >= 1000


def test_block_makes_a_handler_wait_for_its_own_peer(lab: MakeLab) -> None:
    """Nothing is lost, and the queue stays within its bound."""
    made = lab(**outbound("block"))
    peer = stalled(made, "/flood?count=1000")
    eventually(lambda: made.connections[0]["statistics"]["queued_bytes"] > MEBIBYTE // 2)
    assert made.connections[0]["statistics"]["queued_bytes"] <= MEBIBYTE
    assert made.notes == []
    assert [position(message) for message in peer.receive_many(1000, within=30)] == list(range(1000))
    assert made.note() == {"sent": 1000}


def test_block_drops_broadcasts_to_a_slow_peer(lab: MakeLab) -> None:
    """Only a peer's own handler waits for it; a broadcast does not."""
    made = lab(**outbound("block"))
    stalled(made)
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/push"), 1)
        result = made.burst(1000, SIZE, text=False)
        eventually(lambda: crowd.report()[0]["messages"] == 1000)
    assert result["seconds"] < 10
    assert result["dropped"] == result["failed"] > 0


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_a_handler_does_not_wait_where_messages_may_be_dropped(lab: MakeLab, policy: str) -> None:
    """Its own sends go on although its peer reads nothing."""
    made = lab(**outbound(policy))
    # The test does not wait for the connection to appear: its handler may be done before that.
    made.connect("/flood?count=2000", receive_buffer=65536)
    assert made.note() == {"sent": 2000}


@pytest.mark.parametrize("policy", ["close", "block", "drop_oldest", "drop_newest", "latest"])
def test_a_peer_that_takes_nothing_for_too_long_is_cut_off(lab: MakeLab, policy: str) -> None:
    """``send_timeout`` applies under every policy."""
    made = lab(outbound={"policy": policy, "send_timeout": 0.5, "max_bytes": 64 * MEBIBYTE, "max_messages": 10_000})
    stalled(made)
    began = time.monotonic()
    made.burst(600, SIZE, text=False, key="{number}")
    event = made.event("ConnectionClosed")
    assert 0.4 <= event["at"] - began < 2.5
    assert event["code"] == 1013


def test_cutting_a_peer_off_ends_its_tcp_connection(lab: MakeLab) -> None:
    """A TCP connection left open would hold up the server's shutdown."""
    made = lab(outbound={"send_timeout": 0.5, "max_bytes": 64 * MEBIBYTE, "max_messages": 10_000})
    peer = stalled(made)
    made.burst(600, SIZE, text=False)
    made.event("ConnectionClosed")
    assert peer.ended(within=5) in ("fin", "rst")


def test_cutting_off_a_stalled_peer_that_pings_harms_no_other(lab: MakeLab) -> None:
    """The server's pongs are still being written when the connection is aborted."""
    made = lab(outbound={"send_timeout": 0.5, "max_bytes": 64 * MEBIBYTE, "max_messages": 10_000})
    peer = stalled(made)
    made.burst(600, SIZE, text=False)
    for _ in range(3):
        peer.ping(b"are you there?")
    assert made.event("ConnectionClosed")["code"] == 1013
    neighbour = made.connect("/echo")
    neighbour.send("still here")
    assert neighbour.receive() == "still here"


@pytest.mark.parametrize("policy", ["close", "block"])
def test_the_send_of_a_handler_fails_when_its_peer_takes_nothing(lab: MakeLab, policy: str) -> None:
    """The send waits ``send_timeout`` for room, then raises the error of the framework."""
    made = lab(outbound={"policy": policy, "send_timeout": 0.5})
    stalled(made, "/flood")
    note = made.note()
    assert note["code"] == 1006
    assert made.event("ConnectionClosed")["code"] == 1013


def test_a_slow_peer_that_does_read_is_not_cut_off(lab: MakeLab) -> None:
    """Progress counts, not speed."""
    made = lab(outbound={"policy": "block", "send_timeout": 0.6})
    peer = stalled(made, "/flood?count=500")
    received = 0
    while received < 500:
        received += len(peer.receive_many(min(25, 500 - received)))
        time.sleep(0.05)
    assert made.note() == {"sent": 500}


def test_no_frame_follows_a_close_frame(lab: MakeLab) -> None:
    """This holds even when the close comes in the middle of a burst."""
    made = lab()
    peers = [made.connect("/push") for _ in range(5)]
    made.wait_for_connections(5)
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/relay"), 1)
        crowd.send("x" * 2000, times=300)
        made.call("disconnect_all")
        for peer in peers:
            assert peer.receive_close(within=10).code in (1000, 1001, 1012)
            peer.ended()
            assert peer.after_close() == []
        eventually(lambda: crowd.report()[0]["ended"])
        assert crowd.report()[0]["after_close"] == 0


def test_a_close_follows_everything_sent_before_it(lab: MakeLab) -> None:
    """A handler may return with megabytes in its queue; they are sent, then the close frame."""
    made = lab(**outbound("block", max_bytes=64 * MEBIBYTE, max_messages=10_000))
    peer = made.connect("/flood?count=600", receive_buffer=65536)
    assert made.note() == {"sent": 600}
    assert [position(message) for message in peer.receive_many(600, within=20)] == list(range(600))
    assert peer.receive_close().code == 1000


def test_a_broadcast_does_not_count_a_peer_that_left(lab: MakeLab) -> None:
    """The peer is no longer part of the audience, so it is not a failure either."""
    made = lab()
    gone, here = made.connect("/push"), made.connect("/push")
    made.wait_for_connections(2)
    gone.vanish()
    made.wait_for_connections(1)
    result = made.call("broadcast", "still")
    assert (result["total"], result["succeeded"], result["failed"]) == (1, 1, 0)
    assert here.receive() == "still"
    with pytest.raises((Vanished, OSError)):
        gone.receive(within=0.2)
