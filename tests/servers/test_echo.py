"""Messages get through unchanged, in both directions, with the handshake that the handler asked for."""

from __future__ import annotations

import os

import pytest

from tests.conftest import MakeLab
from tests.support.frames import BINARY, PING, PONG, TEXT

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 300_000, 1_048_576]


def test_messages_of_every_size_come_back(lab: MakeLab) -> None:
    """Text and binary, from empty to the largest allowed size."""
    peer = lab().connect("/echo")
    for size in SIZES:
        for message in ("t" * size, os.urandom(size)):
            peer.send(message)
            assert peer.receive() == message


def test_every_kind_of_bytes_arrives(lab: MakeLab) -> None:
    """The handler sends a bytearray and memoryviews, and overwrites them right after the send."""
    peer = lab().connect("/views")
    for size in (1, 1000, 100_000):
        data = os.urandom(size)
        peer.send(data)
        assert peer.receive_many(3) == [data, data, data[::2]]


def test_text_of_every_plane_comes_back(lab: MakeLab) -> None:
    """Text is UTF-8 and stays what it was."""
    peer = lab().connect("/echo")
    text = "aé漢🂡\x00\u2028" * 1000
    peer.send(text)
    assert peer.receive() == text


def test_fragments_arrive_as_one_message(lab: MakeLab) -> None:
    """A message in frames, with a ping between them, is one message."""
    peer = lab().connect("/echo")
    peer.send_frame(BINARY, b"one", fin=False)
    peer.ping(b"between")
    peer.send_frame(0, b"two", fin=True)
    assert peer.receive() == b"onetwo"
    assert [frame.payload for frame in peer.frames if frame.opcode == PONG] == [b"between"]


def test_many_messages_keep_their_order(lab: MakeLab) -> None:
    """Messages sent in one go come back in order, none of them twice and none lost."""
    peer = lab().connect("/echo")
    for number in range(500):
        peer.send(str(number))
    assert peer.receive_many(500) == [str(number) for number in range(500)]


def test_pings_of_the_peer_are_answered(lab: MakeLab) -> None:
    """The pong comes even if the handler never receives and unread messages precede the ping."""
    peer = lab().connect("/push")
    peer.send("unread")
    peer.send("unread")
    peer.ping(b"payload")
    peer.read_until(lambda frames: any(frame.opcode == PONG and frame.payload == b"payload" for frame in frames))


def test_a_subprotocol_is_selected(lab: MakeLab) -> None:
    """The handler picks one of those that were offered."""
    peer = lab().connect("/negotiate", subprotocols=["first", "second"])
    assert peer.subprotocol == "second"
    peer.send("spoken")
    assert peer.receive() == "spoken"


def test_headers_of_accept_reach_the_peer(lab: MakeLab) -> None:
    """The middleware changes nothing about the handshake."""
    peer = lab().connect("/negotiate", subprotocols=["first", "second"])
    assert peer.answer.header("x-lab") == "yes"
    assert peer.answer.header("set-cookie") == "a=b"


def test_no_subprotocol_is_invented(lab: MakeLab) -> None:
    """Nothing was offered, so nothing is selected."""
    assert lab().connect("/negotiate").subprotocol is None


def test_nothing_but_the_echo_arrives(lab: MakeLab) -> None:
    """No frame of ours lands between an application's messages while no heartbeat is due."""
    peer = lab().connect("/echo")
    peer.send("only this")
    peer.receive()
    assert [frame.opcode for frame in peer.frames] == [TEXT]
    assert peer.count(PING) == 0


def test_a_cancelled_receive_loses_nothing(lab: MakeLab) -> None:
    """The handler receives with a timeout of a few milliseconds."""
    peer = lab("tests.support.apps.bare:app").connect("/receive-cancelled")
    for number in range(200):
        peer.send(str(number))
        if number % 20 == 0:
            peer.read_for(0.01)
    peer.read_until(lambda frames: sum(frame.opcode == TEXT for frame in frames) == 200, within=10)
    assert [frame.text for frame in peer.frames if frame.opcode == TEXT] == [str(number) for number in range(200)]


@pytest.mark.parametrize("path", ["/echo", "/iterate", "/escape"])
def test_statistics_count_what_was_echoed(lab: MakeLab, path: str) -> None:
    """Messages and bytes, in and out, exactly."""
    made = lab()
    peer = made.connect(path)
    for _ in range(10):
        peer.send("é" * 50)
        peer.receive()
    counted = made.statistics
    assert (counted["messages_received"], counted["bytes_received"]) == (10, 1000)
    assert (counted["messages_sent"], counted["bytes_sent"]) == (10, 1000)
