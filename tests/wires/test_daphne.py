"""The wire to daphne, on doubles of its protocol object and of Twisted's transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from wsstab.core.frames import Block, Outgoing
from wsstab.types import Event, Send
from wsstab.wires.daphne import UNREAD_BYTES, UNREAD_MESSAGES, DaphneWire, recognise

pytestmark = pytest.mark.anyio


class Transport:
    """A Twisted transport that keeps what is written.

    Attributes:
        written: all bytes, in order.
        producer: the object that is told when the transport is full.
        reading: whether the socket is read.
        aborted: whether the connection was aborted.
    """

    def __init__(self) -> None:
        self.written = b""
        self.producer: Any = "the HTTP channel"
        self.reading, self.aborted = True, False
        self.dataBuffer, self.offset, self._tempDataLen = b"12345", 2, 4

    def getPeer(self) -> Any:
        return SimpleNamespace(host="203.0.113.7")

    def write(self, data: bytes) -> None:
        self.written += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert (self.producer, streaming) == (None, True)
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def abortConnection(self) -> None:
        self.aborted = True


class Protocol:
    """A double of daphne's protocol object, with the parts of autobahn that the wire uses.

    Attributes:
        told: events that the application sent to daphne.
        pings: payloads of pings that were sent.
        closes: close frames that were sent.
        cancelled: whether autobahn's timer for the handshake was cancelled.
    """

    STATE_CLOSED, STATE_CONNECTING, STATE_OPEN, STATE_CLOSING = range(4)
    failByDrop, echoCloseCodeReason = True, False
    maxMessagePayloadSize = maxFramePayloadSize = 1_048_576
    closeHandshakeTimeout = 1
    closedByMe = wasClean = False
    localCloseCode: int | None = None
    localCloseReason: bytes | None = None
    remoteCloseCode: int | None = None
    remoteCloseReason: str | None = None
    websocket_protocols = ("chat",)
    wasNotCleanReason = ""

    def __init__(self) -> None:
        self.state = self.STATE_CONNECTING
        self.transport = Transport()
        self.handshake_deferred = object()
        self.server = SimpleNamespace(ping_interval=20)
        self.trafficStats = SimpleNamespace(incomingOctetsWireLevel=7)
        self.told: list[Any] = []
        self.pings: list[bytes] = []
        self.closes: list[tuple[int, bytes]] = []
        self.queue: asyncio.Queue[Event] = asyncio.Queue()
        self.cancelled = False
        self.openHandshakeTimeoutCall: Any = SimpleNamespace(cancel=self.cancel)

    def cancel(self) -> None:
        self.cancelled = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.queue.put_nowait({"type": "websocket.receive", "bytes": payload})

    def onPong(self, payload: bytes) -> None:
        pass

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.state = self.STATE_CLOSED
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code})

    def _sendAutoPing(self) -> None:
        self.pings.append(b"automatic")

    def sendPing(self, payload: bytes) -> None:
        self.pings.append(payload)

    def sendCloseFrame(self, code: int, reasonUtf8: bytes, isReply: bool) -> None:
        self.closes.append((code, reasonUtf8))
        self.state = self.STATE_CLOSING
        self.closedByMe = not isReply

    def sendData(self, data: bytes) -> None:
        self.transport.write(data)

    def dropConnection(self, abort: bool) -> None:
        self.state = self.STATE_CLOSED


Protocol.__module__ = "daphne.ws_protocol"


async def handle_reply(protocol: Protocol, event: Event) -> None:
    """Handle an event of the application, like daphne."""
    protocol.told.append(event)
    if event["type"] == "websocket.accept":
        protocol.state = protocol.STATE_OPEN


def build(protocol: Protocol | None = None) -> tuple[Protocol, DaphneWire, dict[str, Any]]:
    """A protocol object, its wire, and the scope."""
    protocol = protocol or Protocol()
    scope: dict[str, Any] = {"type": "websocket"}
    wire = recognise(scope, protocol.queue.get, partial(handle_reply, protocol))
    assert wire is not None
    return protocol, wire, scope


async def opened() -> tuple[Protocol, DaphneWire]:
    """A wire whose handshake is complete."""
    protocol, wire, _ = build()
    wire.take_over_keepalive()
    await wire.accept({"type": "websocket.accept"})
    return protocol, wire


async def test_a_send_of_daphne_is_recognised() -> None:
    """The wire adds the extension for refusals with a body, which daphne lacks."""
    protocol, wire, scope = build()
    assert wire.peer_address() == "203.0.113.7"
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert wire.traits.server == "daphne"
    assert protocol.cancelled


async def plain(event: Event) -> None:
    """A send that is not daphne's."""


