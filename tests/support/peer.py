"""A raw WebSocket client that does exactly what it is told.

It blocks, keeps no thread and answers pings only while it is asked to read
(and then only when it may). Each frame that arrived is kept in ``frames``,
including those after a close frame. It can stop reading, vanish by FIN, RST or
in silence, and send frames that no correct client would.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from .frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, FrameParser, close_payload
from .handshake import Answer, Denied, Vanished, parse_answer, request

__all__ = ["Denied", "Peer", "Vanished"]

Address = tuple[str, int]

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time, which makes close() send RST."""


class Peer:
    """One WebSocket client.

    Args:
        address: host and port of the server.
        path: request target, with its query string.
        headers: more headers of the handshake.
        origin: value of the Origin header; ``None`` for a client that is not a browser.
        subprotocols: offered in this order.
        extensions: value of Sec-WebSocket-Extensions; ``None`` offers nothing.
        receive_buffer: bytes of SO_RCVBUF; small for a client that is to stall.
        tls: context for a TLS connection.
        answer_pings: whether pings are answered while reading.
        within: seconds for the handshake.
        early: bytes that go into the same packet, behind the handshake.
        meanwhile: called when the handshake is sent, before its answer is read.

    Raises:
        Denied: the server refused, with its HTTP answer.
        Vanished: the server ended the connection without an answer.
    """

    def __init__(
        self,
        address: Address,
        path: str = "/",
        *,
        headers: Iterable[tuple[str, str]] = (),
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        extensions: str | None = None,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        answer_pings: bool = True,
        within: float = 10.0,
        early: bytes = b"",
        meanwhile: Callable[[Peer], object] | None = None,
    ) -> None:
        self.frames: list[Frame] = []
        self.answer_pings = answer_pings
        self.parser = FrameParser()
        self.inflater = zlib.decompressobj(-15)
        self.socket = open_socket(address, receive_buffer, tls, within)
        extra = [*headers, *([("Origin", origin)] if origin is not None else [])]
        try:
            self.send_raw(request(path, f"{address[0]}:{address[1]}", extra, subprotocols, extensions) + early)
            if meanwhile is not None:
                meanwhile(self)
            self.answer = self._read_answer(within)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.vanish()

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server selected."""
        return self.answer.header("sec-websocket-protocol")

    @property
    def extensions(self) -> str | None:
        """The extensions that the server selected."""
        return self.answer.header("sec-websocket-extensions")

    # Sending

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def send(self, message: str | bytes) -> None:
        """Send a message in one frame."""
        text = isinstance(message, str)
        self.send_frame(TEXT if text else BINARY, message.encode() if isinstance(message, str) else message)

    def send_fragments(self, opcode: int, *pieces: bytes) -> None:
        """Send one message in several frames (RFC 6455 section 5.4)."""
        for index, piece in enumerate(pieces):
            self.send_frame(CONTINUATION if index else opcode, piece, fin=index == len(pieces) - 1)

    def send_frame(self, opcode: int, payload: bytes = b"", fin: bool = True, reserved: int = 0) -> None:
        """Send one frame, valid or not."""
        self.send_raw(Frame(opcode, payload, fin, reserved).encode())

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping."""
        self.send_frame(PING, payload)

    def pong(self, payload: bytes = b"") -> None:
        """Send a pong, asked for or not."""
        self.send_frame(PONG, payload)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame and go on."""
        self.send_frame(CLOSE, close_payload(code, reason))

    # Reading

    def next_frame(self, within: float = 5.0) -> Frame:
        """The next frame, of any kind.

        Raises:
            Vanished: the connection ended first.
            TimeoutError: nothing came in time.
        """
        deadline = time.monotonic() + within
        while (frame := self._parsed()) is None:
            self.parser.feed(self._read_some(deadline))
        return frame

    def receive(self, within: float = 5.0) -> str | bytes:
        """The next message, joined and inflated.

        Raises:
            Vanished: the connection ended first; a close frame counts, its code is in ``frames``.
            TimeoutError: nothing came in time.
        """
        deadline = time.monotonic() + within
        pieces = [self._next_data(deadline)]
        while not pieces[-1].fin:
            pieces.append(self._next_data(deadline))
        payload = b"".join(piece.payload for piece in pieces)
        data = self._inflate(payload) if pieces[0].reserved & 4 else payload
        return data.decode() if pieces[0].opcode == TEXT else data

    def receive_many(self, count: int, within: float = 10.0) -> list[str | bytes]:
        """This many messages."""
        deadline = time.monotonic() + within
        return [self.receive(deadline - time.monotonic()) for _ in range(count)]

    def receive_close(self, within: float = 5.0, reply: bool = True) -> Frame:
        """Read until the close frame.

        Args:
            within: seconds to wait.
            reply: whether the close frame is answered, as RFC 6455 section 5.5.1 asks for.
        """
        deadline = time.monotonic() + within
        while (frame := self.next_frame(deadline - time.monotonic())).opcode != CLOSE:
            pass
        if reply:
            self._send_quietly(Frame(CLOSE, frame.payload[:2]))
        return frame

    def read_until(self, condition: Callable[[list[Frame]], bool], within: float = 5.0) -> None:
        """Read until the frames that have arrived so far meet a condition."""
        deadline = time.monotonic() + within
        while not condition(self.frames):
            self.next_frame(deadline - time.monotonic())

    def read_for(self, seconds: float) -> list[Frame]:
        """Read for a while, or until the connection ends, and return what came."""
        before = len(self.frames)
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.next_frame(deadline - time.monotonic())
        except (TimeoutError, Vanished):
            return self.frames[before:]

    def ended(self, within: float = 5.0) -> str:
        """Read until the connection ends; ``fin`` or ``rst``."""
        deadline = time.monotonic() + within
        try:
            while True:
                self.next_frame(deadline - time.monotonic())
        except Vanished as gone:
            return gone.how

    def count(self, opcode: int) -> int:
        """How many frames of a kind arrived."""
        return sum(frame.opcode == opcode for frame in self.frames)

    def after_close(self) -> list[Frame]:
        """Frames that arrived after a close frame; there must be none (RFC 6455 section 5.5.1)."""
        closes = [index for index, frame in enumerate(self.frames) if frame.opcode == CLOSE]
        return self.frames[closes[0] + 1 :] if closes else []

    # Leaving

    def vanish(self, how: str = "fin") -> None:
        """End the TCP connection without a close frame.

        Args:
            how: ``fin`` or ``rst``. To leave in silence, do nothing, or stand behind a `Proxy`.
        """
        if how == "rst":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    # Inside

    def _read_answer(self, within: float) -> Answer:
        deadline, data = time.monotonic() + within, b""
        while (answer := parse_answer(data, ended=False)) is None:
            try:
                data += self._read_some(deadline)
            except Vanished:
                answer = parse_answer(data, ended=True)
                if answer is None:
                    raise
                break
        if answer.status != 101:
            raise Denied(answer)
        self.parser.feed(answer.rest)
        return answer

    def _read_some(self, deadline: float) -> bytes:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("nothing came in time")
        self.socket.settimeout(remaining)
        try:
            data = self.socket.recv(262144)
        except (ConnectionError, ssl.SSLEOFError) as error:
            raise Vanished("rst") from error
        if not data:
            raise Vanished("fin")
        return data

    def _parsed(self) -> Frame | None:
        frame = self.parser.next(time.monotonic())
        if frame is None:
            return None
        self.frames.append(frame)
        if frame.opcode == PING and self.answer_pings:
            self._send_quietly(Frame(PONG, frame.payload))
        return frame

    def _next_data(self, deadline: float) -> Frame:
        while (frame := self.next_frame(deadline - time.monotonic())).opcode > BINARY:
            if frame.opcode == CLOSE:
                raise Vanished(f"close {frame.code} {frame.reason}")
        return frame

    def _inflate(self, payload: bytes) -> bytes:
        if "server_no_context_takeover" in (self.extensions or ""):
            self.inflater = zlib.decompressobj(-15)
        return self.inflater.decompress(payload + b"\x00\x00\xff\xff")

    def _send_quietly(self, frame: Frame) -> None:
        try:
            self.send_raw(frame.encode())
        except OSError:
            pass


def open_socket(
    address: Address, receive_buffer: int | None, tls: ssl.SSLContext | None, within: float
) -> socket.socket:
    """A connected socket, its receive buffer set before the window is announced."""
    plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(within)
        plain.connect(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
    except BaseException:
        plain.close()
        raise
