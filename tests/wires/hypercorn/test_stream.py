"""The wires to a stream on trio, and over HTTP/2 on any loop: frames go through hypercorn."""

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
    """A stream of each kind: over HTTP/1.1 that is trio's, whichever loop the test runs on is below HTTP/2."""
    return Hypercorn("trio" if request.param == 1 else anyio_backend, http=request.param)


@pytest.fixture
def trio_stream() -> Hypercorn:
    """A stream over HTTP/1.1, on trio's TCP server."""
    return Hypercorn("trio")


@pytest.fixture
def http2_stream(anyio_backend: str) -> Hypercorn:
    """A stream over HTTP/2."""
    return Hypercorn(anyio_backend, http=2)


async def test_frames_close_and_pings_go_out_in_order(hypercorn: Hypercorn) -> None:
    """As one peer would read them, and nothing follows the close frame."""
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


async def test_only_one_ping_is_under_way(hypercorn: Hypercorn) -> None:
    """A peer that takes nothing does not pile them up; they go on when it does."""
    wire = await hypercorn.accepted()
    hypercorn.takes = anyio.Event()
    assert wire.ping(b"first")
    assert wire.ping(b"second")
    hypercorn.takes.set()
    await until(lambda: b"first" in hypercorn.frames)
    await until(lambda: wire.ping(b"third") and b"third" in hypercorn.frames)
    assert b"second" not in hypercorn.frames


@pytest.mark.parametrize("http", [1, 2])
async def test_large_messages_are_compressed_for_who_takes_it(anyio_backend: str, http: int) -> None:
    """With the window that was negotiated; the peer inflates them."""
    made = Hypercorn("trio" if http == 1 else anyio_backend, http, OFFER)
    wire, extension = await made.accepted(), PerMessageDeflate()
    extension.finalize("permessage-deflate")
    peer = client([extension])
    wire.write(Block((Outgoing("x" * 5000), Outgoing("y" * 5000))))
    await until(lambda: wire.writable)
    assert len(made.frames) < 500
    peer.receive_data(made.frames)
    assert [event.data for event in peer.events() if isinstance(event, TextMessage)] == ["x" * 5000, "y" * 5000]


async def test_a_close_is_sent_once(hypercorn: Hypercorn) -> None:
    """And what waited before it still goes out."""
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


async def test_a_close_before_accept_is_hypercorn_s_refusal(hypercorn: Hypercorn) -> None:
    """There is no frame to send yet."""
    wire = hypercorn.wire()
    await wire.close(1008, "no")
    (answer,) = [event for event in hypercorn.sent if isinstance(event, Response)]
    assert (answer.status_code, hypercorn.frames) == (403, b"")


async def test_an_observer_sees_the_close_that_is_on_its_way(hypercorn: Hypercorn) -> None:
    """Which makes neither a second frame nor an end before ours."""
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


async def test_nothing_follows_the_close_of_the_peer(hypercorn: Hypercorn) -> None:
    """What waits when it comes is left out."""
    wire = await hypercorn.accepted()
    wire.write(Block((Outgoing("late"),)))
    hypercorn.hear(client().send(CloseConnection(code=1000)))
    await until(lambda: wire.buffered() == 0)
    assert hypercorn.frames == b""


async def test_the_end_of_hypercorn_s_own_goes_through(hypercorn: Hypercorn) -> None:
    """Where we have closed nothing, and where our frame is out."""
    await hypercorn.accepted()
    await hypercorn.stream.send(EndData(stream_id=1))
    await hypercorn.stream.send(StreamClosed(stream_id=1))
    assert [type(event) for event in hypercorn.sent[1:]] == [EndData, StreamClosed]


