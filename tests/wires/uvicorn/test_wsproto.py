"""The wire to uvicorn's implementation on wsproto."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.support.frames import BINARY, TEXT, Frame
from tests.support.peer import Denied, Peer, Vanished
from tests.support.waiting import eventually
from tests.wires.uvicorn.house import OFFER, Call, House, house_of, listen
from wsstab.wires.transport import DEPARTED
from wsstab.wires.uvicorn.wsproto import MOST_EARLY, WsprotoWire


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """A server with this implementation."""
    with house_of("wsproto") as running:
        yield running


def early_bytes(call: Call) -> int:
    """The number of bytes kept of a peer that is not accepted yet."""
    return len(call.wire._early._data)


def early_frames(count: int, size: int) -> bytes:
    """The frames of this many binary messages."""
    return Frame(BINARY, bytes(size)).encode() * count


# Data before accept.


@pytest.mark.parametrize("size", [10, MOST_EARLY])
def test_messages_before_accept_reach_the_handler_after_it(house: House, size: int) -> None:
    """Whatever their size: above `MOST_EARLY` bytes, reading pauses until the accept."""

    async def accept_late(call: Call) -> None:
        await call.step.wait()
        await listen(call)

    def knock(peer: Peer) -> None:
        call = eventually(lambda: house.calls[before:])[0]
        peer.send_raw(early_frames(2, size))
        eventually(lambda: early_bytes(call) > min(size, MOST_EARLY))
        assert call.wire.transport.is_reading() is (size == 10)
        house.go_on(call)

    before = len(house.calls)
    with house.connected(accept_late, meanwhile=knock) as (peer, call):
        assert isinstance(call.wire, WsprotoWire)
        peer.send(b"after")
        eventually(lambda: [event["bytes"] for event in call.events] == [bytes(size), bytes(size), b"after"])
        assert early_bytes(call) == 0


@pytest.mark.parametrize("answers", [True, False])
def test_messages_before_a_refusal_are_dropped(house: House, answers: bool) -> None:
    """The peer still gets the response, which is the server's own 500 if the handler sends none."""

    async def refuse(call: Call) -> None:
        await call.wire.receive()
        await call.step.wait()
        if answers:
            await call.wire.deny({"type": "websocket.close"})

    def knock(peer: Peer) -> None:
        call = eventually(lambda: house.calls[before:])[0]
        peer.send_raw(early_frames(1, 10))
        eventually(lambda: early_bytes(call))
        house.go_on(call)

    before = len(house.calls)
    with pytest.raises(Denied) as denied:
        house.dial(refuse, meanwhile=knock)
    assert denied.value.status == (403 if answers else 500)
    call = house.calls[-1]
    eventually(lambda: call.over)
    assert call.error is None
    assert early_bytes(call) == 0


def test_messages_before_accept_are_dropped_if_the_connection_has_ended(house: House) -> None:
    """The transport would raise an error if its reading were resumed."""

    async def accept_in_vain(call: Call) -> None:
        await call.step.wait()
        call.wire.abort()
        await call.accept()
        await call.hear()

    def knock(peer: Peer) -> None:
        call = eventually(lambda: house.calls[before:])[0]
        peer.send_raw(early_frames(1, 10))
        eventually(lambda: early_bytes(call))
        house.go_on(call)

    before = len(house.calls)
    with pytest.raises(Vanished):
        house.dial(accept_in_vain, meanwhile=knock)
    call = house.calls[-1]
    eventually(lambda: call.over)
    assert (call.error, early_bytes(call), call.end) == (None, 0, (1006, ""))


# The handshake.


def test_compression_can_be_refused(house: House) -> None:
    """Connections without compression share a second configuration; that of the server is unchanged."""
    own = house.server.config
    plain = set()
    for _ in range(2):
        with house.connected(prepare=lambda wire: wire.refuse_compression(), extensions=OFFER) as (peer, call):
            assert peer.extensions is None
            assert call.wire.deflates is None
            plain.add(id(call.protocol.config))
    assert len(plain) == 1
    assert id(own) not in plain
    assert own.ws_per_message_deflate
    with house.connected(extensions=OFFER) as (peer, _):
        assert peer.extensions is not None


