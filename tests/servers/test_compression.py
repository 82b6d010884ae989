"""Compression is negotiated as configured, and compressed messages are the same messages."""

from __future__ import annotations

import json
import os

import pytest
from websockets.sync.client import connect

from tests.conftest import MakeLab

OFFER = "permessage-deflate; client_max_window_bits"


def test_deflate_is_negotiated_where_it_is_offered(lab: MakeLab) -> None:
    """A broadcast reaches peers with and without compression correctly, although it is encoded once."""
    made = lab()
    deflated, plain = made.connect("/push", extensions=OFFER), made.connect("/push")
    assert "permessage-deflate" in (deflated.extensions or "")
    assert plain.extensions is None
    made.wait_for_connections(2)
    made.burst(50, 5000)
    expected = [f"{number:08d}".ljust(5000, "x") for number in range(50)]
    assert deflated.receive_many(50) == plain.receive_many(50) == expected
    assert all(frame.reserved == 0 for frame in plain.frames)
    assert all(frame.reserved == 4 and len(frame.payload) < 200 for frame in deflated.frames)


def test_no_context_is_taken_over(lab: MakeLab) -> None:
    """An idle connection therefore keeps no compression state, in either direction."""
    made = lab()
    peer = made.connect("/echo", extensions="permessage-deflate; client_max_window_bits=10; server_max_window_bits=11")
    answer = [parameter.strip() for parameter in (peer.extensions or "").split(";")]
    assert answer.count("server_no_context_takeover") == answer.count("client_no_context_takeover") == 1
    assert "server_max_window_bits=11" in answer
    for text in ("first " * 1000, "first " * 1000, "second " * 1000):
        peer.send(text)
        assert peer.receive() == text
    sizes = [len(frame.payload) for frame in peer.frames]
    assert sizes[0] == sizes[1]


def test_small_messages_go_uncompressed(lab: MakeLab) -> None:
    """Messages from the threshold on are compressed."""
    peer = lab(compression_threshold=300).connect("/echo", extensions=OFFER)
    for size in (299, 300):
        peer.send("x" * size)
        assert peer.receive() == "x" * size
    assert [frame.reserved for frame in peer.frames] == [0, 4]


def test_compressed_messages_are_echoed(lab: MakeLab) -> None:
    """The client is that of the websockets library, with context takeover of its own."""
    made = lab()
    host, port = made.server.address
    with connect(f"ws://{host}:{port}{made.path('/echo')}", compression="deflate", max_size=None) as client:
        noise = os.urandom(100_000)
        for message in ("", "é" * 5000, json.dumps(list(range(5000))), b"", noise, b"\x00" * 500_000):
            client.send(message)
            assert client.recv(timeout=10) == message


def test_direct_sends_and_broadcasts_share_a_compressed_stream(lab: MakeLab) -> None:
    """The client's decompressor copes with any mix of them."""
    made = lab()
    host, port = made.server.address
    with connect(f"ws://{host}:{port}{made.path('/interleave?count=100')}", compression="deflate") as client:
        ways = ("broadcast", "connection", "websocket", "client")
        assert [client.recv(timeout=10) for _ in range(400)] == [f"{way} {n}" for n in range(100) for way in ways]


def test_compression_can_be_off(lab: MakeLab) -> None:
    """No compression is negotiated, whatever the peer offers."""
    peer = lab(compression="none").connect("/echo", extensions=OFFER)
    peer.send("x" * 5000)
    assert peer.receive() == "x" * 5000
    assert peer.extensions is None
    assert peer.frames[0].reserved == 0


@pytest.mark.parametrize("size", [1001, 1_000_000])
def test_the_largest_message_is_counted_uncompressed(lab: MakeLab, size: int) -> None:
    """A small frame may hold a large message."""
    made = lab(max_message_size=1000)
    host, port = made.server.address
    with connect(f"ws://{host}:{port}{made.path('/echo')}", compression="deflate", close_timeout=2) as client:
        client.send("x" * 1000)
        assert client.recv(timeout=5) == "x" * 1000
        client.send("x" * size)
        with pytest.raises(Exception, match="1009"):
            client.recv(timeout=5)