async def test_hypercorn_s_end_on_trio_waits_for_our_close_frame(trio_stream: Hypercorn) -> None:
    """However long that takes: there it is in the task of the application."""
    wire = await trio_stream.accepted()
    trio_stream.takes = anyio.Event()
    await wire.close(1000, "")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trio_stream.stream.send, StreamClosed(stream_id=1))
        await anyio.wait_all_tasks_blocked()
        assert len(trio_stream.sent) == 1
        trio_stream.takes.set()
    assert [type(event) for event in trio_stream.sent[1:]] == [Data, EndData, StreamClosed]


async def test_an_application_that_returns_leaves_nothing_to_write(hypercorn: Hypercorn) -> None:
    """Where it has not closed; what was written before a close still goes out."""
    wire = await hypercorn.accepted()
    hypercorn.takes = anyio.Event()
    wire.write(Block((Outgoing("first"),)))
    await anyio.wait_all_tasks_blocked()
    wire.detach()
    hypercorn.takes.set()
    await anyio.wait_all_tasks_blocked()
    assert (wire.buffered(), hypercorn.frames) == (0, b"")


async def test_the_loss_of_the_connection_is_told(hypercorn: Hypercorn) -> None:
    """And a wire whose application has returned as well is let go."""
    wire, lost = await hypercorn.accepted(), list[bool]()
    wire.on_lost = lambda: lost.append(wire.lost)
    await hypercorn.end(wire)
    assert lost == [True]
    assert hypercorn.stream.send != wire._end_behind
    with pytest.raises(ConnectionResetError, match="over"):
        await wire.receive()


async def test_a_connection_that_ends_twice_is_let_go_once(trio_stream: Hypercorn) -> None:
    """hypercorn may do that: where it is idle, and where the peer leaves at the same time."""
    wire = await trio_stream.accepted()
    close = trio_stream.server._close
    await close()
    wire.detach()
    await close()
    assert wire.lost
    assert not wire.is_open()


# On trio


async def test_abort_on_trio_closes_the_socket_below_tls(trio_stream: Hypercorn) -> None:
    """Whoever is in the middle of sending is told."""
    wire = await trio_stream.accepted()
    wire.abort()
    trio_stream.server.stream.transport_stream.socket.close.assert_called_once_with()


async def test_the_address_of_a_peer_on_trio_is_its_socket_s(trio_stream: Hypercorn) -> None:
    """Without TLS that is the socket of the stream itself; one that has gone has none, nor has a Unix socket."""
    socket = MagicMock()
    trio_stream.server.stream = SimpleNamespace(socket=socket)
    wire = trio_stream.wire()
    socket.getpeername.side_effect = [("203.0.113.7", 1234), "/run/app", OSError]
    assert [wire.peer_address() for _ in range(3)] == ["203.0.113.7", None, None]


async def test_a_peer_on_trio_that_has_left_is_seen_behind_what_is_unread(trio_stream: Hypercorn) -> None:
    """The kernel knows of it before anybody has read so far."""
    ours, theirs = socketpair()
    with ours, theirs:
        trio_stream.server.stream = SimpleNamespace(socket=ours)
        wire = await trio_stream.accepted()
        theirs.send(b"unread")
        assert not wire.peer_left()
        theirs.close()
        assert wire.peer_left()


async def test_a_peer_on_trio_that_broke_the_rules_may_read_why(trio_stream: Hypercorn) -> None:
    """TCP is half closed and read to its end before hypercorn closes it."""
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


# Over HTTP/2


async def test_what_comes_behind_the_close_of_both_is_passed_over(http2_stream: Hypercorn) -> None:
    """wsproto would raise, in the task that reads for all streams; before that everything is handed on."""
    wire, peer = await http2_stream.accepted(), client()
    await http2_stream.stream.handle(Body(stream_id=1, data=peer.send(TextMessage("one"))))
    http2_stream.stream.app_put.assert_awaited_with({"type": "websocket.receive", "bytes": None, "text": "one"})
    await wire.close(1000, "")
    await http2_stream.stream.handle(Body(stream_id=1, data=peer.send(CloseConnection(code=1000))))
    await http2_stream.stream.handle(Body(stream_id=1, data=b"\x81\x80\x00\x00\x00\x00"))
    await until(lambda: isinstance(http2_stream.sent[-1], StreamClosed))


