"""The wires to a stream over HTTP/1.1 on trio, and over HTTP/2 on any loop: frames go through hypercorn."""

from __future__ import annotations

from socket import socketpair
from types import SimpleNamespace
from unittest.mock import AsyncMock, MagicMock

import anyio
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamReset
from hypercorn.events import Closed
from hypercorn.protocol.events import Body, Data, EndData, Response, StreamClosed
from wsproto.events import CloseConnection, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.support.stage import until
from tests.wires.hypercorn.doubles import OFFER, Hypercorn, client
from wsstab.core.frames import Block, Outgoing
from wsstab.types import Event

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[1, 2], ids=["http1", "http2"])
def hypercorn(anyio_backend: str, request: pytest.FixtureRequest) -> Hypercorn:
    """A stream of each kind: over HTTP/1.1 on trio, and over HTTP/2 on the loop of the test."""
    return Hypercorn("trio" if request.param == 1 else anyio_backend, http=request.param)


@pytest.fixture
def trio_stream() -> Hypercorn:
    """A stream over HTTP/1.1 on trio's TCP server."""
    return Hypercorn("trio")


@pytest.fixture
def http2_stream(anyio_backend: str) -> Hypercorn:
    """A stream over HTTP/2."""
    return Hypercorn(anyio_backend, http=2)


async def test_messages_pings_and_close_go_out_in_order(hypercorn: Hypercorn) -> None:
    """Nothing follows the close frame."""
    wire, peer = await hypercorn.accepted(), client()
    wire.write(Block((Outgoing("one"), Outgoing("two"))))
    await until(lambda: wire.writable)
    assert wire.send_at_once(Outgoing(b"three"))
    await until(lambda: wire.writable)
    assert wire.ping(b"beat")
    await until(lambda: hypercorn.frames.endswith(b"beat"))
    await wire.close(4000, "done")
    await until(lambda: any(isinstance(event, EndData) for event in hypercorn.sent))
    wire.write(Block((Outgoing("late"),)))
    assert wire.ping(b"late")
    peer.receive_data(hypercorn.frames)
    seen = [next(filter(None, map(vars(event).get, ("data", "code", "payload")))) for event in peer.events()]
    assert seen == ["one", "two", b"three", b"beat", 4000]
    assert not wire.is_open()
    with pytest.raises(ConnectionResetError):
        wire.send_at_once(Outgoing("late"))


async def test_only_one_ping_is_pending_at_a_time(hypercorn: Hypercorn) -> None:
    """Pings to a stalled peer do not pile up; they go on when it takes data again."""
    wire = await hypercorn.accepted()
    hypercorn.takes = anyio.Event()
    assert wire.ping(b"first")
    assert wire.ping(b"second")
    hypercorn.takes.set()
    await until(lambda: b"first" in hypercorn.frames)
    await until(lambda: wire.ping(b"third") and b"third" in hypercorn.frames)
    assert b"second" not in hypercorn.frames


@pytest.mark.parametrize("http", [1, 2])
async def test_large_messages_are_compressed_for_a_peer_that_offers_it(anyio_backend: str, http: int) -> None:
    """With the negotiated window, so that the peer can inflate them."""
    made = Hypercorn("trio" if http == 1 else anyio_backend, http, OFFER)
    wire, extension = await made.accepted(), PerMessageDeflate()
    extension.finalize("permessage-deflate")
    peer = client([extension])
    wire.write(Block((Outgoing("x" * 5000), Outgoing("y" * 5000))))
    await until(lambda: wire.writable)
    assert len(made.frames) < 500
    peer.receive_data(made.frames)
    assert [event.data for event in peer.events() if isinstance(event, TextMessage)] == ["x" * 5000, "y" * 5000]


