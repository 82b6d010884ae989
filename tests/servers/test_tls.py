"""The most important behaviour over TLS, where buffers and endings differ."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.lab import Lab
from tests.support.peer import Peer
from tests.support.server import Server, Variant


@pytest.fixture(scope="module")
def secure(variant: Variant, certificate: Any) -> Iterator[Server]:
    """A TLS server."""
    with Server("tests.support.apps.lab:app", variant, tls=certificate) as server:
        yield server


def connect(lab: Lab, path: str, **handshake: Any) -> Peer:
    """A peer over TLS."""
    return lab.connect(path, tls=lab.server.tls, **handshake)


def test_messages_come_back(secure: Server) -> None:
    """Text and binary of every size."""
    with Lab(secure) as made:
        peer = connect(made, "/echo")
        for size in (0, 125, 65536, 1_048_576):
            for message in ("t" * size, b"b" * size):
                peer.send(message)
                assert peer.receive() == message


def test_a_broadcast_arrives(secure: Server) -> None:
    """Its messages arrive in order, then the close."""
    with Lab(secure) as made:
        peer = connect(made, "/push")
        made.wait_for_connections(1)
        # No more than every server can send to a peer that does not read: trio leaves little to the kernel.
        made.burst(50, 1024)
        made.call("disconnect", made.connections[0]["client_id"], 4000, "done")
        assert [str(text)[:8] for text in peer.receive_many(50)] == [f"{number:08d}" for number in range(50)]
        assert peer.receive_close().code == 4000
        assert peer.ended() in ("fin", "rst")


def test_a_healthy_peer_stays_and_a_silent_one_is_dropped(secure: Server, variant: Variant) -> None:
    """Pings go over TLS too, and abort ends the TCP connection below it."""
    kind, heartbeat = variant.heartbeat
    with Lab(secure, heartbeat_interval=0.3, heartbeat_timeout=0.5, heartbeat_type=kind) as made:
        dead = connect(made, "/push", answer_pings=False)
        opened = time.monotonic()
        assert dead.ended() in ("fin", "rst")
        assert made.event("ConnectionClosed")["at"] - opened < 0.3 + 0.5 + 1.0
        alive = connect(made, "/push")
        for number in range(4):
            alive.read_until(lambda frames, seen=number: alive.count(heartbeat) > seen)  # type: ignore[misc]
            alive.send("pong")
        assert made.call("get_connection_count") == 1
        assert made.connections[0]["latency"] is not None


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_push_only_handler_learns_that_its_peer_left(secure: Server, how: str) -> None:
    """Forty unread messages come before the end."""
    with Lab(secure) as made:
        peer = connect(made, "/push")
        for _ in range(40):
            peer.send("unread")
        left = time.monotonic()
        peer.vanish(how)
        assert made.event("ConnectionClosed")["at"] - left < 1.5


def test_a_stalled_peer_is_cut_off(secure: Server) -> None:
    """Data in the buffers of TLS counts as not taken."""
    # Longer than the healthy peer, which is read only afterwards, slows the sender down.
    options = {"policy": "drop_oldest", "send_timeout": 3.0}
    with Lab(secure, outbound=options) as made:
        stalled, healthy = connect(made, "/push", receive_buffer=4096), connect(made, "/push")
        made.wait_for_connections(2)
        made.burst(600, 16384)
        healthy.read_until(lambda frames: frames[-1:] != [] and frames[-1].payload.startswith(b"00000599"), within=20)
        assert made.event("ConnectionClosed")["code"] == 1013
        assert stalled.ended(within=10) in ("fin", "rst")
