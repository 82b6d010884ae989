"""The wire to a uvicorn protocol object: frames go straight to its transport.

Recognised by the ``send`` that uvicorn passes to the application, for its three WebSocket
implementations. Frames are written next to uvicorn's own protocol state: server frames carry no
mask and no sequence, so only the closing handshake has to stay uvicorn's, and it does: `close`
goes through uvicorn's own ``send``.

What is private in uvicorn and used here, each looked for at recognition (one missing: the plain
ASGI wire, and one line in the log). Tried with uvicorn 0.46 to 0.54.

===========================  ==============================================================
all                          ``transport``, ``pause_writing``, ``resume_writing``,
                             ``connection_lost``, ``ping_interval``
websockets-sansio            ``conn.max_message_size`` (or ``max_size``), ``conn.extensions``,
                             ``response.headers``, ``handle_pong``, ``handle_parser_exception``,
                             ``handle_events``, ``handle_ping``,
                             ``send_receive_event_to_app``, ``queue``, ``writable``, ``read_paused``
wsproto                      ``conn.connection._proto.extensions``, ``config``, ``buffer.max_length``,
                             ``handle_pong``, ``queue``, ``writable``, ``read_paused``
websockets (deprecated)      ``state``, ``pings``, ``max_size``, ``extensions``,
                             ``available_extensions``, ``handshake_completed_event``
===========================  ==============================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from functools import cache
from typing import Any, cast

from ..types import Event, Receive, Scope, Send
from .base import Transport, lacks, nothing_comes, nothing_goes
from .deflate import Deflate, without_takeover
from .lean import make_lean
from .traits import TRAITS
from .transport import DEPARTED, LINGER, TransportWire, observed
from .wsproto import bound_inflating, undecoded, window_bits

__all__ = ["UvicornWire", "recognise"]

EXTENSIONS = "Sec-WebSocket-Extensions"
EXTENSION = "wsstab.protocol"
"""Key in ``scope["extensions"]`` under which `Protocol` shows itself through other middleware."""


def recognise(scope: Scope, receive: Receive, send: Send) -> UvicornWire | None:
    """The wire for this connection, ``None`` when ``send`` is not uvicorn's own."""
    extensions = scope.get("extensions") or {}
    protocol = extensions.get(EXTENSION) or getattr(send, "__self__", None)
    protocol_class = type(protocol)
    wire_class = _complete.get(protocol_class)
    if wire_class is None:
        module = _implementation(protocol_class)
        wire_class = IMPLEMENTATIONS.get(module)
        if wire_class is None or lacks(protocol, wire_class.needs, module):
            return None
        _complete[protocol_class] = wire_class
    if EXTENSION in extensions:
        receive, send = wire_class.callables(protocol)
    return wire_class(protocol, receive, send)


def _implementation(protocol_class: type) -> str:
    for base in protocol_class.__mro__:
        if base.__module__.startswith("uvicorn.protocols.websockets."):
            return base.__module__.rpartition(".")[2]
    return ""


class UvicornWire(TransportWire):
    """What the three implementations have in common.

    Args:
        protocol: uvicorn's protocol object of this connection.
        receive: its ``receive``.
        send: its ``send``.
    """

    __slots__ = ("_closed", "_send", "protocol", "receive", "takes_over")

    receive: Receive

    needs: tuple[str, ...] = ("transport", "pause_writing", "resume_writing", "connection_lost", "ping_interval")
    traits = TRAITS["uvicorn websockets-sansio"]

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol.transport, protocol)
        self.protocol = protocol
        self.takes_over = self._closed = False
        # The server's own: nothing to go through, and no coroutine of ours for each idle connection.
        self.receive = receive
        self._send = send

    @staticmethod
    def callables(protocol: Any) -> tuple[Receive, Send]:
        """The server's own ``receive`` and ``send``."""
        return protocol.receive, protocol.send

    # Before and at the handshake.

    def take_over_keepalive(self) -> None:
        # With one message unread uvicorn would kill a healthy peer.
        self.server_ping_interval = self.protocol.ping_interval
        self.protocol.ping_interval = None
        self.takes_over = True

    async def accept(self, event: Event) -> None:
        await self._send(event)
        self._attach()

    def _attach(self) -> None:
        self.attach()
        self.deflates = self.deflate(self._negotiated_bits())

    async def deny(self, event: Event) -> None:
        await self._send(event)

    # After it.

    def shortcut(self) -> tuple[Transport, Deflate | None] | None:
        return self.transport, self.deflates

    def is_open(self) -> bool:
        # Not the protocol's `close_sent`: when uvicorn itself sets that, it closes the transport too.
        return not self._closed and not self.transport.is_closing()

    def reading_paused(self) -> bool:
        return bool(getattr(self.protocol, "read_paused", False))

    async def close(self, code: int, reason: str) -> None:
        # Its own send() would wait behind a stalled peer. The frame goes behind what is buffered.
        self.protocol.writable.set()
        self._closed = True
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def let_go(self) -> None:
        super().let_go()
        self._closed = True
        self.protocol = DEPARTED
        self.receive, self._send = nothing_comes, nothing_goes

    def _negotiated_bits(self) -> int:
        raise NotImplementedError


