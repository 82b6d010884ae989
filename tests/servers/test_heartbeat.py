"""Peers that answer stay, silent ones are dropped in time, and nobody is dropped for our own delays."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import Any

import pytest

from tests.conftest import MakeLab, MakeServer, each_implementation
from tests.support.crowd import Crowd
from tests.support.frames import BINARY, PING, TEXT
from tests.support.lab import Lab
from tests.support.peer import Peer
from tests.support.proxy import Proxy
from tests.support.server import Server, Variant
from tests.support.waiting import eventually

INTERVAL, TIMEOUT = 0.3, 0.5
ALLOWED = 1.0
"""Seconds over interval and timeout by which a dead peer must be gone."""


def beats(variant: Variant) -> dict[str, Any]:
    """Options for a heartbeat: a message where the server can send no ping. A crowd answers either."""
    return {} if variant.traits.native_ping else {"heartbeat_type": "custom"}


def pings(peer: Peer, count: int, within: float = 10.0) -> None:
    """Read until this many pings arrived, answering them; fail early where none will come."""
    peer.read_until(lambda frames: any(frame.opcode == PING for frame in frames), 4.0)
    peer.read_until(lambda frames: sum(frame.opcode == PING for frame in frames) >= count, within)


def assert_gone(made: Lab, silent_since: float) -> None:
    """Assert that the connection was dropped in time, and that the reason is reported."""
    event = made.event("ConnectionClosed", within=INTERVAL + TIMEOUT + ALLOWED + 3)
    assert event["at"] - silent_since < INTERVAL + TIMEOUT + ALLOWED
    assert event["code"] == 1006
    assert event["cause"] == "stabilizer"
    assert "ConnectionTimeoutError" in event["error"]
    assert len(made.events("HeartbeatMissed")) == 1
    assert made.statistics["heartbeats_missed"] == 1


def test_a_push_only_handler_keeps_a_healthy_peer(lab: MakeLab, variant: Variant) -> None:
    """The peer stays for more than three heartbeats with zero, one or forty messages unread."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT, **beats(variant))
    with contextlib.ExitStack() as stack:
        crowds = [stack.enter_context(Crowd(made.server.address)) for _ in range(3)]
        for crowd, unread in zip(crowds, (0, 1, 40), strict=True):
            crowd.open(made.path("/push"), 1)
            crowd.send("unread", times=unread)
        eventually(lambda: all(crowd.report()[0]["pings"] >= 4 for crowd in crowds))
        assert made.call("get_connection_count") == 3
    assert made.events("HeartbeatMissed") == []


def test_a_peer_that_never_answers_is_gone(lab: MakeLab) -> None:
    """It is dropped after interval and timeout, not before; the handler learns the reason from ``closed``."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT)
    opened = time.monotonic()
    peer = made.connect("/push", answer_pings=False)
    assert peer.ended(within=5) in ("fin", "rst")
    assert_gone(made, opened + 0.2)
    asked = next(frame.at for frame in peer.frames if frame.opcode == PING)
    assert made.event("ConnectionClosed")["at"] - asked >= TIMEOUT - 0.05
    assert made.note()["error"] == "ConnectionTimeoutError"


@each_implementation
def test_the_timeout_may_be_shorter_than_the_interval(lab: MakeLab) -> None:
    """The timeout counts from the ping."""
    made = lab(heartbeat_interval=1.0, heartbeat_timeout=0.2)
    peer = made.connect("/push", answer_pings=False)
    peer.ended(within=5)
    asked = next(frame.at for frame in peer.frames if frame.opcode == PING)
    assert 0.15 <= made.event("ConnectionClosed")["at"] - asked < 0.2 + ALLOWED


@each_implementation
def test_any_sign_of_life_counts(lab: MakeLab) -> None:
    """A peer that answers no ping but sends messages is alive."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT)
    peer = made.connect("/push", answer_pings=False)
    for _ in range(16):
        peer.send("here")
        peer.read_for(0.1)
    assert made.call("get_connection_count") == 1


@each_implementation
def test_no_ping_while_messages_arrive(lab: MakeLab) -> None:
    """Inbound traffic shows that the peer is alive, so a ping would be superfluous."""
    made = lab(heartbeat_interval=1.0, heartbeat_timeout=1.0)
    peer = made.connect("/echo")
    for _ in range(15):
        peer.send("here")
        peer.read_for(0.1)
    assert peer.count(PING) == 0


@pytest.mark.parametrize("path", ["/push", "/echo"])
def test_a_half_open_peer_is_gone(lab: MakeLab, path: str) -> None:
    """A proxy swallows everything, so nobody reports the end of the connection."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT)
    with Proxy(made.server.address) as proxy:
        peer = made.connect(path, address=proxy.address)
        pings(peer, 1)
        proxy.swallow()
        assert_gone(made, time.monotonic())


def test_a_stopped_client_is_gone(lab: MakeLab, variant: Variant) -> None:
    """The client's kernel goes on acknowledging, but its process does not answer."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT, **beats(variant))
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/push"), 1)
        eventually(lambda: crowd.report()[0]["pings"] >= 1)
        crowd.process.send_signal(signal.SIGSTOP)
        assert_gone(made, time.monotonic())


