"""The end of a TCP connection is noticed even behind unread bytes."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator

import pytest

from tests.support.waiting import eventually
from wsstab.wires.tcp import peer_has_left

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        yield near, far


def test_a_connected_peer_has_not_left(pair: Pair) -> None:
    """It does not matter whether there is anything to read."""
    near, far = pair
    assert not peer_has_left(near)
    far.sendall(b"unread")
    eventually(lambda: near.recv(6, socket.MSG_PEEK) == b"unread")
    assert not peer_has_left(near)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports it")
def test_a_fin_behind_unread_bytes_is_noticed(pair: Pair) -> None:
    """The unread bytes stay in the socket."""
    near, far = pair
    far.sendall(b"unread")
    far.close()
    eventually(lambda: peer_has_left(near))
    assert near.recv(100) == b"unread"


def test_a_reset_is_noticed(pair: Pair) -> None:
    """Here unread bytes precede it."""
    near, far = pair
    far.sendall(b"unread")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    eventually(lambda: peer_has_left(near))


def test_without_an_open_socket_no_peer_has_left(pair: Pair) -> None:
    """The socket was closed here, or there never was one."""
    near, _ = pair
    near.close()
    assert not peer_has_left(near)
    assert not peer_has_left(None)
