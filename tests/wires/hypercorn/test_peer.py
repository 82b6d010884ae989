"""Data from the peer, on its way from wsproto to hypercorn."""

from __future__ import annotations

import asyncio
import zlib
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import StreamClosed
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from tests.wires.hypercorn.doubles import OFFER, Hypercorn, client
from wsstab.types import Event
from wsstab.wires.base import Wire
from wsstab.wires.hypercorn.peer import Peer, linger_after_failure

pytestmark = pytest.mark.anyio


async def test_a_pong_is_reported(hypercorn: Hypercorn) -> None:
    """hypercorn itself ignores pongs."""
    wire, pongs = await hypercorn.accepted(), list[bytes]()
    wire.on_pong = pongs.append
    hypercorn.hear(client().send(Ping(payload=b"no").response()), client().send(Ping(payload=b"beat").response()))
    assert pongs == [b"no", b"beat"]


@pytest.mark.parametrize(("code", "reason", "seen"), [(4001, "bye", (4001, "bye")), (1005, None, (1005, ""))])
async def test_a_disconnect_has_the_code_and_reason_of_the_peers_close(
    hypercorn: Hypercorn, code: int, reason: str | None, seen: tuple[int, str]
) -> None:
    """hypercorn itself always reports 1006."""
    wire = await hypercorn.accepted()
    hypercorn.receive.return_value = {"type": "websocket.disconnect", "code": 1006}
    assert await wire.receive() == {"type": "websocket.disconnect", "code": 1006}
    frame = client().send(CloseConnection(code=code, reason=reason)) if reason else b"\x88\x80\x00\x00\x00\x00"
    assert isinstance(hypercorn.hear(frame)[0], CloseConnection)
    event = await wire.receive()
    assert (event["code"], event["reason"]) == seen
    assert not wire.server_closed()
    assert not wire.is_open()


@pytest.mark.parametrize("event", [TextMessage(data="é" * 6), BytesMessage(data=b"x" * 11)])
async def test_a_message_over_the_limit_fails_the_connection_with_1009(hypercorn: Hypercorn, event: Any) -> None:
    """Its bytes count. hypercorn sees a peer's close with that code, and answers with the same one."""
    wire = await hypercorn.accepted()
    assert wire.limit_message_size(10) is None
    (seen,) = hypercorn.hear(client().send(event))
    assert (type(seen), seen.code, seen.reason) == (CloseConnection, 1009, "message too big")
    assert hypercorn.stream.connection.state is ConnectionState.REMOTE_CLOSING
    assert wire.server_closed()
    hypercorn.receive.return_value = {"type": "websocket.disconnect", "code": 1006}
    assert (await wire.receive())["code"] == 1009


async def test_the_fragments_of_a_message_count_together(hypercorn: Hypercorn) -> None:
    """The count begins anew with each message, and a fragment is a sign of life."""
    wire, peer = await hypercorn.accepted(), client()
    wire.limit_message_size(10)
    for _ in range(3):
        hypercorn.hear(peer.send(TextMessage(data="x" * 6, message_finished=False)))
        assert wire.partial() == 6
        hypercorn.hear(peer.send(TextMessage(data="x" * 4)))
        assert wire.partial() == 0
    hypercorn.hear(peer.send(TextMessage(data="x" * 6, message_finished=False)))
    (seen,) = hypercorn.hear(peer.send(TextMessage(data="x" * 5)))
    assert isinstance(seen, CloseConnection)


async def test_the_smaller_message_limit_wins(hypercorn: Hypercorn) -> None:
    """hypercorn's own limit is returned if it is smaller."""
    wire = await hypercorn.accepted()
    assert wire.limit_message_size(1 << 40) == 16_777_216
    assert wire.limit_message_size(100) is None