@pytest.mark.parametrize("send", [plain, partial(plain), partial(handle_reply, object())])  # type: ignore[arg-type]
async def test_another_send_is_not_recognised(send: Send) -> None:
    """Its scope stays unchanged."""
    scope: dict[str, Any] = {}
    assert recognise(scope, Protocol().queue.get, send) is None
    assert scope == {}


async def test_a_daphne_version_that_lacks_an_attribute_is_not_recognised(caplog: pytest.LogCaptureFixture) -> None:
    """The log names the attribute, once."""
    protocol = Protocol()
    del protocol.trafficStats
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert recognise({}, protocol.queue.get, partial(handle_reply, protocol)) is None
    assert [record.getMessage() for record in caplog.records] == [
        "! daphne has no trafficStats.incomingOctetsWireLevel: falling back to plain ASGI"
    ]


async def test_the_headers_of_an_accept_are_passed_beside_the_subprotocol() -> None:
    """autobahn takes them as a pair."""
    protocol, wire, _ = build()
    headers = [(b"x-a", b"1"), (b"x-a", b"2")]
    await wire.accept({"type": "websocket.accept", "subprotocol": "chat", "headers": headers})
    assert protocol.told[0]["subprotocol"] == ("chat", {"x-a": ["1", "2"]})
    assert wire.is_open()


async def test_a_subprotocol_that_was_not_offered_is_left_out() -> None:
    """autobahn would never answer the handshake."""
    protocol, wire, _ = build()
    await wire.accept({"type": "websocket.accept", "subprotocol": "other"})
    assert protocol.told[0]["subprotocol"] == (None, {})


@pytest.mark.parametrize("header", [(b"x", b"a\r\nb: c"), (b"x\ny", b"")])
async def test_a_header_with_a_line_break_is_an_error(header: tuple[bytes, bytes]) -> None:
    """Otherwise a value could add headers or a body to the response."""
    protocol, wire, _ = build()
    with pytest.raises(ValueError, match="line breaks"):
        await wire.accept({"type": "websocket.accept", "headers": [header]})
    await wire.deny({"type": "websocket.http.response.start", "status": 403, "headers": [header]})
    with pytest.raises(ValueError, match="line breaks"):
        await wire.deny({"type": "websocket.http.response.body", "body": b""})
    assert protocol.transport.written == b""