async def test_a_second_close_sends_nothing(hypercorn: Hypercorn) -> None:
    """Messages that waited before the first one still go out."""
    wire = await hypercorn.accepted()
    hypercorn.takes = anyio.Event()
    wire.write(Block((Outgoing("first"),)))
    await wire.close(1000, "")
    await wire.close(1001, "")
    hypercorn.takes.set()
    await until(lambda: isinstance(hypercorn.sent[-1], EndData))
    peer = client()
    peer.receive_data(hypercorn.frames)
    assert [getattr(event, "data", None) or getattr(event, "code", None) for event in peer.events()] == ["first", 1000]


async def test_a_close_before_accept_is_refused_by_hypercorn_with_403(hypercorn: Hypercorn) -> None:
    """No frame can be sent yet."""
    wire = hypercorn.wire()
    await wire.close(1008, "no")
    (answer,) = [event for event in hypercorn.sent if isinstance(event, Response)]
    assert (answer.status_code, hypercorn.frames) == (403, b"")


async def test_an_observer_sees_the_close_without_a_second_frame(hypercorn: Hypercorn) -> None:
    """Its event does not end the stream before our frame either."""
    seen = list[Event]()

    async def observe(event: Event) -> None:
        seen.append(event)
        await hypercorn.stream.app_send(event)

    wire = hypercorn.wire()
    wire.announce_to(observe)
    await wire.accept({"type": "websocket.accept"})
    await wire.close(4000, "done")
    assert [event["type"] for event in seen] == ["websocket.accept", "websocket.close"]
    await until(lambda: isinstance(hypercorn.sent[-1], EndData))
    assert [type(event) for event in hypercorn.sent[1:]] == [Data, EndData]
    peer = client()
    peer.receive_data(hypercorn.frames)
    assert [event.code for event in peer.events() if isinstance(event, CloseConnection)] == [4000]


async def test_nothing_is_sent_after_the_peers_close(hypercorn: Hypercorn) -> None:
    """A message that waits at that time is dropped."""
    wire = await hypercorn.accepted()
    wire.write(Block((Outgoing("late"),)))
    hypercorn.hear(client().send(CloseConnection(code=1000)))
    await until(lambda: wire.buffered() == 0)
    assert hypercorn.frames == b""


async def test_the_end_of_a_stream_by_hypercorn_passes_through(hypercorn: Hypercorn) -> None:
    """The wire has not closed anything itself here."""
    await hypercorn.accepted()
    await hypercorn.stream.send(EndData(stream_id=1))
    await hypercorn.stream.send(StreamClosed(stream_id=1))
    assert [type(event) for event in hypercorn.sent[1:]] == [EndData, StreamClosed]


async def test_on_trio_hypercorns_end_of_a_stream_waits_for_our_close_frame(trio_stream: Hypercorn) -> None:
    """It may wait for long, because it runs in the task of the application."""
    wire = await trio_stream.accepted()
    trio_stream.takes = anyio.Event()
    await wire.close(1000, "")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trio_stream.stream.send, StreamClosed(stream_id=1))
        await anyio.wait_all_tasks_blocked()
        assert len(trio_stream.sent) == 1
        trio_stream.takes.set()
    assert [type(event) for event in trio_stream.sent[1:]] == [Data, EndData, StreamClosed]


async def test_a_detached_wire_drops_its_messages_if_it_has_not_closed(hypercorn: Hypercorn) -> None:
    """After a close, messages that were written before it would still go out."""
    wire = await hypercorn.accepted()
    hypercorn.takes = anyio.Event()
    wire.write(Block((Outgoing("first"),)))
    await anyio.wait_all_tasks_blocked()
    wire.detach()
    hypercorn.takes.set()
    await anyio.wait_all_tasks_blocked()
    assert (wire.buffered(), hypercorn.frames) == (0, b"")


async def test_a_lost_connection_is_reported_and_releases_a_detached_wire(hypercorn: Hypercorn) -> None:
    """Later calls say that the connection is over."""
    wire, lost = await hypercorn.accepted(), list[bool]()
    wire.on_lost = lambda: lost.append(wire.lost)
    await hypercorn.end(wire)
    assert lost == [True]
    assert hypercorn.stream.send != wire._end_behind
    with pytest.raises(ConnectionResetError, match="over"):
        await wire.receive()


