"""The wire to a daphne protocol object: frames go straight to its Twisted transport.

Recognised by the ``send`` that daphne passes to the application, a `functools.partial` that holds
the protocol object. Daphne itself buffers without limit in both directions; here the transport
reports when it is full, and reading pauses while many messages are unread.

Private names of daphne, autobahn and Twisted used here; all are checked at recognition, and if one is
missing, the plain ASGI wire is used and one line is logged. Tried with daphne 4.1.0 to 4.2.3, autobahn
24.4.2 to 26.10.2 and Twisted 26.10.

==========  ====================================================================================
daphne      ``send.args[0]``, ``handshake_deferred``, ``application_queue``, ``server.ping_interval``,
            that the subprotocol of an accept is handed on as it is; ``serverAccept``, ``serverReject``
            and ``serverClose``, where observers stand outside
autobahn    ``state``, ``_sendAutoPing``, ``openHandshakeTimeoutCall``, ``closeHandshakeTimeout``,
            ``failByDrop``, ``echoCloseCodeReason``, ``maxMessagePayloadSize``, ``maxFramePayloadSize``,
            ``_max_message_size_exceeded`` (only for the words of the close),
            ``sendCloseFrame``, ``sendData``, ``dropConnection``, ``closedByMe``, ``wasClean``,
            ``localCloseCode``, ``localCloseReason``, ``remoteCloseCode``, ``remoteCloseReason``,
            ``trafficStats``
Twisted     ``dataBuffer``, ``offset``, ``_tempDataLen`` and, over TLS, ``_appSendBuffer`` of the
            transport: only to count what waits, and taken for empty where they are missing
==========  ====================================================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from ..close import MESSAGE_TOO_BIG
from ..core.frames import Block, Outgoing
from ..types import Event, Receive, Scope, Send
from .base import Wire, lacks, tell_of_close
from .tcp import peer_has_left
from .traits import TRAITS

__all__ = ["DaphneWire", "recognise"]

NEEDS = (
    "transport.registerProducer",
    "transport.abortConnection",
    "handshake_deferred",
    "server.ping_interval",
    "state",
    "onMessage",
    "onPong",
    "onClose",
    "_sendAutoPing",
    "openHandshakeTimeoutCall",
    "closeHandshakeTimeout",
    "failByDrop",
    "echoCloseCodeReason",
    "maxMessagePayloadSize",
    "maxFramePayloadSize",
    "sendPing",
    "sendCloseFrame",
    "sendData",
    "dropConnection",
    "closedByMe",
    "wasClean",
    "localCloseCode",
    "localCloseReason",
    "remoteCloseCode",
    "remoteCloseReason",
    "trafficStats.incomingOctetsWireLevel",
)
DENIAL = "websocket.http.response"
DEFAULT_LIMIT = 1_048_576
"""Size in bytes of the largest message, unless daphne was configured with another."""
UNREAD_MESSAGES = 32
"""Unread messages at which reading from the socket pauses."""
UNREAD_BYTES = 65_536
"""Bytes of unread messages at which reading from the socket pauses."""
LINGER = 2
"""Seconds that a peer that broke the protocol or sent too much gets to read why it is cut off."""
REFUSED = 1008
"""The close code that observers see for a refusal (RFC 6455 section 7.4.1)."""
CLOSE_TIMEOUT = 10
"""Seconds that a peer gets to take our close frame and the data before it; autobahn allows one second."""


def recognise(scope: Scope, receive: Receive, send: Send) -> DaphneWire | None:
    """The wire for this connection, ``None`` when ``send`` is not daphne's own."""
    protocol = send.args[0] if isinstance(send, partial) and send.args else None
    if not any(base.__module__ == "daphne.ws_protocol" for base in type(protocol).__mro__):
        return None
    if lacks(protocol, NEEDS, "daphne"):
        return None
    # daphne offers no extensions; this wire adds the one for refusing with an HTTP response.
    scope["extensions"] = {**(scope.get("extensions") or {}), DENIAL: {}}
    _give_time(protocol)
    return DaphneWire(protocol, receive, send)


