"""Before accept: frames that arrive early, and peers that leave early."""

from __future__ import annotations

import socket

import pytest

from tests.conftest import MakeLab
from tests.support.faults import LEFT_BEFORE_ITS_500
from tests.support.frames import BINARY, CLOSE, TEXT, Frame, close_payload
from tests.support.handshake import request
from tests.support.lab import Lab
from tests.support.peer import RESET, Peer
from tests.support.server import Variant
from tests.support.waiting import eventually

HALF = Frame(TEXT, b"whole").encode()
BEHIND = {
    "a frame": Frame(TEXT, b"early").encode(),
    "two frames": Frame(TEXT, b"one").encode() + Frame(BINARY, b"two").encode(),
    "half a frame": HALF[:5],
    "a close": Frame(CLOSE, close_payload(1000)).encode(),
    "garbage": b"\xff\xfe\xfd" * 30,
    "a request": b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many frames": Frame(TEXT, b"x" * 100).encode() * 3000,
}
"""What a peer may send behind its handshake, in the same packet."""


def open_gate(made: Lab) -> Peer:
    """Connect a neighbour, for which the handlers of ``/gate`` wait before they accept."""
    return made.connect("/echo")


def send_before_accept(made: Lab, *pieces: bytes) -> Peer:
    """A peer whose frames arrive while its handler runs but has not accepted yet."""

    def meanwhile(peer: Peer) -> None:
        eventually(lambda: made.held.get("calls") == 1)
        for piece in pieces:
            peer.send_raw(piece)
        open_gate(made)

    return made.connect("/gate", meanwhile=meanwhile)


@pytest.mark.parametrize("path", ["/echo", "/gate", "/refuse-late"])
def test_data_behind_the_handshake_harms_nobody_and_leaves_nothing(lab: MakeLab, variant: Variant, path: str) -> None:
    """A neighbour is still served, and the connection of the sender is gone as soon as it leaves."""
    made = lab(accept_timeout=1.0)
    if variant.sansio:
        # Its HTTP parser drops the start of many frames, and an assertion of it fails on what is then no valid frame.
        made.forgive("AssertionError$")
    for behind in BEHIND.values():
        neighbour = open_gate(made) if path == "/echo" else None
        sender = socket.create_connection(made.server.address)
        sender.sendall(request(made.path(path), "localhost") + behind)
        neighbour = neighbour or open_gate(made)
        neighbour.send("still here")
        assert neighbour.receive() == "still here"
        sender.close()
        neighbour.vanish()
        eventually(lambda: not made.held, within=15)


def test_frames_behind_the_handshake_arrive_in_order(lab: MakeLab) -> None:
    """They are in the same packet, and more than a server keeps for its application at a time."""
    early = [f"early {number}" for number in range(30)]
    peer = lab().connect("/echo", early=b"".join(Frame(TEXT, each.encode()).encode() for each in early))
    peer.send("late")
    assert peer.receive_many(31, within=5) == [*early, "late"]


def test_frames_before_accept_arrive_in_order(lab: MakeLab) -> None:
    """They come in packets of their own, the last one in two halves around accept."""
    made = lab()
    early = [f"early {number}" for number in range(30)]
    frames = [Frame(TEXT, each.encode()).encode() for each in early]
    peer = send_before_accept(made, *frames, HALF[:7])
    peer.send_raw(HALF[7:])
    peer.send("late")
    assert peer.receive_many(32) == [*early, "whole", "late"]


def test_large_messages_before_accept_arrive(lab: MakeLab) -> None:
    """Together they are larger than what the server and the middleware keep before accept."""
    made = lab()
    pieces = [bytes([number]) * 20_000 for number in range(10)]
    peer = send_before_accept(made, *[Frame(BINARY, each).encode() for each in pieces])
    assert peer.receive_many(10) == pieces


@pytest.mark.parametrize("path", ["/wait-for-more", "/sleep", "/wait-for-event"])
def test_a_peer_that_leaves_before_accept_leaves_nothing(lab: MakeLab, path: str) -> None:
    """All is free after ``accept_timeout`` at the latest, whatever its handler waits for and however it leaves."""
    made = lab(accept_timeout=1.0, max_connections=6)
    if made.server.variant.legacy:
        # By itself it answers 500 to a peer that has left, which uvloop does not allow.
        made.forgive(*LEFT_BEFORE_ITS_500)
    before = made.server.sockets
    silent = []
    for how in ("fin", "rst", "silence"):
        for early in (b"", BEHIND["a frame"]):
            sender = socket.create_connection(made.server.address)
            sender.sendall(request(made.path(path), "localhost"))
            if early:
                sender.sendall(early)
            if how == "rst":
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if how == "silence":
                silent.append(sender)
            else:
                sender.close()
    eventually(lambda: not set(made.held) - {"lingering"}, within=5)
    for sender in silent:
        sender.settimeout(5)
        with sender:
            while sender.recv(65536):
                pass
    eventually(lambda: made.server.sockets <= before, within=10)
    # Every place is free.
    assert all(made.connect("/echo").answer.status == 101 for _ in range(6))
