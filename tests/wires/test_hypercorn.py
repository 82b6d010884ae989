"""The wire to hypercorn: what it is recognised by, and what it makes of what wsproto says."""

from __future__ import annotations

import asyncio
import logging
import zlib
from types import MethodType, SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import anyio
import pytest
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config
from hypercorn.protocol.events import Data, EndData, StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import Handshake, WSStream
from hypercorn.trio.tcp_server import TCPServer as TrioTCPServer
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from tests.support.stage import until
from wsstab.core.frames import Block, Outgoing
from wsstab.types import Event
from wsstab.wires import wire_for
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.base import Wire
from wsstab.wires.hypercorn import Http2Wire, HypercornWire, StreamWire, TrioWire

pytestmark = pytest.mark.anyio

OFFER = b"permessage-deflate"


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


class Flow(asyncio.Protocol):
    """What a transport tells of itself."""


class Hypercorn:
    """A stream of hypercorn with all that is below it, and no socket.

    Args:
        backend: ``asyncio`` or ``trio``: which TCP server is below.
        http: 1 or 2.
        offer: of extensions.
    """

    def __init__(self, backend: str, http: int = 1, offer: bytes | None = None) -> None:
        self.config, self.context = Config(), MagicMock()
        self.sent: list[Any] = []
        self.takes: anyio.Event | None = None
        self.flow = Flow()
        self.transport = MagicMock()
        self.transport.get_protocol.return_value = self.flow
        self.transport.is_closing.return_value = False
        self.transport.get_extra_info.return_value = None
        self.server = self._server(backend)
        arguments = (MagicMock(), self.config, self.context, MagicMock(), MagicMock(), False, None, None)
        self.protocol: Any = (H11Protocol if http == 1 else H2Protocol)(*arguments, self.server.protocol_send)
        self.stream: Any = WSStream(*arguments[:4], False, None, None, MethodType(self.take, self.protocol), 1)
        self.stream.app_put = AsyncMock()
        self.stream.scope = MagicMock()
        self.stream.start_time = 0.0
        headers = [(b"sec-websocket-key", b"x"), (b"sec-websocket-version", b"13")]
        headers += [(b"sec-websocket-extensions", offer)] if offer else []
        self.stream.handshake = Handshake(headers, "1.1")
        self.config._log = AsyncMock()
        self.receive: Any = AsyncMock()

    async def take(self, protocol: Any, event: Any) -> None:
        """What the stream sends, in place of the protocol."""
        if self.takes is not None:
            await self.takes.wait()
        self.sent.append(event)

    def _server(self, backend: str) -> Any:
        if backend == "trio":
            server: Any = TrioTCPServer(*[MagicMock() for _ in range(5)])
            server._close = AsyncMock()
            return server
        arguments: list[Any] = [*(MagicMock() for _ in range(6)), SimpleNamespace(transport=self.transport)]
        return TCPServer(*arguments)

    def wire(self) -> Wire:
        """The wire that is made for it."""
        return wire_for({}, self.receive, self.stream.app_send)

    async def accepted(self) -> Any:
        """A wire whose handshake is complete."""
        wire = self.wire()
        wire.compress_from = 1024
        await wire.accept({"type": "websocket.accept"})
        return wire

    def hear(self, *frames: bytes) -> list[Any]:
        """What hypercorn sees when the peer sends this."""
        self.stream.connection.receive_data(b"".join(frames))
        return list(self.stream.connection.events())

    async def end(self, wire: Wire) -> None:
        """The application has returned, and the peer has left."""
        wire.detach()
        if isinstance(wire, HypercornWire):
            self.flow.connection_lost(None)
        elif isinstance(wire, TrioWire):
            await self.server._close()
        else:
            await self.stream.handle(StreamClosed(stream_id=1))

    @property
    def frames(self) -> bytes:
        """What was written."""
        through_hypercorn = [event.data for event in self.sent if isinstance(event, Data)]
        return b"".join([call.args[0] for call in self.transport.write.call_args_list] + through_hypercorn)


def client(extensions: list[Any] | None = None) -> Connection:
    """The other end."""
    return Connection(ConnectionType.CLIENT, extensions)