async def test_a_connection_that_hypercorn_ends_twice_is_released_once(trio_stream: Hypercorn) -> None:
    """This happens when it is idle and its peer leaves at the same time."""
    wire = await trio_stream.accepted()
    close = trio_stream.server._close
    await close()
    wire.detach()
    await close()
    assert wire.lost
    assert not wire.is_open()


# On trio.


async def test_an_abort_on_trio_closes_the_socket_below_tls(trio_stream: Hypercorn) -> None:
    """A task in the middle of a write gets an error."""
    wire = await trio_stream.accepted()
    wire.abort()
    trio_stream.server.stream.transport_stream.socket.close.assert_called_once_with()


async def test_on_trio_the_address_of_a_peer_comes_from_its_socket(trio_stream: Hypercorn) -> None:
    """Without TLS that is the socket of the stream; a closed socket or a Unix socket has no address."""
    socket = MagicMock()
    trio_stream.server.stream = SimpleNamespace(socket=socket)
    wire = trio_stream.wire()
    socket.getpeername.side_effect = [("203.0.113.7", 1234), "/run/app", OSError]
    assert [wire.peer_address() for _ in range(3)] == ["203.0.113.7", None, None]


async def test_on_trio_a_departed_peer_is_noticed_behind_unread_bytes(trio_stream: Hypercorn) -> None:
    """The kernel knows of it before the bytes are read."""
    ours, theirs = socketpair()
    with ours, theirs:
        trio_stream.server.stream = SimpleNamespace(socket=ours)
        wire = await trio_stream.accepted()
        theirs.send(b"unread")
        assert not wire.peer_left()
        theirs.close()
        assert wire.peer_left()


async def test_on_trio_a_peer_that_broke_the_protocol_can_read_the_close_frame(trio_stream: Hypercorn) -> None:
    """The connection is half closed and read to its end before hypercorn closes it."""
    await trio_stream.accepted()
    order, unread = list[str](), [b"more", b""]

    async def receive_some(size: int) -> bytes:
        order.append("read")
        return unread.pop(0)

    trio_stream.server.stream.send_eof = AsyncMock(side_effect=lambda: order.append("end of ours"))
    trio_stream.server.stream.receive_some = receive_some
    trio_stream.hear(b"\xa1\x80\x00\x00\x00\x00")
    trio_stream.server.protocol = AsyncMock()
    await trio_stream.protocol.send(Closed())
    assert order == ["end of ours", "read", "read"]


# Over HTTP/2.


async def test_data_after_both_close_frames_is_ignored(http2_stream: Hypercorn) -> None:
    """wsproto would raise for it, in the task that reads for all streams; earlier data is delivered."""
    wire, peer = await http2_stream.accepted(), client()
    await http2_stream.stream.handle(Body(stream_id=1, data=peer.send(TextMessage("one"))))
    http2_stream.stream.app_put.assert_awaited_with({"type": "websocket.receive", "bytes": None, "text": "one"})
    await wire.close(1000, "")
    await http2_stream.stream.handle(Body(stream_id=1, data=peer.send(CloseConnection(code=1000))))
    await http2_stream.stream.handle(Body(stream_id=1, data=b"\x81\x80\x00\x00\x00\x00"))
    await until(lambda: isinstance(http2_stream.sent[-1], StreamClosed))


async def test_the_end_of_a_stream_is_reported_once(http2_stream: Hypercorn) -> None:
    """hypercorn may end it several times."""
    wire, lost = await http2_stream.accepted(), list[bool]()
    wire.on_lost = lambda: lost.append(wire.lost)
    for _ in range(2):
        await http2_stream.stream.handle(StreamClosed(stream_id=1))
    assert lost == [True]


async def test_an_event_for_an_unknown_stream_does_not_end_the_connection(http2_stream: Hypercorn) -> None:
    """hypercorn looks streams up by number, and gets one that ignores events; several wires share this table."""
    http2_stream.wire()
    streams = http2_stream.protocol.streams
    gone = streams[77]
    await gone.handle(StreamClosed(stream_id=77))
    assert gone.idle
    assert 77 not in streams
    http2_stream.wire()
    assert http2_stream.protocol.streams is streams