async def test_a_refusal_is_written_with_status_headers_and_body() -> None:
    """Nothing else can answer the handshake after it."""
    protocol, wire, _ = build()
    await wire.deny({"type": "websocket.http.response.start", "status": 429, "headers": [(b"retry-after", b"5")]})
    await wire.deny({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
    await wire.deny({"type": "websocket.http.response.body", "body": b"many"})
    expected = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\n\r\ntoo many"
    assert (protocol.transport.written, protocol.state) == (expected, protocol.STATE_CLOSED)
    assert not hasattr(protocol, "handshake_deferred")
    wire.detach()
    assert protocol.transport.written == expected


async def test_a_close_before_accept_is_passed_to_daphne() -> None:
    """Both as an event and by ``close()``; daphne then refuses the handshake itself."""
    protocol, wire, _ = build()
    await wire.deny({"type": "websocket.close", "code": 1000})
    await wire.close(4001, "no")
    assert [event["type"] for event in protocol.told] == ["websocket.close"] * 2


async def test_a_call_that_ends_without_an_answer_is_refused_with_500() -> None:
    """daphne would leave the peer waiting."""
    protocol, wire, _ = build()
    wire.detach()
    assert protocol.transport.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")


async def test_messages_are_written_as_frames_to_the_transport() -> None:
    """A block, and a single message that is empty."""
    protocol, wire = await opened()
    wire.write(Block([Outgoing("a"), Outgoing(b"bc")]))
    assert wire.send_at_once(Outgoing(""))
    assert protocol.transport.written == b"\x81\x01a\x82\x02bc\x81\x00"
    assert wire.buffered() == 7


async def test_over_tls_the_buffers_of_both_layers_count() -> None:
    """That of the TLS layer, and that of the transport below it."""
    protocol, wire = await opened()
    wire.transport = SimpleNamespace(_appSendBuffer=[b"ab", b"c"], transport=protocol.transport)
    assert wire.buffered() == 10


async def test_nothing_is_written_after_a_close() -> None:
    """A send raises; a broadcast is ignored."""
    protocol, wire = await opened()
    await wire.close(1012, "restart é")
    wire.write(Block([Outgoing("late")]))
    with pytest.raises(OSError, match="left"):
        wire.send_at_once(Outgoing("late"))
    assert (protocol.transport.written, protocol.closes) == (b"", [(1012, "restart é".encode())])
    assert (protocol.closeHandshakeTimeout, wire.server_closed()) == (10, False)


async def test_a_full_transport_blocks_the_wire() -> None:
    """The wire is the producer that Twisted asks to pause."""
    protocol, wire = await opened()
    heard: list[str] = []
    wire.on_blocked, wire.on_writable = lambda: heard.append("blocked"), lambda: heard.append("writable")
    protocol.transport.producer.pauseProducing()
    assert (wire.writable, heard) == (False, ["blocked"])
    protocol.transport.producer.resumeProducing()
    protocol.transport.producer.stopProducing()
    assert (wire.writable, heard) == (True, ["blocked", "writable"])


async def test_the_wire_takes_over_pings_and_pongs() -> None:
    """daphne's own ping is suppressed, and its interval is known."""
    protocol, wire = await opened()
    pongs: list[bytes] = []
    wire.on_pong = pongs.append
    assert wire.ping(b"one")
    protocol._sendAutoPing()
    protocol.onPong(b"one")
    assert (protocol.pings, pongs, wire.server_ping_interval) == ([b"one"], [b"one"], 20)


@pytest.mark.parametrize(("count", "size"), [(UNREAD_MESSAGES, 1), (1, UNREAD_BYTES)])
async def test_reading_pauses_while_many_messages_or_bytes_are_unread(count: int, size: int) -> None:
    """It resumes when half of them have been read."""
    protocol, wire = await opened()
    for _ in range(count):
        assert not wire.reading_paused()
        protocol.onMessage(b"x" * size, True)
    assert (protocol.transport.reading, wire.reading_paused()) == (False, True)
    for _ in range((count + 1) // 2):
        await wire.receive()
    assert (protocol.transport.reading, wire.reading_paused()) == (True, False)


@pytest.mark.parametrize("end", [lambda wire: wire.close(1000, ""), lambda wire: detach(wire)])
async def test_messages_after_the_end_are_not_kept(end: Callable[[DaphneWire], Awaitable[None]]) -> None:
    """The socket is still read, for the peer's answer to our close."""
    protocol, wire = await opened()
    for _ in range(UNREAD_MESSAGES):
        protocol.onMessage(b"x", True)
    await end(wire)
    assert protocol.transport.reading
    protocol.onMessage(b"late", True)
    assert protocol.queue.qsize() == UNREAD_MESSAGES


async def detach(wire: DaphneWire) -> None:
    """End the ASGI call."""
    wire.detach()


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"wasClean": True, "remoteCloseCode": 4001, "remoteCloseReason": "bye"}, {"code": 4001, "reason": "bye"}),
        ({"wasClean": True}, {"code": 1005, "reason": ""}),
        ({}, {"code": 1006}),
        (
            {"closedByMe": True, "localCloseCode": 1009, "localCloseReason": b"too big"},
            {"code": 1009, "reason": "too big"},
        ),
    ],
)
async def test_a_disconnect_has_the_code_and_reason_of_the_close(state: dict[str, Any], told: dict[str, Any]) -> None:
    """They are those of the peer's close frame, or of autobahn's own."""
    protocol, wire = await opened()
    vars(protocol).update(state)
    protocol.onClose(True, None, None)
    assert await wire.receive() == {"type": "websocket.disconnect", **told}
    assert wire.server_closed() is ("closedByMe" in state)