@pytest.fixture
def hypercorn(anyio_backend: str) -> Hypercorn:
    """One stream over HTTP/1.1."""
    return Hypercorn(anyio_backend)


# Recognition


async def test_each_kind_of_stream_has_its_wire(anyio_backend: str) -> None:
    """By the loop below it, and by the version of HTTP."""
    assert type(Hypercorn(anyio_backend).wire()) is (TrioWire if anyio_backend == "trio" else HypercornWire)
    assert type(Hypercorn(anyio_backend, http=2).wire()) is Http2Wire


async def test_a_derived_class_is_recognised_too(hypercorn: Hypercorn) -> None:
    """Who builds upon hypercorn keeps its modules among the bases."""
    hypercorn.stream.__class__ = type("Own", (WSStream,), {})
    assert type(hypercorn.wire()) is not AsgiWire


@pytest.mark.parametrize("http", [1, 2])
async def test_the_state_of_a_connection_is_not_shared_by_its_streams(anyio_backend: str, http: int) -> None:
    """Over HTTP/2 old versions hand the same one to all of them; what a stream put there is not the next one's."""
    made, state = Hypercorn(anyio_backend, http=http), {"shared": 1}
    scope: dict[str, Any] = {"state": state}
    wire_for(scope, made.receive, made.stream.app_send)
    scope["state"]["own"] = 2
    assert (scope["state"], state) == ({"shared": 1, "own": 2}, {"shared": 1})


async def test_what_is_not_hypercorn_s_is_left_alone() -> None:
    """Any coroutine function, and any method."""
    assert type(wire_for({}, AsyncMock(), AsyncMock())) is AsgiWire
    assert type(wire_for({}, AsyncMock(), hear_nothing)) is AsgiWire


async def hear_nothing(event: Event) -> None:
    """A send of somebody."""