class SansioWire(UvicornWire):
    """``--ws websockets-sansio``, the default."""

    __slots__ = ("_failing", "_last_frame")

    needs = (
        *UvicornWire.needs,
        "conn",
        "response",
        "queue",
        "writable",
        "handle_pong",
        "handle_parser_exception",
        "handle_events",
        "handle_ping",
        "send_receive_event_to_app",
    )

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol, receive, send)
        self._failing = False
        self._last_frame = b""
        make_lean(protocol)

    async def close(self, code: int, reason: str) -> None:
        if self._failing:
            self._fail()
        else:
            await super().close(code, reason)

    def limit_message_size(self, limit: int) -> int | None:
        name = "max_message_size" if hasattr(self.protocol.conn, "max_message_size") else "max_size"
        return _lower(self.protocol.conn, name, limit)

    def refuse_compression(self) -> bool:
        # uvicorn negotiated already, but has not sent its answer. The old list goes with its compressors.
        self.protocol.conn.extensions = []
        self.protocol.response.headers.pop(EXTENSIONS, None)
        return True

    def refuse_context_takeover(self) -> bool:
        # The old extension goes, and its compressor and inflater with it.
        self.protocol.conn.extensions = [without_contexts(each) for each in self.protocol.conn.extensions]
        headers = self.protocol.response.headers
        answer = headers.get(EXTENSIONS)
        if answer is not None:
            del headers[EXTENSIONS]
            headers[EXTENSIONS] = without_takeover(answer)
        return True

    def _negotiated_bits(self) -> int:
        return _window_bits(self.protocol.conn.extensions)

    @staticmethod
    def observing(protocol_class: Any) -> Any:
        return observed_sansio(protocol_class)

    def fail_gently(self) -> None:
        """Tell the peer why, and go on discarding what it sends for a while.

        uvicorn closes the transport at once; with data unread the kernel then answers with a reset,
        which destroys the close frame on its way (RFC 6455 section 7.1.1 warns of it). It also forgets the
        messages that came before in the same segment: here the handler gets them, and answers in this turn of
        the loop; the close frame is written in the next.
        """
        protocol = self.protocol
        if self._failing or protocol.close_sent:
            return
        self._failing = True
        frames = [data for data in protocol.conn.data_to_send() if data]
        self._last_frame = frames.pop() if frames else b""
        protocol.transport.write(b"".join(frames))
        if protocol.conn.parser_exc is not None:
            # What the parser found before; a text among it may be no UTF-8, which would fail what has failed.
            with contextlib.suppress(Exception):
                protocol.handle_events()
        # What comes after is discarded.
        protocol.close_sent = True
        protocol.loop.call_soon(self._fail)

    def _fail(self) -> None:
        protocol = self.protocol
        if self._closed:
            return
        close = protocol.conn.close_sent
        protocol.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        protocol.transport.write(self._last_frame)
        self._closed = True
        # Nothing may follow the close frame, by the shortcut either: have the sender look again.
        self.on_writable()
        if protocol.transport.can_write_eof():
            # So the peer need not wait for us, and what it still sends meets a socket that reads.
            protocol.transport.write_eof()
        protocol.close_timer = protocol.loop.call_later(LINGER, protocol.transport.close)
        if protocol.read_paused:
            protocol.read_paused = False
            protocol.transport.resume_reading()

    def partial(self) -> int:
        if self.protocol is DEPARTED:
            return 0
        connection = self.protocol.conn
        return len(connection.reader.buffer) + (getattr(connection, "current_size", 0) or 0)

    def server_closed(self) -> bool:
        if self.protocol is DEPARTED:
            return False
        return self.protocol.conn.close_sent is not None and self.protocol.conn.close_rcvd is None