async def test_a_compression_bomb_is_inflated_only_a_little_past_the_limit(anyio_backend: str) -> None:
    """wsproto itself would inflate everything that was read at once."""
    made = Hypercorn(anyio_backend, offer=OFFER)
    wire = await made.accepted()
    wire.limit_message_size(100_000)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = bomb.compress(bytes(50_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)[:-4]
    (seen,) = made.hear(b"\xc2\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload)
    assert (type(seen), seen.code) == (CloseConnection, 1009)
    assert wire.partial() < 2_000_000


async def test_a_protocol_error_is_answered_with_1002(hypercorn: Hypercorn) -> None:
    """hypercorn by itself would end the connection without a close frame."""
    wire = await hypercorn.accepted()
    (seen,) = hypercorn.hear(b"\xa1\x80\x00\x00\x00\x00")
    assert (type(seen), seen.code) == (CloseConnection, 1002)
    assert wire.server_closed()


async def test_messages_after_our_close_are_ignored(hypercorn: Hypercorn) -> None:
    """Only the peer's close counts; nobody reads messages any more."""
    wire, peer = await hypercorn.accepted(), client()
    await wire.close(4000, "done")
    seen = hypercorn.hear(peer.send(TextMessage(data="late")), peer.send(CloseConnection(code=4000)))
    assert [type(event) for event in seen] == [CloseConnection]
    assert not wire.server_closed()


async def test_hypercorn_sends_no_second_close_after_ours(hypercorn: Hypercorn) -> None:
    """Otherwise it would send 1011 when the application returns."""
    wire = await hypercorn.accepted()
    await wire.close(1000, "")
    await hypercorn.stream.app_send(None)
    peer = client()
    peer.receive_data(hypercorn.frames)
    assert [event.code for event in peer.events() if isinstance(event, CloseConnection)] == [1000]
    assert type(hypercorn.sent[-1]) is StreamClosed


async def test_compression_can_be_refused(anyio_backend: str) -> None:
    """The answer then names no extension; otherwise it does."""
    made = Hypercorn(anyio_backend, offer=OFFER + b"; server_max_window_bits=10")
    await made.accepted()
    extensions = [value for name, value in made.sent[0].headers if name == b"sec-websocket-extensions"]
    assert extensions
    refused = Hypercorn(anyio_backend, offer=OFFER)
    assert refused.wire().refuse_compression()
    await refused.stream.app_send({"type": "websocket.accept"})
    assert not [value for name, value in refused.sent[0].headers if name == b"sec-websocket-extensions"]


async def test_the_keepalive_is_taken_over_for_one_stream_only(hypercorn: Hypercorn) -> None:
    """All streams share the configuration."""
    hypercorn.config.websocket_ping_interval = 7.0
    wire = hypercorn.wire()
    wire.take_over_keepalive()
    assert wire.server_ping_interval == 7.0
    assert hypercorn.config.websocket_ping_interval == 7.0
    assert await hypercorn.stream._send_pings() is None
    assert hypercorn.sent == []


async def test_without_a_keepalive_there_is_nothing_to_take_over(hypercorn: Hypercorn) -> None:
    """This is hypercorn's default."""
    wire = hypercorn.wire()
    wire.take_over_keepalive()
    assert wire.server_ping_interval is None
    assert "_send_pings" not in hypercorn.stream.__dict__


async def test_unread_messages_do_not_block_the_end_of_a_stream(hypercorn: Hypercorn) -> None:
    """hypercorn waits for room in a queue; after the application has returned, there always is room."""
    queue: asyncio.Queue[Event] = asyncio.Queue(2)
    queue.put_nowait({})
    queue.put_nowait({})
    hypercorn.receive = queue.get
    wire = hypercorn.wire()
    wire.detach()
    assert queue.empty()
    with anyio.fail_after(1):
        for _ in range(5):
            await hypercorn.stream.app_put({})


async def test_a_wire_can_end_while_hypercorn_iterates_over_events(hypercorn: Hypercorn) -> None:
    """hypercorn may be waiting for room in its queue then, and an error would be raised in the server."""
    wire, peer = await hypercorn.accepted(), client()
    hypercorn.stream.connection.receive_data(peer.send(TextMessage("one")) + peer.send(TextMessage("two")))
    events = hypercorn.stream.connection.events()
    assert next(events).data == "one"
    await hypercorn.end(wire)
    assert list(events) == []
    assert not wire.is_open()
    assert wire.buffered() == 0


async def test_context_takeover_can_be_refused(anyio_backend: str) -> None:
    """The answer refuses it for both sides, and keeps the headers of the application."""
    made = Hypercorn(anyio_backend, offer=OFFER)
    wire = made.wire()
    assert wire.refuse_context_takeover()
    await wire.accept({"type": "websocket.accept", "headers": [(b"x-own", b"1")]})
    headers = dict(made.sent[0].headers)
    assert b"server_no_context_takeover" in headers[b"sec-websocket-extensions"]
    assert b"client_no_context_takeover" in headers[b"sec-websocket-extensions"]
    assert headers[b"x-own"] == b"1"


async def test_without_an_offer_the_answer_names_no_extension(hypercorn: Hypercorn) -> None:
    """Context takeover is refused only to a peer that offers compression."""
    wire = hypercorn.wire()
    assert wire.refuse_context_takeover()
    await wire.accept({"type": "websocket.accept"})
    assert b"sec-websocket-extensions" not in dict(hypercorn.sent[0].headers)


async def test_a_ping_of_the_peer_is_passed_to_hypercorn(hypercorn: Hypercorn) -> None:
    """hypercorn answers it."""
    await hypercorn.accepted()
    (seen,) = hypercorn.hear(client().send(Ping(payload=b"who")))
    assert (type(seen), seen.payload) == (Ping, b"who")


async def test_a_failed_connection_is_read_to_its_end_before_it_is_closed() -> None:
    """hypercorn closes it afterwards, whatever errors the reading or the half close raises."""
    protocol, order = SimpleNamespace(), list[str]()
    unread: list[bytes | Exception] = [b"more", ConnectionResetError()]

    async def send(event: object) -> None:
        order.append(type(event).__name__)

    async def read() -> bytes:
        order.append("read")
        if isinstance(piece := unread.pop(0), Exception):
            raise piece
        return piece

    async def end() -> None:
        order.append("end of ours")
        raise NotImplementedError

    protocol.send, peer = send, Peer(Hypercorn("asyncio").stream, AsyncMock(), Wire())
    linger_after_failure(protocol, peer, read, end)
    await protocol.send(RawData(b"x"))
    peer.failed = True
    await protocol.send(RawData(b"y"))
    await protocol.send(Closed())
    assert order == ["RawData", "RawData", "end of ours", "read", "read", "Closed"]
    assert protocol.send is send


async def test_a_failed_peer_that_never_leaves_delays_hypercorn_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection is then closed anyway."""
    monkeypatch.setattr("wsstab.wires.hypercorn.peer.LINGER", 0.01)
    protocol, send = SimpleNamespace(), AsyncMock()
    protocol.send, peer = send, Peer(Hypercorn("asyncio").stream, AsyncMock(), Wire())
    linger_after_failure(protocol, peer, anyio.sleep_forever, AsyncMock())  # type: ignore[arg-type]
    peer.failed = True
    with anyio.fail_after(5):
        await protocol.send(Closed())
    send.assert_awaited_once()


async def test_the_function_put_around_the_protocols_send_is_removed_again() -> None:
    """Unless another one has replaced it meanwhile."""
    protocol, send, other = SimpleNamespace(), AsyncMock(), AsyncMock()
    protocol.send, peer = send, Peer(Hypercorn("asyncio").stream, AsyncMock(), Wire())
    linger_after_failure(protocol, peer, AsyncMock(), AsyncMock())()
    assert protocol.send is send
    take_back = linger_after_failure(protocol, peer, AsyncMock(), AsyncMock())
    protocol.send = other
    take_back()
    assert protocol.send is other