def test_the_latency_is_measured(lab: MakeLab) -> None:
    """Through a proxy that delays each direction by 0.05 seconds, it is at least 0.1."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=2.0)
    assert made.statistics["connections"] == 0
    with Proxy(made.server.address, delay=0.05) as proxy:
        peer = made.connect("/push", address=proxy.address)
        assert made.connections[0]["latency"] is None
        pings(peer, 2)
        latency: Any = made.connections[0]["latency"]
        assert 0.1 <= latency < 0.5


def test_a_ping_overtakes_queued_data(lab: MakeLab) -> None:
    """Messages that are queued for a slow peer do not delay its ping."""
    made = lab(
        heartbeat_interval=INTERVAL,
        heartbeat_timeout=20.0,
        outbound={"max_bytes": 64 << 20, "max_messages": 10_000, "send_timeout": 20.0},
    )
    peer = made.connect("/push", receive_buffer=4096)
    made.burst(1500, 16384, text=False)
    eventually(lambda: made.statistics["heartbeats_sent"] >= 1)
    peer.read_until(lambda frames: sum(frame.opcode == BINARY for frame in frames) == 1500, within=30)
    kinds = [frame.opcode for frame in peer.frames]
    assert kinds[kinds.index(PING) :].count(BINARY) >= 500


def test_a_heartbeat_may_be_a_message(lab: MakeLab) -> None:
    """The peer answers with ``pong`` or with JSON, and the handler sees neither."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT, heartbeat_type="custom")
    peer = made.connect("/echo")
    for answer in ("pong", '{"type": "pong"}', "pong"):
        beat = json.loads(peer.receive())
        assert (beat["type"], type(beat["timestamp"])) == ("ping", float)
        peer.send(answer)
    peer.send("seen")
    peer.read_until(lambda frames: frames[-1].payload == b"seen")
    assert [frame.text for frame in peer.frames if "pong" in frame.text] == []
    assert peer.count(PING) == 0
    assert made.statistics["connections"] == 1


def test_an_unanswered_message_heartbeat_ends_the_connection(lab: MakeLab) -> None:
    """It has the same deadline as a ping."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT, heartbeat_type="custom")
    opened = time.monotonic()
    made.connect("/push").ended()
    assert_gone(made, opened + 0.2)


@each_implementation
def test_the_message_of_a_heartbeat_can_be_chosen(lab: MakeLab) -> None:
    """A callable builds it anew for each heartbeat."""
    options = {"heartbeat_type": "custom", "custom_heartbeat": "@tests.support.apps.doors:beat"}
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=5.0, **options)
    assert json.loads(made.connect("/push").receive()) == {"beat": 1}


@each_implementation
def test_no_message_heartbeat_is_sent_into_a_subprotocol(lab: MakeLab) -> None:
    """The peer would not know the message. Another peer gets heartbeats at the same time."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=5.0, heartbeat_type="custom")
    foreign = made.connect("/negotiate", subprotocols=["graphql-transport-ws"])
    own = made.connect("/echo")
    for _ in range(2):
        assert json.loads(own.receive())["type"] == "ping"
        own.send("pong")
    foreign.read_for(0.05)
    assert foreign.count(TEXT) == 0


@each_implementation
def test_a_heartbeat_can_be_off(lab: MakeLab) -> None:
    """Its peer gets no frame at all, while the peer of another lab is pinged."""
    silent = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT, heartbeat_type="off")
    pinged = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT)
    quiet, loud = silent.connect("/push"), pinged.connect("/push")
    pings(loud, 3)
    quiet.read_for(0.05)
    assert quiet.frames == []
    assert silent.statistics["connections"] == 1


KEEPALIVE = {
    "uvicorn": {"ws_ping_interval": 0.4, "ws_ping_timeout": 0.3},
    "hypercorn": {"websocket_ping_interval": 0.4},
    "daphne": {"ping-interval": 1, "ping-timeout": 1},
}
"""Settings that make a server ping by itself; uvicorn and daphne then drop a peer that leaves a ping unanswered."""


@pytest.fixture
def impatient(serve: MakeServer, variant: Variant) -> Server:
    """A server with a keepalive of its own."""
    return serve("tests.support.apps.lab:app", variant, settings=KEEPALIVE.get(variant.server))


def test_the_keepalive_of_the_server_is_taken_over(impatient: Server) -> None:
    """The server itself would drop this peer, whose messages nobody reads; the shorter of both intervals wins."""
    with Lab(impatient, heartbeat_interval=30.0) as made:
        peer = made.connect("/push")
        for _ in range(40):
            peer.send("unread")
        pings(peer, 4)
        assert made.call("get_connection_count") == 1
        assert made.statistics["heartbeats_sent"] >= 4


def test_without_a_heartbeat_the_server_keeps_its_own(impatient: Server) -> None:
    """``off`` leaves the server's own keepalive as it is."""
    with Lab(impatient, heartbeat_type="off") as made:
        pings(made.connect("/echo"), 3)
        assert made.statistics["heartbeats_sent"] == 0


@each_implementation
def test_a_slow_handler_does_not_get_its_peer_dropped(lab: MakeLab) -> None:
    """While reading is paused for a slow handler no pong can be seen, so none counts as missed."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT, inbound={"max_messages": 2, "max_bytes": 4096})
    peer = made.connect("/slow-reader?pause=0.25")
    for number in range(12):
        peer.send(str(number))
    assert peer.receive_many(12) == [str(number) for number in range(12)]
    assert made.events("HeartbeatMissed") == []


def test_a_stall_of_our_own_loop_drops_nobody(lab: MakeLab, variant: Variant) -> None:
    """That nothing was read for three seconds does not mean that the peers were silent."""
    made = lab(heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT, **beats(variant))
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/push"), 100)
        eventually(lambda: all(client["pings"] for client in crowd.report()))
        made.server.post("/-/stall?seconds=3")
        before = [client["pings"] for client in crowd.report()]
        eventually(lambda: all(now["pings"] > old + 1 for now, old in zip(crowd.report(), before, strict=True)))
        assert made.call("get_connection_count") == 100
        assert made.events("ConnectionClosed") == []
