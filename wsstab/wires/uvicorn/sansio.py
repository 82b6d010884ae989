"""The wire to ``--ws websockets-sansio``, the default of uvicorn."""

from __future__ import annotations

import contextlib
from typing import Any

from ...close import MESSAGE_TOO_BIG
from ...core.frames import close_frame
from ...types import Event, Receive, Send
from ..deflate import without_takeover
from ..lean import make_lean
from ..transport import DEPARTED, LINGER
from .base import ObservedUvicorn, UvicornWire, lower, window_bits

__all__ = ["SansioWire"]

EXTENSIONS = "Sec-WebSocket-Extensions"


class ObservedSansio(ObservedUvicorn):
    """Methods of a protocol object that lets the peer read why the connection fails."""

    def handle_ping(self) -> None:
        if self.wsstab_wire.is_open():
            self.wsstab_bare.handle_ping(self)
        else:
            # No pong may follow a close frame or the end of our side of the connection.
            self.conn.data_to_send()  # type: ignore[attr-defined]

    def send_receive_event_to_app(self) -> None:
        # Older versions of uvicorn hand on what comes after a failure.
        if not self.close_sent:  # type: ignore[attr-defined]
            self.wsstab_bare.send_receive_event_to_app(self)

    def handle_parser_exception(self) -> None:
        self.wsstab_wire.fail_gently()


class SansioWire(UvicornWire):
    """The implementation on the sans-I/O protocol of the websockets library."""

    __slots__ = ("_failing", "_last_frame")

    observer = ObservedSansio
    needs = (
        *UvicornWire.needs,
        "conn",
        "response",
        "queue",
        "handshake_complete",
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

    async def deny(self, event: Event) -> None:
        await super().deny(event)
        if event["type"] == "websocket.http.response.body" and not event.get("more_body", False):
            # uvicorn forgets to set this, and logs an error for each refusal: "returned without completing handshake".
            self.protocol.handshake_complete = True

    async def close(self, code: int, reason: str) -> None:
        if self._failing:
            self._fail()
        else:
            await super().close(code, reason)

    def limit_message_size(self, limit: int) -> int | None:
        # Newer versions of websockets limit fragments as well, and have renamed the limit of messages.
        name = "max_message_size" if hasattr(self.protocol.conn, "max_message_size") else "max_size"
        return lower(self.protocol.conn, name, limit)

    def refuse_compression(self) -> bool:
        # uvicorn has negotiated, but not sent its answer yet. The old list is freed along with its compressors.
        self.protocol.conn.extensions = []
        self.protocol.response.headers.pop(EXTENSIONS, None)
        return True

    def refuse_context_takeover(self) -> bool:
        # Replacing the old extension frees its compressor and inflater.
        self.protocol.conn.extensions = [without_contexts(each) for each in self.protocol.conn.extensions]
        headers = self.protocol.response.headers
        answer = headers.get(EXTENSIONS)
        if answer is not None:
            # Deleted first, because assigning to these headers adds a second line.
            del headers[EXTENSIONS]
            headers[EXTENSIONS] = without_takeover(answer)
        return True

    def _negotiated_bits(self) -> int:
        return window_bits(self.protocol.conn.extensions)

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
        # An empty string is the library's sign to end TCP; the last of the others is its close frame.
        frames = [data for data in protocol.conn.data_to_send() if data]
        self._last_frame = frames.pop() if frames else b""
        if protocol.conn.close_sent is not None and protocol.conn.close_sent.code == MESSAGE_TOO_BIG.code:
            # The library's own reason tells the peer how its frames were cut.
            self._last_frame = close_frame(MESSAGE_TOO_BIG.code, MESSAGE_TOO_BIG.reason)
        protocol.transport.write(b"".join(frames))
        if protocol.conn.parser_exc is not None:
            # Deliver the messages that the parser found before the error. If one of them is text that is not UTF-8,
            # uvicorn would fail the connection a second time.
            with contextlib.suppress(Exception):
                protocol.handle_events()
        # Data that comes after the failure is discarded.
        protocol.close_sent = True
        protocol.loop.call_soon(self._fail)

    def _fail(self) -> None:
        protocol = self.protocol
        if self._closed:
            return
        close = protocol.conn.close_sent
        protocol.queue.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        gone = protocol.transport.is_closing()
        if not gone:
            protocol.transport.write(self._last_frame)
        self._closed = True
        # Nothing may follow the close frame, not even by way of the shortcut: have the sender check `is_open` again.
        self.on_writable()
        if gone:
            # The peer has reset the connection since, and uvloop's transport then raises whatever method is called.
            return
        if protocol.transport.can_write_eof():
            # The peer then need not wait for us, and data it still sends reaches a socket that is read.
            # After a reset by the peer this raises, but the steps below are still needed.
            with contextlib.suppress(OSError, RuntimeError):
                protocol.transport.write_eof()
        # In uvicorn's own attribute: it cancels the timer when the connection is lost, and while it has one, it does
        # not end TCP when the application returns.
        protocol.close_timer = protocol.loop.call_later(LINGER, protocol.transport.close)
        # Unread data in the socket would make the kernel answer with a reset when TCP ends.
        if protocol.read_paused:
            protocol.read_paused = False
            protocol.transport.resume_reading()

    def partial(self) -> int:
        if self.protocol is DEPARTED:
            return 0
        connection = self.protocol.conn
        # The bytes of the frames so far of a fragmented message: ``cur_size`` in websockets 14, ``current_size`` since.
        frames = getattr(connection, "cur_size", None) or getattr(connection, "current_size", None) or 0
        return len(connection.reader.buffer) + int(frames)

    def server_closed(self) -> bool:
        if self.protocol is DEPARTED:
            return False
        return self.protocol.conn.close_sent is not None and self.protocol.conn.close_rcvd is None


def without_contexts(extension: Any) -> Any:
    """The same extension of the websockets library, if it is permessage-deflate, with no context takeover."""
    if extension.name != "permessage-deflate":
        return extension
    bits = extension.remote_max_window_bits, extension.local_max_window_bits
    return type(extension)(True, True, *bits, extension.compress_settings)