def _give_time(protocol: Any) -> None:
    """Let the application take as long to accept as daphne's own timeout and ours allow.

    autobahn allows five seconds for the whole handshake, then resets the connection. The timeout is
    meant for the peer, which has already sent its whole request.
    """
    # Set to None as well, because autobahn cancels whatever timer it finds when the connection ends.
    timer, protocol.openHandshakeTimeoutCall = protocol.openHandshakeTimeoutCall, None
    if timer is not None:
        timer.cancel()


class DaphneWire(Wire):
    """Ready frames, backpressure in both directions, pings, any close code with its reason, refusals with a body.

    Args:
        protocol: daphne's protocol object of this connection.
        receive: its ``receive``.
        send: its ``send``.
    """

    __slots__ = (
        "_closed",
        "_outer",
        "_over",
        "_paused",
        "_receive",
        "_refusal",
        "_send",
        "_shadowed",
        "_transport_write",
        "_unread",
        "_unread_bytes",
        "protocol",
        "transport",
    )

    traits = TRAITS["daphne"]

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__()
        self.protocol = protocol
        self.transport = protocol.transport
        self._receive = receive
        self._send = send
        self._outer: Send | None = None
        self._transport_write = self.transport.write
        self._unread: deque[int] = deque()
        self._unread_bytes = 0
        self._paused = self._closed = self._over = False
        self._refusal: tuple[Event, bytes] | None = None
        self._shadowed: list[str] = []

    # Before and at the handshake.

    def peer_address(self) -> str | None:
        host = getattr(self.transport.getPeer(), "host", None)
        return str(host) if host else None

    def announce_to(self, send: Send) -> None:
        # A version without these methods still works, but observers see nothing of it.
        if all(hasattr(self.protocol, name) for name in ("serverAccept", "serverReject", "serverClose")):
            self._outer = send

    def take_over_keepalive(self) -> None:
        # daphne's keepalive would kill a healthy peer while we do not read.
        self.server_ping_interval = self.protocol.server.ping_interval
        self._shadow("_sendAutoPing", _nothing)

    def limit_message_size(self, limit: int) -> int | None:
        protocol = self.protocol
        # To autobahn, 0 means no limit.
        told = [own for own in (protocol.maxMessagePayloadSize, protocol.maxFramePayloadSize) if own]
        smallest = min(told, default=DEFAULT_LIMIT)
        # The default cannot be told from the same limit chosen by an operator, so it is raised in both cases.
        if smallest < limit and smallest != DEFAULT_LIMIT:
            return int(smallest)
        protocol.maxMessagePayloadSize = protocol.maxFramePayloadSize = limit
        return None

    def refuse_compression(self) -> bool:
        # Daphne never negotiates any.
        return True

    async def receive(self) -> Event:
        event = await self._receive()
        if event["type"] == "websocket.disconnect":
            return {**event, **self._how_it_ended()}
        if self._unread:
            self._unread_bytes -= self._unread.popleft()
            self._read_on()
        return event

    async def accept(self, event: Event) -> None:
        protocol = self.protocol
        # Set before the answer, because the first message may have come with the request.
        self._shadow("onMessage", self._on_message)
        if exceeded := getattr(protocol, "_max_message_size_exceeded", None):
            self._shadow("_max_message_size_exceeded", lambda *counts: exceeded(*counts[:2], MESSAGE_TOO_BIG.reason))
        self._shadow("onPong", lambda payload: self.on_pong(bytes(payload)))
        self._shadow("onClose", self._on_close)
        # By default autobahn drops TCP at a protocol error, echoes 1000 for whatever code the peer closed with, and
        # gives a peer one second to answer a close.
        protocol.failByDrop = False
        protocol.echoCloseCodeReason = True
        protocol.closeHandshakeTimeout = LINGER
        subprotocol = event.get("subprotocol")
        if subprotocol not in getattr(protocol, "websocket_protocols", [subprotocol]):
            # autobahn would raise an error that nobody sees, and never answer.
            subprotocol = None
        if self._outer is None:
            await self._send({**event, "subprotocol": _answer(subprotocol, event)})
        else:
            await self._accept_observed(self._outer, {**event, "subprotocol": subprotocol})
        if self.is_open():
            # Twisted's HTTP channel is still registered, although it is done with this connection.
            self.transport.unregisterProducer()
            # True makes it a push producer: Twisted then tells us when its buffer is full, and when it is empty again.
            self.transport.registerProducer(_Producer(self), True)
            if not self._paused:
                # If much data followed the request, the channel has paused reading, and nothing else would resume it.
                self.transport.resumeProducing()

    async def deny(self, event: Event) -> None:
        kind = event["type"]
        if kind == f"{DENIAL}.start":
            self._refusal = event, b""
        elif kind == f"{DENIAL}.body" and self._refusal is not None:
            start, body = self._refusal
            # The parts are collected, because the response is written in one piece, and TCP ends behind it.
            self._refusal = start, body + event.get("body", b"")
            if not event.get("more_body", False):
                await self._see_refusal()
                self._refuse(start["status"], start.get("headers") or (), self._refusal[1])
        else:
            await (self._outer or self._send)(event)

    # After it.

    def write(self, block: Block) -> None:
        if self.is_open():
            self._transport_write(block.frames())

    def send_at_once(self, message: Outgoing) -> bool:
        if not self.is_open():
            raise ConnectionResetError("the peer has left")
        self._transport_write(message.frame)
        return True

    def is_open(self) -> bool:
        return bool(self.protocol.state == self.protocol.STATE_OPEN)

    def buffered(self) -> int:
        return _unsent(self.transport)

    def reading_paused(self) -> bool:
        return self._paused

    def peer_left(self) -> bool:
        return peer_has_left(getattr(self.transport, "socket", None))

    def partial(self) -> int:
        return int(self.protocol.trafficStats.incomingOctetsWireLevel)

    def unfinished(self) -> int:
        protocol = self.protocol
        held = int(protocol.message_data_total_length) if protocol.inside_message else 0
        return held + len(protocol.data)

    def server_closed(self) -> bool:
        return bool(self.protocol.closedByMe) and not self._closed

    def ping(self, payload: bytes) -> bool:
        self.protocol.sendPing(payload)
        return True

    async def close(self, code: int, reason: str) -> None:
        protocol = self.protocol
        if protocol.state == protocol.STATE_CONNECTING:
            await (self._outer or self._send)({"type": "websocket.close", "code": code})
            return
        # Asked first, because the close frame ends this state.
        open_still = self.is_open()
        self._closed = True
        self._stop_delivering()
        protocol.closeHandshakeTimeout = CLOSE_TIMEOUT
        # autobahn's sendClose() accepts few codes, and daphne passes it no reason.
        protocol.sendCloseFrame(code=code, reasonUtf8=reason.encode(), isReply=False)
        if self._outer is not None and open_still:
            # The observers' event arrives at daphne in the end, which must not send a second close frame.
            self._shadow("serverClose", _ignore)
            await tell_of_close(self._outer, code, reason)

    def abort(self) -> None:
        self.transport.abortConnection()

    def detach(self) -> None:
        super().detach()
        self._stop_delivering()
        if self.protocol.state == self.protocol.STATE_CONNECTING and hasattr(self.protocol, "handshake_deferred"):
            # Daphne would leave the peer waiting.
            self._refuse(500, (), b"")

    # Inside.

    async def _accept_observed(self, send: Send, event: Event) -> None:
        """Accept by way of observers, who see what every server is told and may have added headers."""
        accept = self.protocol.serverAccept

        def answer(subprotocol: str | None = None) -> None:
            accept(_answer(subprotocol, event))

        self._shadow("serverAccept", answer)
        await send(event)

    async def _see_refusal(self) -> None:
        """Show observers the refusal, by the only event that daphne has for it."""
        if self._outer is not None:
            # daphne must not answer the event with its own 403: the response that follows is ours.
            self._shadow("serverReject", _ignore)
            await tell_of_close(self._outer, REFUSED, "")
            self.protocol.__dict__.pop("serverReject", None)

    def _refuse(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        protocol = self.protocol
        if protocol.state != protocol.STATE_CONNECTING:
            return
        # No other code may answer the handshake after this.
        del protocol.handshake_deferred
        protocol.sendData(_response(status, headers, body))
        protocol.wasNotCleanReason = f"refused with status {status}"
        protocol.dropConnection(abort=False)

    def _on_message(self, payload: bytes, is_binary: bool) -> None:
        if self._over:
            # Nobody reads daphne's queue any more, and it has no bound.
            return
        # By way of the class, because the method of this object is the one that runs now.
        type(self.protocol).onMessage(self.protocol, payload, is_binary)
        self._unread.append(len(payload))
        self._unread_bytes += len(payload)
        if not self._paused and (len(self._unread) >= UNREAD_MESSAGES or self._unread_bytes >= UNREAD_BYTES):
            self._paused = True
            self.transport.pauseProducing()

    def _on_close(self, clean: bool, code: int | None, reason: str | None) -> None:
        self.lost = True
        # Before the call below, which would otherwise find this method again.
        self._restore()
        self.protocol.onClose(clean, code, reason)
        self.on_lost()
        # A lost transport resumes no producer, so senders that wait for room are woken here.
        self.resume_writing()

    def _read_on(self) -> None:
        # At half of both marks, so that not every message stops and starts the reading.
        if self._paused and len(self._unread) * 2 <= UNREAD_MESSAGES and self._unread_bytes * 2 <= UNREAD_BYTES:
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._paused = False
        self.transport.resumeProducing()

    def _stop_delivering(self) -> None:
        """Stop delivering messages, but keep reading, to see the peer's answer to our close."""
        self._over = True
        if self._paused:
            self._resume_reading()

    def _how_it_ended(self) -> dict[str, Any]:
        """The close code and reason; daphne itself reports only the code, and ``None`` if there was none."""
        protocol = self.protocol
        if self.server_closed():
            return {"code": int(protocol.localCloseCode), "reason": (protocol.localCloseReason or b"").decode()}
        if protocol.wasClean:
            return {"code": protocol.remoteCloseCode or 1005, "reason": protocol.remoteCloseReason or ""}
        return {"code": 1006}

    # Called by the transport.

    def pause_writing(self) -> None:
        """The buffer of the transport is above its high-water mark."""
        self.writable = False
        self.on_blocked()

    def resume_writing(self) -> None:
        """The buffer of the transport is empty, or the connection is over."""
        self.writable = True
        self.on_writable()

    # A method of the instance hides the method of its class; deleting it brings that back.

    def _shadow(self, name: str, method: Any) -> None:
        setattr(self.protocol, name, method)
        self._shadowed.append(name)

    def _restore(self) -> None:
        for name in self._shadowed:
            self.protocol.__dict__.pop(name, None)
        self._shadowed.clear()


class _Producer:
    """An ``IPushProducer`` of Twisted, which is told when the transport is full and when it is empty again."""

    def __init__(self, wire: DaphneWire) -> None:
        self.pauseProducing = wire.pause_writing
        self.resumeProducing = wire.resume_writing
        self.stopProducing = _nothing


def _answer(subprotocol: str | None, event: Event) -> tuple[str | None, dict[str, list[str]]]:
    """What autobahn's onConnect may answer: a subprotocol, or this pair."""
    return subprotocol, _texts(event.get("headers") or ())


def _response(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    lines += [name + b": " + value for name, value in map(_checked, headers)]
    return b"\r\n".join([*lines, b"", body])


def _texts(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """Headers as autobahn takes them."""
    texts: dict[str, list[str]] = {}
    for name, value in map(_checked, headers):
        texts.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return texts


def _checked(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A header that is one line: autobahn writes whatever it is given."""
    name, value = bytes(header[0]), bytes(header[1])
    if b"\r" in name + value or b"\n" in name + value:
        raise ValueError(f"header {name!r}: must not contain line breaks")
    return name, value


def _unsent(transport: Any) -> int:
    """Bytes in a transport, and in the one below it over TLS."""
    # Twisted sends from a byte string, of which ``offset`` bytes have left, and collects later writes in a list.
    held = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    held += getattr(transport, "_tempDataLen", 0)
    if "_appSendBuffer" in getattr(transport, "__dict__", ()):
        # Only the TLS transport has this list; what is encrypted already waits in the transport below it.
        held = sum(map(len, transport._appSendBuffer)) + _unsent(transport.transport)
    return held


def _nothing() -> None:
    pass


def _ignore(code: int | None = None) -> None:
    pass