async def test_over_http_2_a_write_waits_until_hypercorns_buffer_is_drained(http2_stream: Hypercorn) -> None:
    """By itself, hypercorn buffers without limit for a peer whose flow-control window is full."""
    wire = await http2_stream.accepted()
    drained = anyio.Event()
    http2_stream.protocol.stream_buffers[1] = SimpleNamespace(drain=drained.wait)
    wire.write(Block((Outgoing("one"),)))
    await until(lambda: http2_stream.frames)
    await anyio.wait_all_tasks_blocked()
    assert not wire.writable
    drained.set()
    await until(lambda: wire.writable)


@pytest.mark.parametrize("known", [True, False], ids=["open", "ended"])
async def test_over_http_2_an_abort_resets_only_the_stream(http2_stream: Hypercorn, known: bool) -> None:
    """The connection below it goes on, even if the stream has ended already."""
    protocol = http2_stream.protocol
    protocol.connection = connection = H2Connection(H2Configuration(client_side=False))
    other = H2Connection(H2Configuration())
    other.initiate_connection()
    if known:
        other.send_headers(1, [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")])
        protocol.stream_buffers[1] = buffer = AsyncMock()
        protocol.streams[1] = http2_stream.stream
    connection.initiate_connection()
    connection.receive_data(other.data_to_send())
    flushed = bytearray()
    protocol.has_data = AsyncMock()
    protocol.send = AsyncMock(side_effect=lambda event: flushed.extend(event.data))
    wire = await http2_stream.accepted()
    wire.abort()
    await until(lambda: flushed)
    resets = [event for event in other.receive_data(bytes(flushed)) if isinstance(event, StreamReset)]
    assert [(event.stream_id, event.error_code) for event in resets] == [(1, ErrorCodes.CANCEL)] * known
    assert not wire.is_open()
    if known:
        await until(lambda: buffer.close.await_count == 1)


async def test_a_lost_stream_is_not_reset(http2_stream: Hypercorn) -> None:
    """h2 may have forgotten its number by then."""
    wire = await http2_stream.accepted()
    await http2_stream.stream.handle(StreamClosed(stream_id=1))
    http2_stream.protocol.connection = MagicMock()
    wire.abort()
    await anyio.wait_all_tasks_blocked()
    http2_stream.protocol.connection.reset_stream.assert_not_called()


async def test_over_http_2_a_connection_can_end_while_a_stream_is_stalled(anyio_backend: str) -> None:
    """hypercorn's own end of the stream waits behind our close frame, and is dropped with it."""
    hypercorn = Hypercorn(anyio_backend, http=2)
    wire = await hypercorn.accepted()
    before, hypercorn.takes = len(hypercorn.sent), anyio.Event()
    await wire.close(1000, "")
    with anyio.fail_after(5):
        # Must not wait: it may run in the task that reads for all streams.
        await hypercorn.stream.send(StreamClosed(stream_id=1))
    await anyio.wait_all_tasks_blocked()
    assert len(hypercorn.sent) == before
    await hypercorn.end(wire)
    hypercorn.takes.set()
    await anyio.wait_all_tasks_blocked()
    assert not any(isinstance(event, StreamClosed) for event in hypercorn.sent)


async def test_over_http_2_hypercorns_end_of_a_stream_follows_our_close_frame(anyio_backend: str) -> None:
    """Even if the close frame has to wait for the peer."""
    hypercorn = Hypercorn(anyio_backend, http=2)
    wire = await hypercorn.accepted()
    hypercorn.takes = anyio.Event()
    await wire.close(1000, "")
    await hypercorn.stream.send(StreamClosed(stream_id=1))
    hypercorn.takes.set()
    await until(lambda: isinstance(hypercorn.sent[-1], StreamClosed))
    assert [type(event) for event in hypercorn.sent[1:]] == [Data, EndData, StreamClosed]