class WsprotoWire(UvicornWire):
    """``--ws wsproto``."""

    __slots__ = ()

    traits = TRAITS["uvicorn wsproto"]

    needs = (*UvicornWire.needs, "conn", "config", "buffer", "queue", "writable", "handle_pong")

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol, receive, send)
        make_lean(protocol)

    def limit_message_size(self, limit: int) -> int | None:
        return _lower(self.protocol.buffer, "max_length", limit)

    def refuse_compression(self) -> bool:
        config = self.protocol.config
        plain = getattr(config, "_wsstab_plain", None)
        if plain is None:
            # One copy for all connections of this server: the switch is only in the configuration.
            plain = config._wsstab_plain = copy.copy(config)
            plain.ws_per_message_deflate = False
        self.protocol.config = plain
        return True

    def refuse_context_takeover(self) -> bool:
        connection = self.protocol.conn
        send = connection.send

        def send_answer(event: Any) -> Any:
            # uvicorn makes the extension while it answers, so this is the only moment to speak to it.
            del connection.send
            for extension in getattr(event, "extensions", ()):
                if getattr(extension, "name", "") == "permessage-deflate":
                    extension.server_no_context_takeover = extension.client_no_context_takeover = True
            return send(event)

        connection.send = send_answer
        return True

    def _attach(self) -> None:
        super()._attach()
        buffer = self.protocol.buffer
        bound_inflating(getattr(self.protocol.conn, "connection", None), lambda: buffer.max_length - buffer.length)

    def _negotiated_bits(self) -> int:
        return window_bits(getattr(self.protocol.conn, "connection", None))

    @staticmethod
    def observing(protocol_class: Any) -> Any:
        return observed_wsproto(protocol_class)

    def partial(self) -> int:
        if self.protocol is DEPARTED:
            return 0
        return undecoded(getattr(self.protocol.conn, "connection", None)) + int(self.protocol.buffer.length)

    def server_closed(self) -> bool:
        return self.protocol is not DEPARTED and bool(self.protocol.close_sent)


class LegacyWire(UvicornWire):
    """``--ws websockets``, deprecated by uvicorn; in the ``auto`` of older versions still the default."""

    __slots__ = ("_closer", "_receive")

    traits = TRAITS["uvicorn websockets"]

    needs = (
        *UvicornWire.needs,
        "state",
        "pings",
        "max_size",
        "extensions",
        "available_extensions",
        "handshake_completed_event",
    )

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol, self._receive_with_reason, send)
        self._receive = receive

    @staticmethod
    def callables(protocol: Any) -> tuple[Receive, Send]:
        return protocol.asgi_receive, protocol.asgi_send

    def limit_message_size(self, limit: int) -> int | None:
        return _lower(self.protocol, "max_size", limit)

    def refuse_compression(self) -> bool:
        # The handshake holds this very list and reads it after the application has accepted.
        self.protocol.available_extensions.clear()
        return True

    def refuse_context_takeover(self) -> bool:
        for factory in self.protocol.available_extensions:
            if factory.name == "permessage-deflate":
                factory.server_no_context_takeover = factory.client_no_context_takeover = True
        return True

    async def accept(self, event: Event) -> None:
        await self._send(event)
        # That only lets the handshake go on; a frame written before its answer would destroy it.
        await self.protocol.handshake_completed_event.wait()
        self._attach()
        reading = getattr(self.protocol, "transfer_data_task", None)
        if reading is not None:
            reading.add_done_callback(self._nothing_more)

    async def _receive_with_reason(self) -> Event:
        event = await self._receive()
        if event["type"] == "websocket.disconnect" and self.server_closed():
            # It closed by itself (a message too large, say), and tells only 1006.
            close = self.protocol.close_sent
            return {**event, "code": int(close.code), "reason": close.reason}
        return event

    def let_go(self) -> None:
        # Its protocol is still asked when its tasks end, which is later.
        pass

    def partial(self) -> int:
        return len(getattr(self.protocol.reader, "_buffer", b""))

    def server_closed(self) -> bool:
        return self.protocol.close_sent is not None and self.protocol.close_rcvd is None

    def _nothing_more(self, reading: asyncio.Future[None]) -> None:
        """End the TCP connection when the peer has closed.

        A server should be the first to (RFC 6455 section 7.1.1). This implementation waits for the
        peer, and its ``recv()`` with it: a handler would learn up to 10 s late.
        """
        if self.protocol.close_rcvd is not None:
            self.transport.close()
        else:
            asyncio.get_running_loop().call_later(LINGER, self.transport.close)

    def shortcut(self) -> tuple[Transport, Deflate | None] | None:
        # It may send its close while its transport stays open.
        return None

    def is_open(self) -> bool:
        return not self._closed and self.protocol.state == 1 and not self.transport.is_closing()

    def ping(self, payload: bytes) -> bool:
        if not self.is_open():
            return True
        pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        pong.add_done_callback(lambda done: done.cancelled() or done.exception() or self.on_pong(payload))
        # ping() itself would wait behind a stalled peer.
        self.protocol.pings[payload] = (pong, time.perf_counter())
        return super().ping(payload)

    async def close(self, code: int, reason: str) -> None:
        event = {"type": "websocket.close", "code": code, "reason": reason}
        # Its close() returns when the TCP connection has ended, up to 20 s later; the frame is what counts.
        self._closer = asyncio.ensure_future(self._send(event))
        self._closer.add_done_callback(lambda done: done.cancelled() or done.exception())
        while self.protocol.state == 1 and not self._closer.done():
            await asyncio.sleep(0)

    def _negotiated_bits(self) -> int:
        return _window_bits(self.protocol.extensions)