async def test_a_lost_connection_restores_daphnes_own_methods() -> None:
    """It calls the callbacks for a lost and for a writable wire."""
    protocol, wire = await opened()
    heard: list[str] = []
    wire.on_lost, wire.on_writable = lambda: heard.append("lost"), lambda: heard.append("writable")
    protocol.transport.producer.pauseProducing()
    protocol.onClose(False, 1006, "gone")
    assert (wire.lost, wire.writable, heard) == (True, True, ["lost", "writable"])
    assert not {"onMessage", "onPong", "onClose", "_sendAutoPing"} & set(vars(protocol))


@pytest.mark.parametrize(
    ("own", "limit", "told", "holds"),
    [
        (1_048_576, 5_000_000, None, 5_000_000),
        (1_048_576, 1000, None, 1000),
        (2000, 1000, None, 1000),
        (2000, 5000, 2000, 2000),
        (0, 1000, None, 1000),
    ],
)
async def test_the_message_limit_is_handed_to_autobahn(own: int, limit: int, told: int | None, holds: int) -> None:
    """A smaller limit that daphne was configured with stays; the default does not count as configured."""
    protocol = Protocol()
    protocol.maxMessagePayloadSize = protocol.maxFramePayloadSize = own
    _, wire, _ = build(protocol)
    assert wire.limit_message_size(limit) == told
    assert (protocol.maxMessagePayloadSize, protocol.maxFramePayloadSize) == (holds, holds)


async def test_the_wire_supports_partial_and_abort_and_refuses_compression() -> None:
    """``partial()`` shows that an incomplete message is still arriving."""
    protocol, wire = await opened()
    assert (wire.partial(), wire.refuse_compression()) == (7, True)
    assert (protocol.failByDrop, protocol.echoCloseCodeReason) == (False, True)
    wire.abort()
    assert protocol.transport.aborted


class Watched(Protocol):
    """A protocol object with the three methods that daphne itself calls for an application's events."""

    def serverAccept(self, subprotocol: object = None) -> None:
        self.told.append(("accept", subprotocol))
        self.state = self.STATE_OPEN

    def serverReject(self) -> None:
        self.told.append(("reject",))

    def serverClose(self, code: int | None = None) -> None:
        self.told.append(("close", code))


Watched.__module__ = "daphne.ws_protocol"


def watched() -> tuple[Watched, DaphneWire, list[str]]:
    """A wire with an observer around it, and the types of the events that the observer sees."""
    protocol, seen = Watched(), list[str]()

    async def observe(event: Event) -> None:
        seen.append(event["type"])
        if event["type"] == "websocket.accept":
            protocol.serverAccept(event["subprotocol"])
        elif protocol.state == protocol.STATE_CONNECTING:
            protocol.serverReject()
        else:
            protocol.serverClose(event["code"])

    _, wire, _ = build(protocol)
    wire.announce_to(observe)
    return protocol, wire, seen


async def test_an_observer_sees_the_handshake_and_the_close() -> None:
    """daphne gets the headers, but not the close: its frame is out already."""
    protocol, wire, seen = watched()
    await wire.accept({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-a", b"1")]})
    await wire.close(4000, "done")
    assert seen == ["websocket.accept", "websocket.close"]
    assert (protocol.told, protocol.closes) == ([("accept", ("chat", {"x-a": ["1"]}))], [(4000, b"done")])


async def test_an_observer_sees_a_refusal_as_a_close() -> None:
    """daphne does not answer this close; the response with the body does."""
    protocol, wire, seen = watched()
    await wire.deny({"type": "websocket.http.response.start", "status": 429})
    await wire.deny({"type": "websocket.http.response.body", "body": b"no"})
    assert (seen, protocol.told) == (["websocket.close"], [])
    assert protocol.transport.written.endswith(b"\r\n\r\nno")


async def test_the_bytes_of_an_unfinished_message_are_counted() -> None:
    """They are its complete frames, and the frame that is still arriving."""
    protocol, wire = await opened()
    vars(protocol).update(inside_message=False, message_data_total_length=50, data=b"abc")
    assert wire.unfinished() == 3
    vars(protocol).update(inside_message=True)
    assert wire.unfinished() == 53
