"""What is to be had from a connection of wsproto, on two ends that have shaken hands."""

from __future__ import annotations

import os
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.connection import Connection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request, TextMessage
from wsproto.extensions import PerMessageDeflate

from wsstab.wires.wsproto import SLICE, bound_inflating, deflate_of, drop_contexts, undecoded, window_bits

LARGE = 1_000_000


def shaken(offer: PerMessageDeflate | None = None) -> tuple[Any, Any]:
    """Both ends after the handshake, as HTTP/1.1 makes them: the server's connection, and the client's."""
    server, client = WSConnection(ConnectionType.SERVER), WSConnection(ConnectionType.CLIENT)
    extensions: list[Any] = [offer] if offer else []
    server.receive_data(client.send(Request(host="a", target="/", extensions=extensions)))
    list(server.events())
    client.receive_data(server.send(AcceptConnection(extensions=[PerMessageDeflate()])))
    list(client.events())
    return server.connection, client.connection


def heard(server: Any, data: bytes) -> list[Any]:
    """What the server makes of some bytes."""
    server.receive_data(data)
    return list(server.events())


def bomb(size: int) -> bytes:
    """A binary frame, masked with nothing, that would become as many bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
    return b"\xc2\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


def test_the_window_is_what_was_negotiated() -> None:
    """A peer may ask for a smaller one."""
    server, _ = shaken(PerMessageDeflate(server_max_window_bits=10))
    assert deflate_of(server).enabled()
    assert window_bits(server) == 10


def test_nothing_is_compressed_for_a_peer_that_offers_nothing() -> None:
    """There is no extension then, no window, and no context to drop."""
    server, _ = shaken()
    assert deflate_of(server) is None
    assert window_bits(server) == 0
    assert drop_contexts(server) is False


def test_an_extension_of_another_name_is_passed_over() -> None:
    """And so is one that was not agreed on."""
    other: Any = SimpleNamespace(name="x-other", enabled=lambda: True)
    assert deflate_of(Connection(ConnectionType.SERVER, [other, PerMessageDeflate()])) is None


@pytest.mark.parametrize("connection", [None, object(), SimpleNamespace(_proto=None)])
def test_where_something_is_missing_there_is_nothing(connection: object) -> None:
    """A future wsproto costs what it keeps to itself, and no error."""
    assert deflate_of(connection) is None
    assert window_bits(connection) == 0
    assert undecoded(connection) == 0
    bound_inflating(connection, lambda: 1)


def test_contexts_that_are_dropped_are_kept_by_neither_side() -> None:
    """Each message is then read and written by itself."""
    server, _ = shaken(PerMessageDeflate())
    assert drop_contexts(server) is True
    text = os.urandom(500).hex()
    frames = [server.send(TextMessage(data=text)) for _ in range(2)]
    assert len(frames[0]) == len(frames[1])
    kept, _ = shaken(PerMessageDeflate())
    frames = [kept.send(TextMessage(data=text)) for _ in range(2)]
    assert len(frames[0]) > len(frames[1])


def test_what_is_no_complete_header_yet_is_counted() -> None:
    """A sign of life, and memory; complete frames are not."""
    server, client = shaken()
    frame = client.send(BytesMessage(data=b"x" * 200))
    assert heard(server, frame[:3]) == []
    assert undecoded(server) == 3
    assert [bytes(event.data) for event in heard(server, frame[3:])] == [b"x" * 200]
    assert undecoded(server) == 0


def test_a_bounded_message_arrives_as_it_was_sent() -> None:
    """In as many slices as it takes, one message after the other."""
    server, client = shaken(PerMessageDeflate())
    bound_inflating(server, lambda: LARGE)
    for _ in range(2):
        noise = os.urandom(5 * SLICE)
        (event,) = heard(server, client.send(BytesMessage(data=noise)))
        assert (bytes(event.data), event.message_finished) == (noise, True)


def test_a_bomb_is_inflated_little_further_than_the_limit() -> None:
    """What comes out is over it, and without an error of the data in its place."""
    server, _ = shaken(PerMessageDeflate())
    bound_inflating(server, lambda: 10_000)
    events = heard(server, bomb(20 * LARGE))
    assert all(isinstance(event, BytesMessage) for event in events)
    size = sum(len(event.data) for event in events)
    assert 10_000 < size <= 10_000 + SLICE * 1032


def test_without_a_limit_a_message_is_inflated_whole() -> None:
    """However much it becomes."""
    server, _ = shaken(PerMessageDeflate())
    bound_inflating(server, lambda: None)
    assert sum(len(event.data) for event in heard(server, bomb(2 * LARGE))) == 2 * LARGE


def test_data_that_is_not_compressed_as_agreed_is_an_error_still() -> None:
    """wsproto's own, passed on as it is."""
    server, _ = shaken(PerMessageDeflate())
    bound_inflating(server, lambda: LARGE)
    (event,) = heard(server, b"\xc2\x84" + bytes(4) + b"\xff\xff\xff\xff")
    assert isinstance(event, CloseConnection)
    assert event.code == 1007