IMPLEMENTATIONS: dict[str, type[UvicornWire]] = {
    "websockets_sansio_impl": SansioWire,
    "wsproto_impl": WsprotoWire,
    "websockets_impl": LegacyWire,
}
_complete: dict[type, type[UvicornWire]] = {}
"""The wires of protocol classes that had all that is needed, and of which each object has it."""


@cache
def observed_sansio(protocol_class: Any) -> Any:
    """The same for the default implementation: pongs, and a failure that the peer can read the reason of."""

    class Observed(observed(protocol_class)):  # type: ignore[misc]
        def handle_pong(self, event: Any) -> None:
            if self.wsstab_wire.takes_over:
                self.wsstab_wire.on_pong(bytes(event.data))
            else:
                super().handle_pong(event)

        def handle_ping(self) -> None:
            if self.wsstab_wire.is_open():
                super().handle_ping()
            else:
                # No pong behind a close frame, nor where our side has said its end.
                self.conn.data_to_send()

        def send_receive_event_to_app(self) -> None:
            # Older versions of uvicorn hand on what comes after a failure.
            if not self.close_sent:
                super().send_receive_event_to_app()

        def handle_parser_exception(self) -> None:
            self.wsstab_wire.fail_gently()

    Observed.__name__, Observed.__qualname__ = protocol_class.__name__, protocol_class.__qualname__
    return Observed


@cache
def observed_wsproto(protocol_class: Any) -> Any:
    """The same for wsproto: pongs."""

    class Observed(observed(protocol_class)):  # type: ignore[misc]
        def handle_pong(self, event: Any) -> None:
            if self.wsstab_wire.takes_over:
                self.wsstab_wire.on_pong(bytes(event.payload))
            else:
                super().handle_pong(event)

    Observed.__name__, Observed.__qualname__ = protocol_class.__name__, protocol_class.__qualname__
    return Observed


def _lower(owner: Any, name: str, limit: int) -> int | None:
    current: int | None = getattr(owner, name)
    if current is not None and current < limit:
        return current
    setattr(owner, name, limit)
    return None


def without_contexts(extension: Any) -> Any:
    """The same extension of the websockets library, if it is permessage-deflate, with no context takeover."""
    if extension.name != "permessage-deflate":
        return extension
    bits = extension.remote_max_window_bits, extension.local_max_window_bits
    return type(extension)(True, True, *bits, extension.compress_settings)


def _window_bits(extensions: list[Any]) -> int:
    for extension in extensions:
        if extension.name == "permessage-deflate":
            return int(extension.local_max_window_bits)
    return 0


def __getattr__(name: str) -> Any:
    """``uvicorn --ws wsstab.wires.uvicorn:Protocol``, made when asked for: uvicorn is an extra."""
    if name != "Protocol":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    class Protocol(WebSocketsSansIOProtocol):
        """uvicorn's default implementation, found by the middleware even behind others."""

        def handle_connect(self, event: Any) -> None:
            super().handle_connect(event)
            if hasattr(self, "scope"):
                # The application's task has not started yet.
                extensions: dict[str, Any] = cast("dict[str, Any]", self.scope)["extensions"]
                extensions[EXTENSION] = self

    globals()[name] = Protocol
    return Protocol
