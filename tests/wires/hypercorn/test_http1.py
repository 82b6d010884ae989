"""The wire to a stream over HTTP/1.1 on asyncio: frames go straight to the transport."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest
from hypercorn.events import Closed
from hypercorn.protocol.events import Response
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.wires.hypercorn.doubles import OFFER, Flow, Hypercorn, client
from wsstab.core.frames import Block, Outgoing
from wsstab.types import Event
from wsstab.wires.hypercorn import HypercornWire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Only asyncio has transports."""
    return "asyncio"


async def test_a_connection_lost_before_its_call_is_no_error(hypercorn: Hypercorn) -> None:
    """uvloop has dropped the protocol object of the transport by then."""
    hypercorn.transport.get_protocol.return_value = None
    hypercorn.transport.is_closing.return_value = True
    wire = await hypercorn.accepted()
    assert wire.lost
    assert not wire.is_open()


async def test_messages_and_close_go_out_in_order(hypercorn: Hypercorn) -> None:
    """Nothing follows the close frame."""
    wire, peer = await hypercorn.accepted(), client()
    wire.write(Block((Outgoing("one"), Outgoing("two"))))
    assert wire.send_at_once(Outgoing(b"three"))
    await wire.close(4000, "done")
    wire.write(Block((Outgoing("late"),)))
    assert wire.ping(b"late")
    peer.receive_data(hypercorn.frames)
    seen = [(type(event), getattr(event, "data", None) or getattr(event, "code", None)) for event in peer.events()]
    assert seen == [(TextMessage, "one"), (TextMessage, "two"), (BytesMessage, b"three"), (CloseConnection, 4000)]
    assert not wire.is_open()
    with pytest.raises(ConnectionResetError):
        wire.send_at_once(Outgoing("late"))


async def test_large_messages_are_compressed_for_a_peer_that_offers_it() -> None:
    """With the negotiated window, so that the peer can inflate them."""
    made = Hypercorn("asyncio", offer=OFFER)
    wire, extension = await made.accepted(), PerMessageDeflate()
    extension.finalize("permessage-deflate")
    peer = client([extension])
    wire.write(Block((Outgoing("x" * 5000), Outgoing("y" * 5000))))
    assert len(made.frames) < 500
    peer.receive_data(made.frames)
    assert [event.data for event in peer.events() if isinstance(event, TextMessage)] == ["x" * 5000, "y" * 5000]


async def test_a_second_close_or_one_after_the_peers_close_sends_nothing(hypercorn: Hypercorn) -> None:
    """Both come too late."""
    wire = await hypercorn.accepted()
    await wire.close(1000, "")
    written = hypercorn.frames
    await wire.close(1001, "")
    assert hypercorn.frames == written
    answered = Hypercorn("asyncio")
    wire = await answered.accepted()
    answered.hear(client().send(CloseConnection(code=1000)))
    await wire.close(1000, "")
    assert answered.frames == b""


async def test_an_observer_sees_the_close_without_a_second_frame(hypercorn: Hypercorn) -> None:
    """The frame is out before the event passes through the observer."""
    seen = list[Event]()

    async def observe(event: Event) -> None:
        seen.append(event)
        await hypercorn.stream.app_send(event)

    wire = hypercorn.wire()
    wire.announce_to(observe)
    await wire.accept({"type": "websocket.accept"})
    await wire.close(4000, "done")
    assert [event["type"] for event in seen] == ["websocket.accept", "websocket.close"]
    assert (seen[1]["code"], seen[1]["reason"]) == (4000, "done")
    peer = client()
    peer.receive_data(hypercorn.frames)
    assert [event.code for event in peer.events() if isinstance(event, CloseConnection)] == [4000]


async def test_a_close_before_accept_is_refused_by_hypercorn_with_403(hypercorn: Hypercorn) -> None:
    """No frame can be sent yet."""
    wire = hypercorn.wire()
    await wire.close(1008, "no")
    (answer,) = [event for event in hypercorn.sent if isinstance(event, Response)]
    assert (answer.status_code, hypercorn.frames) == (403, b"")


async def test_a_refusal_reaches_the_peer_with_its_status_and_headers(hypercorn: Hypercorn) -> None:
    """hypercorn sends the response itself."""
    wire = hypercorn.wire()
    await wire.deny({"type": "websocket.http.response.start", "status": 429, "headers": [(b"retry-after", b"5")]})
    await wire.deny({"type": "websocket.http.response.body", "body": b""})
    (answer,) = [event for event in hypercorn.sent if isinstance(event, Response)]
    assert (answer.status_code, answer.headers) == (429, [(b"retry-after", b"5")])


async def test_an_abort_ends_the_connection_at_once(hypercorn: Hypercorn) -> None:
    """Even if the transport still holds bytes."""
    wire = await hypercorn.accepted()
    wire.abort()
    hypercorn.transport.abort.assert_called_once_with()


async def test_a_lost_connection_is_reported_and_restores_the_protocol_object(hypercorn: Hypercorn) -> None:
    """The object gets its own class back."""
    wire, lost = await hypercorn.accepted(), list[bool]()
    wire.on_lost = lambda: lost.append(wire.lost)
    before = hypercorn.flow.__class__.__mro__[1]
    hypercorn.flow.connection_lost(None)
    assert (hypercorn.flow.__class__, hypercorn.flow.__dict__) == (before, {})
    assert before is Flow
    assert lost == [True]


async def test_a_finished_wire_and_hypercorn_do_not_refer_to_each_other(hypercorn: Hypercorn) -> None:
    """A late call raises an error that says that the connection is over."""
    wire = await hypercorn.accepted()
    send = hypercorn.protocol.send
    await hypercorn.end(wire)
    assert hypercorn.protocol.send is not send
    assert "events" not in hypercorn.stream.connection.__dict__
    assert "accept" not in hypercorn.stream.handshake.__dict__
    with pytest.raises(ConnectionResetError, match="over"):
        await wire.receive()
    assert not wire.is_open()


async def test_a_peer_that_broke_the_protocol_can_read_the_close_frame(hypercorn: Hypercorn) -> None:
    """The connection is half closed and read to its end before hypercorn closes it."""
    wire = await hypercorn.accepted()
    assert isinstance(wire, HypercornWire)
    order, unread = list[str](), [b"more", b""]
    hypercorn.server.writer.write_eof = lambda: order.append("end of ours")

    async def read(size: int) -> bytes:
        order.append("read")
        return unread.pop(0)

    hypercorn.server.reader = AsyncMock(read=read)
    hypercorn.server._close = AsyncMock(side_effect=lambda: order.append("closed"))
    hypercorn.server.protocol = AsyncMock()
    hypercorn.hear(b"\xa1\x80\x00\x00\x00\x00")
    assert hypercorn.stream.connection.state is ConnectionState.REMOTE_CLOSING
    await hypercorn.protocol.send(Closed())
    assert order == ["end of ours", "read", "read", "closed"]