@pytest.mark.parametrize("offer", [OFFER, None])
def test_context_takeover_can_be_refused(house: House, offer: str | None) -> None:
    """For both directions; without an offer there is no compression at all."""

    def spare(wire: Any) -> None:
        wire.compress_from = 64
        assert wire.refuse_context_takeover()

    with house.connected(prepare=spare, extensions=offer) as (peer, call):
        answered = {each.strip() for each in (peer.extensions or "").split(";")}
        wanted = {"server_no_context_takeover", "client_no_context_takeover"}
        assert (wanted <= answered) is (call.wire.deflates is not None) is (offer is not None)
        assert "send" not in vars(call.protocol.conn)
        for _ in range(2):
            house.say(call, "y" * 5000)
            assert peer.receive() == "y" * 5000


def test_a_handshake_refused_after_refusing_context_takeover_gets_403(house: House) -> None:
    """The response names no extensions that could be changed."""

    async def refuse(call: Call) -> None:
        await call.wire.receive()
        await call.wire.deny({"type": "websocket.close"})

    with pytest.raises(Denied) as denied:
        house.dial(refuse, lambda wire: wire.refuse_context_takeover(), extensions=OFFER)
    assert denied.value.status == 403


# Data from the peer.


def test_a_message_over_the_limit_fails_the_connection_with_1009(house: House) -> None:
    """The server's own limit is larger."""
    with house.connected(prepare=limit) as (peer, call):
        peer.send("x" * 1000)
        eventually(lambda: call.texts == ["x" * 1000])
        assert not call.wire.server_closed()
        peer.send("x" * 1001)
        assert peer.receive_close().code == 1009
        assert call.end[0] == 1009


def limit(wire: Any) -> None:
    """Allow no message over 1000 bytes."""
    assert wire.limit_message_size(1000) is None


def test_a_compression_bomb_is_inflated_only_a_little_past_the_limit(house: House) -> None:
    """wsproto itself would inflate everything that was read at once."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = deflater.compress(bytes(20_000_000)) + deflater.flush(zlib.Z_SYNC_FLUSH)[:-4]
    largest = 0

    def watch(wire: Any) -> None:
        limit(wire)
        buffer, extend = wire.protocol.buffer, wire.protocol.buffer.extend

        def look(event: Any) -> None:
            nonlocal largest
            largest = max(largest, len(event.data))
            extend(event)

        buffer.extend = look

    with house.connected(prepare=watch, extensions=OFFER) as (peer, call):
        peer.send_frame(BINARY, bomb, reserved=4)
        assert peer.receive_close().code == 1009
        assert call.end[0] == 1009
    assert 1000 < largest < 2_000_000


def test_a_part_of_a_message_is_a_sign_of_life(house: House) -> None:
    """``partial()`` counts the bytes of incomplete frames, and complete frames of an incomplete message."""
    with house.connected() as (peer, call):
        assert call.wire.partial() == 0
        peer.send_frame(TEXT, b"x" * 50, fin=False)
        eventually(lambda: call.wire.partial() == 50)
        peer.send_raw(Frame(0, b"y" * 50).encode()[:1])
        eventually(lambda: call.wire.partial() == 51)
    assert (call.wire.partial(), call.wire.server_closed()) == (0, False)


def test_our_close_counts_as_a_close_by_the_server(house: House) -> None:
    """Until the wire has ended."""
    with house.connected() as (peer, call):
        house.run(call.wire.close(4000, "done"))
        # Older versions end the connection with the close, and the wire with it.
        assert call.wire.server_closed() or call.wire.protocol is DEPARTED
        assert peer.receive_close().code == 4000
        with suppress(OSError):
            peer.socket.shutdown(socket.SHUT_WR)
    eventually(lambda: not call.wire.server_closed())