async def test_the_end_of_a_stream_is_told_once(http2_stream: Hypercorn) -> None:
    """However often hypercorn hears of it."""
    wire, lost = await http2_stream.accepted(), list[bool]()
    wire.on_lost = lambda: lost.append(wire.lost)
    for _ in range(2):
        await http2_stream.stream.handle(StreamClosed(stream_id=1))
    assert lost == [True]


async def test_what_is_said_to_a_stream_that_has_gone_ends_nothing(http2_stream: Hypercorn) -> None:
    """hypercorn asks for it by its number, and finds one that listens to nothing; two wires of one connection agree."""
    http2_stream.wire()
    streams = http2_stream.protocol.streams
    gone = streams[77]
    await gone.handle(StreamClosed(stream_id=77))
    assert gone.idle
    assert 77 not in streams
    http2_stream.wire()
    assert http2_stream.protocol.streams is streams


async def test_a_write_over_http_2_waits_until_hypercorn_has_handed_it_on(http2_stream: Hypercorn) -> None:
    """By itself it takes ever more for a peer that lets it send nothing."""
    wire = await http2_stream.accepted()
    drained = anyio.Event()
    http2_stream.protocol.stream_buffers[1] = SimpleNamespace(drain=drained.wait)
    wire.write(Block((Outgoing("one"),)))
    await until(lambda: http2_stream.frames)
    await anyio.wait_all_tasks_blocked()
    assert not wire.writable
    drained.set()
    await until(lambda: wire.writable)


@pytest.mark.parametrize("known", [True, False], ids=["that is open", "that has ended"])
async def test_abort_over_http_2_resets_only_the_stream(http2_stream: Hypercorn, known: bool) -> None:
    """The connection below it goes on, also where there is no such stream any more."""
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


async def test_a_stream_that_is_lost_is_not_reset(http2_stream: Hypercorn) -> None:
    """Its number may be unknown by then."""
    wire = await http2_stream.accepted()
    await http2_stream.stream.handle(StreamClosed(stream_id=1))
    http2_stream.protocol.connection = MagicMock()
    wire.abort()
    await anyio.wait_all_tasks_blocked()
    http2_stream.protocol.connection.reset_stream.assert_not_called()


async def test_all_may_end_while_a_stream_takes_nothing(anyio_backend: str) -> None:
    """hypercorn's own end of it waits behind our close frame, and is forgotten with it."""
    hypercorn = Hypercorn(anyio_backend, http=2)
    wire = await hypercorn.accepted()
    before, hypercorn.takes = len(hypercorn.sent), anyio.Event()
    await wire.close(1000, "")
    with anyio.fail_after(5):
        # At once: it may be in the task that reads, for all streams.
        await hypercorn.stream.send(StreamClosed(stream_id=1))
    await anyio.wait_all_tasks_blocked()
    assert len(hypercorn.sent) == before
    await hypercorn.end(wire)
    hypercorn.takes.set()
    await anyio.wait_all_tasks_blocked()
    assert not any(isinstance(event, StreamClosed) for event in hypercorn.sent)


async def test_hypercorn_s_end_of_a_stream_follows_our_close_frame(anyio_backend: str) -> None:
    """However long that takes."""
    hypercorn = Hypercorn(anyio_backend, http=2)
    wire = await hypercorn.accepted()
    hypercorn.takes = anyio.Event()
    await wire.close(1000, "")
    await hypercorn.stream.send(StreamClosed(stream_id=1))
    hypercorn.takes.set()
    await until(lambda: isinstance(hypercorn.sent[-1], StreamClosed))
    assert [type(event) for event in hypercorn.sent[1:]] == [Data, EndData, StreamClosed]
