"""A peer that has left is noticed in every state of reading, however it left."""

from __future__ import annotations

import time
import zlib
from typing import Any

import pytest

from tests.conftest import MakeLab
from tests.support.faults import HAS_NO_SOCKET
from tests.support.frames import BINARY, TEXT, Frame
from tests.support.server import Variant
from tests.support.waiting import eventually

STATES = "tests.support.apps.states:app"
INTERVAL, TIMEOUT = 0.6, 0.6
SLACK = 1.5
"""Seconds that a slow machine may add."""
BYTES_PER_SECOND = 1000
UNREAD = b"".join(Frame(TEXT, b"x").encode() for _ in range(400))
"""More messages than the inbox holds."""


def noticed_within(state: str, how: str) -> float:
    """The seconds that ``docs/servers.md`` promises."""
    if state == "closing":
        # The closing handshake has a time of its own.
        return 11.0
    silence = {"paused": 3 * INTERVAL + TIMEOUT, "detached": INTERVAL + TIMEOUT + 0.8}.get(state, INTERVAL + TIMEOUT)
    return silence if how == "silence" else min(silence, 1.2)


def beats(variant: Variant) -> dict[str, Any]:
    """A heartbeat that a peer must answer, on each server."""
    times = {"heartbeat_interval": INTERVAL, "heartbeat_timeout": TIMEOUT}
    return times if variant.traits.native_ping else {**times, "heartbeat_type": "custom"}


@pytest.mark.parametrize("how", ["fin", "rst", "silence"])
@pytest.mark.parametrize("state", ["reading", "paused", "delayed", "detached", "closing"])
def test_a_peer_that_has_left_is_noticed_in_time(lab: MakeLab, variant: Variant, state: str, how: str) -> None:
    """Its connection and its place are free within the time that ``docs/servers.md`` gives."""
    limit = {"messages_per_second": 1000, "bytes_per_second": BYTES_PER_SECOND, "action": "delay"}
    made = lab(STATES, **beats(variant), **({"rate_limit": limit} if state == "delayed" else {}))
    if how == "silence" and variant.server == "hypercorn" and variant.loop != "trio":
        # Python 3.10 reports ENOTCONN to the server when a connection is aborted just as its peer ends it.
        made.forgive(*HAS_NO_SOCKET)
    peer = made.connect("/reading" if state == "delayed" else f"/{state}")
    made.wait_for_connections(1)
    if state == "delayed":
        # One message uses up the rate of two minutes.
        peer.send(b"x" * BYTES_PER_SECOND * 120)
        peer.send("and one more")
    elif state != "closing":
        peer.send_raw(UNREAD)
        eventually(lambda: made.statistics["messages_received"] >= 200)
    else:
        peer.send("close, please")
    left = time.monotonic()
    if how != "silence":
        peer.vanish(how)
    eventually(lambda: made.statistics["connections"] == 0, within=noticed_within(state, how) + SLACK)
    took = time.monotonic() - left
    assert took < noticed_within(state, how) + SLACK
    eventually(lambda: made.server.get(f"/-/{made.key}/admitted") == 0, within=12)
    made.note(within=3)


def test_messages_sent_before_the_end_are_all_received(lab: MakeLab) -> None:
    """A peer may leave while reading is paused; its messages are not lost with it."""
    made = lab(STATES, heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT)
    peer = made.connect("/late")
    made.wait_for_connections(1)
    peer.send_raw(UNREAD)
    peer.close(4001)
    peer.vanish()
    assert made.note(within=10) == 400
    assert made.event("ConnectionClosed")["code"] == 4001


def test_a_slow_handler_keeps_a_peer_that_answers(lab: MakeLab, variant: Variant) -> None:
    """The peer goes on answering heartbeats, however many of its messages are unread."""
    made = lab(STATES, **beats(variant))
    peer = made.connect("/paused")
    made.wait_for_connections(1)
    peer.send_raw(UNREAD)
    until = time.monotonic() + 4 * (INTERVAL + TIMEOUT)
    while time.monotonic() < until:
        for frame in peer.read_for(0.2):
            if frame.opcode == TEXT:
                peer.send("pong")
    assert made.call("get_connection_count") == 1
    assert made.events("HeartbeatMissed") == []


def test_the_unread_messages_of_a_peer_that_left_are_bounded(lab: MakeLab) -> None:
    """Compressed messages are small on the wire but large in memory, and the handler reads none of them."""
    made = lab(STATES, max_message_size=2_000_000)
    peer = made.connect("/paused", extensions="permessage-deflate")
    if peer.extensions is None:
        return
    made.wait_for_connections(1)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (compressor.compress(b"x" * 1_000_000) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    peer.send("first")
    for _ in range(60):
        peer.send_frame(BINARY, bomb, reserved=4)
    peer.vanish()
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert made.statistics["memory"] < 20 * 1024 * 1024
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_the_end_of_tcp_is_noticed_without_a_message_heartbeat(lab: MakeLab, variant: Variant, how: str) -> None:
    """This holds even where the server has no ping and does not report the end of the connection."""
    made = lab(STATES, heartbeat_interval=INTERVAL, heartbeat_timeout=TIMEOUT)
    if how == "rst" and variant.server == "hypercorn" and variant.loop != "trio":
        # Python 3.10 reports ENOTCONN to the server when it closes a connection that its peer has just reset.
        made.forgive(*HAS_NO_SOCKET)
    peer = made.connect("/paused")
    made.wait_for_connections(1)
    peer.send_raw(UNREAD)
    eventually(lambda: made.statistics["messages_received"] >= 200)
    peer.vanish(how)
    eventually(lambda: made.statistics["connections"] == 0, within=3 * INTERVAL + SLACK)