@pytest.mark.parametrize("name", ["handshake", "app_put", "state", "closed", "buffer", "_send_pings"])
async def test_a_stream_that_lacks_something_gets_plain_asgi(
    hypercorn: Hypercorn, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the log says what, once."""
    monkeypatch.setattr("wsstab.wires.base._lacking", set())
    hypercorn.stream.__dict__.pop(name, None)
    if hasattr(WSStream, name):
        monkeypatch.delattr(WSStream, name)
    with caplog.at_level(logging.WARNING, "wsstab"):
        assert [type(hypercorn.wire()) for _ in range(2)] == [AsgiWire, AsgiWire]
    (record,) = caplog.records
    assert f"hypercorn's stream has no {name}" in record.message


@pytest.mark.parametrize("http", [1, 2])
async def test_what_is_below_may_lack_something_too(
    anyio_backend: str, http: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The TCP server of each loop, and HTTP/2."""
    monkeypatch.setattr("wsstab.wires.base._lacking", set())
    made = Hypercorn(anyio_backend, http)
    owner = made.server if http == 1 else made.protocol
    name = "stream_buffers" if http == 2 else "stream" if anyio_backend == "trio" else "writer"
    del owner.__dict__[name]
    with caplog.at_level(logging.WARNING, "wsstab"):
        assert type(made.wire()) is AsgiWire
    assert name in caplog.text


async def test_http_3_is_plain_asgi(hypercorn: Hypercorn) -> None:
    """Nothing is known of what is below it."""
    hypercorn.stream.send = AsyncMock()
    assert type(hypercorn.wire()) is AsgiWire


# What the peer sends


async def test_a_connection_that_was_lost_before_its_call_is_no_error() -> None:
    """uvloop has forgotten the protocol of its transport by then."""
    made = Hypercorn("asyncio")
    made.transport.get_protocol.return_value = None
    made.transport.is_closing.return_value = True
    wire = await made.accepted()
    assert wire.lost
    assert not wire.is_open()


async def test_a_pong_is_told(hypercorn: Hypercorn) -> None:
    """hypercorn itself passes over it."""
    wire, pongs = await hypercorn.accepted(), list[bytes]()
    wire.on_pong = pongs.append
    hypercorn.hear(client().send(Ping(payload=b"no").response()), client().send(Ping(payload=b"beat").response()))
    assert pongs == [b"no", b"beat"]


@pytest.mark.parametrize(("code", "reason", "seen"), [(4001, "bye", (4001, "bye")), (1005, None, (1005, ""))])
async def test_the_close_of_the_peer_is_told(
    hypercorn: Hypercorn, code: int, reason: str | None, seen: tuple[int, str]
) -> None:
    """hypercorn says 1006 to all of them."""
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
async def test_a_message_over_the_limit_fails_the_connection(hypercorn: Hypercorn, event: Any) -> None:
    """Counted in bytes; hypercorn is told that the peer closed so, and answers with the same."""
    wire = await hypercorn.accepted()
    assert wire.limit_message_size(10) is None
    (seen,) = hypercorn.hear(client().send(event))
    assert (type(seen), seen.code, seen.reason) == (CloseConnection, 1009, "message too big")
    assert hypercorn.stream.connection.state is ConnectionState.REMOTE_CLOSING
    assert wire.server_closed()
    hypercorn.receive.return_value = {"type": "websocket.disconnect", "code": 1006}
    assert (await wire.receive())["code"] == 1009


async def test_fragments_count_together_and_messages_do_not(hypercorn: Hypercorn) -> None:
    """A part of a message is a sign of life."""
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


async def test_the_smaller_limit_wins(hypercorn: Hypercorn) -> None:
    """hypercorn's own is told, and kept."""
    wire = await hypercorn.accepted()
    assert wire.limit_message_size(1 << 40) == 16_777_216
    assert wire.limit_message_size(100) is None


async def test_a_small_frame_that_would_become_large_is_hardly_inflated(anyio_backend: str) -> None:
    """No further than the first look at it takes."""
    made = Hypercorn(anyio_backend, offer=OFFER)
    wire = await made.accepted()
    wire.limit_message_size(100_000)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    payload = bomb.compress(bytes(50_000_000)) + bomb.flush(zlib.Z_SYNC_FLUSH)[:-4]
    (seen,) = made.hear(b"\xc2\xfe" + len(payload).to_bytes(2, "big") + bytes(4) + payload)
    assert (type(seen), seen.code) == (CloseConnection, 1009)
    assert wire.partial() < 2_000_000


async def test_what_breaks_the_protocol_is_answered(hypercorn: Hypercorn) -> None:
    """wsproto says it, and hypercorn by itself would end TCP without a word."""
    wire = await hypercorn.accepted()
    (seen,) = hypercorn.hear(b"\xa1\x80\x00\x00\x00\x00")
    assert (type(seen), seen.code) == (CloseConnection, 1002)
    assert wire.server_closed()


async def test_after_our_close_messages_are_passed_over(hypercorn: Hypercorn) -> None:
    """Only the peer's answer counts; hypercorn could not keep what nobody reads."""
    wire, peer = await hypercorn.accepted(), client()
    await wire.close(4000, "done")
    seen = hypercorn.hear(peer.send(TextMessage(data="late")), peer.send(CloseConnection(code=4000)))
    assert [type(event) for event in seen] == [CloseConnection]
    assert not wire.server_closed()


# What goes out


async def test_frames_close_and_pings_go_out_in_order(hypercorn: Hypercorn) -> None:
    """As one peer would read them, and nothing follows the close frame."""
    wire, peer = await hypercorn.accepted(), client()
    wire.write(Block((Outgoing("one"), Outgoing("two"))))
    await until(lambda: wire.writable)
    assert wire.send_at_once(Outgoing(b"three"))
    await until(lambda: wire.writable)
    await wire.close(4000, "done")
    await until(lambda: not isinstance(wire, StreamWire) or any(isinstance(event, EndData) for event in hypercorn.sent))
    wire.write(Block((Outgoing("late"),)))
    assert wire.ping(b"late")
    peer.receive_data(hypercorn.frames)
    seen = [(type(event), getattr(event, "data", None) or getattr(event, "code", None)) for event in peer.events()]
    assert seen == [(TextMessage, "one"), (TextMessage, "two"), (BytesMessage, b"three"), (CloseConnection, 4000)]
    assert not wire.is_open()
    with pytest.raises(ConnectionResetError):
        wire.send_at_once(Outgoing("late"))


async def test_hypercorn_knows_of_our_close(hypercorn: Hypercorn) -> None:
    """It would send 1011 when the application returns."""
    wire = await hypercorn.accepted()
    await wire.close(1000, "")
    await hypercorn.stream.app_send(None)
    peer = client()
    peer.receive_data(hypercorn.frames)
    assert [event.code for event in peer.events() if isinstance(event, CloseConnection)] == [1000]
    assert type(hypercorn.sent[-1]) is StreamClosed


async def test_compression_can_be_refused(anyio_backend: str) -> None:
    """Nothing is negotiated then; else with the peer's window."""
    made = Hypercorn(anyio_backend, offer=OFFER + b"; server_max_window_bits=10")
    await made.accepted()
    extensions = [value for name, value in made.sent[0].headers if name == b"sec-websocket-extensions"]
    assert extensions
    refused = Hypercorn(anyio_backend, offer=OFFER)
    assert refused.wire().refuse_compression()
    await refused.stream.app_send({"type": "websocket.accept"})
    assert not [value for name, value in refused.sent[0].headers if name == b"sec-websocket-extensions"]


async def test_large_messages_are_compressed_for_who_takes_it(anyio_backend: str) -> None:
    """With the window that was negotiated; the peer inflates them."""
    made = Hypercorn(anyio_backend, offer=OFFER)
    wire, extension = await made.accepted(), PerMessageDeflate()
    extension.finalize("permessage-deflate")
    peer = client([extension])
    wire.write(Block((Outgoing("x" * 5000), Outgoing("y" * 5000))))
    await until(lambda: wire.writable)
    assert len(made.frames) < 500
    peer.receive_data(made.frames)
    assert [event.data for event in peer.events() if isinstance(event, TextMessage)] == ["x" * 5000, "y" * 5000]


async def test_the_keepalive_is_taken_over_for_this_stream_alone(hypercorn: Hypercorn) -> None:
    """The configuration belongs to all of them."""
    hypercorn.config.websocket_ping_interval = 7.0
    wire = hypercorn.wire()
    wire.take_over_keepalive()
    assert wire.server_ping_interval == 7.0
    assert hypercorn.config.websocket_ping_interval == 7.0
    assert await hypercorn.stream._send_pings() is None
    assert hypercorn.sent == []


async def test_without_a_keepalive_there_is_nothing_to_take_over(hypercorn: Hypercorn) -> None:
    """Which is hypercorn's default."""
    wire = hypercorn.wire()
    wire.take_over_keepalive()
    assert wire.server_ping_interval is None
    assert "_send_pings" not in hypercorn.stream.__dict__


# The end


async def test_what_nobody_read_does_not_hold_up_the_end(hypercorn: Hypercorn) -> None:
    """hypercorn waits for room in a queue; when its application has returned, there is always some."""
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


async def test_abort_ends_the_connection(hypercorn: Hypercorn, anyio_backend: str) -> None:
    """Below TLS too, where there is some."""
    wire = await hypercorn.accepted()
    wire.abort()
    if anyio_backend == "asyncio":
        hypercorn.transport.abort.assert_called_once_with()
    else:
        hypercorn.server.stream.transport_stream.socket.close.assert_called_once_with()


async def test_the_loss_of_the_connection_is_told(hypercorn: Hypercorn, anyio_backend: str) -> None:
    """And what was hidden is as before."""
    wire, lost = await hypercorn.accepted(), list[bool]()
    wire.on_lost = lambda: lost.append(wire.lost)
    if anyio_backend == "asyncio":
        before = hypercorn.flow.__class__.__mro__[1]
        hypercorn.flow.connection_lost(None)
        assert (hypercorn.flow.__class__, hypercorn.flow.__dict__) == (before, {})
    else:
        await hypercorn.server._close()
    assert lost == [True]


async def test_all_may_end_while_hypercorn_looks_at_what_was_read(hypercorn: Hypercorn) -> None:
    """It waits for room in the middle of that; what raised then would raise in the server."""
    wire, peer = await hypercorn.accepted(), client()
    hypercorn.stream.connection.receive_data(peer.send(TextMessage("one")) + peer.send(TextMessage("two")))
    events = hypercorn.stream.connection.events()
    assert next(events).data == "one"
    await hypercorn.end(wire)
    assert list(events) == []
    assert not wire.is_open()
    assert wire.buffered() == 0


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
