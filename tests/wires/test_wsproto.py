"""Access to the internals of a wsproto connection, on two ends after their handshake."""

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


def connected_pair(offer: PerMessageDeflate | None = None) -> tuple[Any, Any]:
    """The server's and the client's connection after a handshake over HTTP/1.1."""
    server, client = WSConnection(ConnectionType.SERVER), WSConnection(ConnectionType.CLIENT)
    extensions: list[Any] = [offer] if offer else []
    server.receive_data(client.send(Request(host="a", target="/", extensions=extensions)))
    list(server.events())
    client.receive_data(server.send(AcceptConnection(extensions=[PerMessageDeflate()])))
    list(client.events())
    return server.connection, client.connection


def events_of(server: Any, data: bytes) -> list[Any]:
    """The events that the server makes of these bytes."""
    server.receive_data(data)
    return list(server.events())


def bomb(size: int) -> bytes:
    """A compressed binary frame, with a mask of zeros, that inflates to this many bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
    return b"\xc2\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload


def test_window_bits_are_those_that_were_negotiated() -> None:
    """A peer may ask for a smaller window."""
    server, _ = connected_pair(PerMessageDeflate(server_max_window_bits=10))
    assert deflate_of(server).enabled()
    assert window_bits(server) == 10


def test_without_an_offer_there_is_no_compression() -> None:
    """There is then no extension, no window, and no context to drop."""
    server, _ = connected_pair()
    assert deflate_of(server) is None
    assert window_bits(server) == 0
    assert drop_contexts(server) is False


def test_deflate_of_ignores_other_extensions_and_those_not_agreed_on() -> None:
    """Only an enabled permessage-deflate counts."""
    other: Any = SimpleNamespace(name="x-other", enabled=lambda: True)
    assert deflate_of(Connection(ConnectionType.SERVER, [other, PerMessageDeflate()])) is None


@pytest.mark.parametrize("connection", [None, object(), SimpleNamespace(_proto=None)])
def test_a_connection_without_the_expected_attributes_counts_as_uncompressed(connection: object) -> None:
    """A wsproto that renames its internals costs the features, but causes no error."""
    assert deflate_of(connection) is None
    assert window_bits(connection) == 0
    assert undecoded(connection) == 0
    bound_inflating(connection, lambda: 1)


def test_after_drop_contexts_each_message_is_compressed_by_itself() -> None:
    """The same text then has the same size each time; with a kept context, the second one is smaller."""
    server, _ = connected_pair(PerMessageDeflate())
    assert drop_contexts(server) is True
    text = os.urandom(500).hex()
    frames = [server.send(TextMessage(data=text)) for _ in range(2)]
    assert len(frames[0]) == len(frames[1])
    kept, _ = connected_pair(PerMessageDeflate())
    frames = [kept.send(TextMessage(data=text)) for _ in range(2)]
    assert len(frames[0]) > len(frames[1])


def test_undecoded_counts_the_bytes_of_an_incomplete_header() -> None:
    """They are a sign of life, and memory; complete frames do not count."""
    server, client = connected_pair()
    frame = client.send(BytesMessage(data=b"x" * 200))
    assert events_of(server, frame[:3]) == []
    assert undecoded(server) == 3
    assert [bytes(event.data) for event in events_of(server, frame[3:])] == [b"x" * 200]
    assert undecoded(server) == 0


def test_a_message_within_the_inflating_limit_arrives_whole() -> None:
    """However many slices it takes, and one message after the other."""
    server, client = connected_pair(PerMessageDeflate())
    bound_inflating(server, lambda: LARGE)
    for _ in range(2):
        noise = os.urandom(5 * SLICE)
        (event,) = events_of(server, client.send(BytesMessage(data=noise)))
        assert (bytes(event.data), event.message_finished) == (noise, True)


def test_a_compression_bomb_is_inflated_only_a_little_past_the_limit() -> None:
    """The result exceeds the limit, so it is refused for its size, not as invalid data."""
    server, _ = connected_pair(PerMessageDeflate())
    bound_inflating(server, lambda: 10_000)
    events = events_of(server, bomb(20 * LARGE))
    assert all(isinstance(event, BytesMessage) for event in events)
    size = sum(len(event.data) for event in events)
    assert 10_000 < size <= 10_000 + SLICE * 1032


def test_without_a_limit_a_message_is_inflated_completely() -> None:
    """Whatever its size."""
    server, _ = connected_pair(PerMessageDeflate())
    bound_inflating(server, lambda: None)
    assert sum(len(event.data) for event in events_of(server, bomb(2 * LARGE))) == 2 * LARGE


def test_invalid_compressed_data_is_still_an_error() -> None:
    """It is wsproto's own error: 1007."""
    server, _ = connected_pair(PerMessageDeflate())
    bound_inflating(server, lambda: LARGE)
    (event,) = events_of(server, b"\xc2\x84" + bytes(4) + b"\xff\xff\xff\xff")
    assert isinstance(event, CloseConnection)
    assert event.code == 1007
