"""A WebSocket client over HTTP/2 (RFC 8441): one connection, any number of streams.

It blocks, and answers pings only while it is asked to read.
"""

from __future__ import annotations

import socket
import time
from types import TracebackType
from typing import Any

import h2.config
import h2.connection
import h2.events

from .frames import CLOSE, PING, PONG, TEXT, Frame, FrameParser, close_payload
from .handshake import Vanished

__all__ = ["Http2Connection", "Http2Peer"]


class Http2Connection:
    """One TCP connection that speaks HTTP/2 from its first byte.

    Args:
        address: host and port of the server.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.protocol = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.protocol.initiate_connection()
        self.peers: dict[int, Http2Peer] = {}
        self.flush()

    def __enter__(self) -> Http2Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def connect(self, path: str, *, reads: bool = True) -> Http2Peer:
        """Open a WebSocket.

        Args:
            path: request target.
            reads: whether its data are acknowledged; else the server may send 64 KiB and no more.
        """
        number = self.protocol.get_next_available_stream_id()
        headers = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": path}
        headers |= {":authority": "localhost", "sec-websocket-version": "13"}
        self.protocol.send_headers(number, list(headers.items()))
        self.flush()
        peer = self.peers[number] = Http2Peer(self, number, reads)
        self.read(lambda: bool(peer.status), 10)
        return peer

    def flush(self) -> None:
        """Send the bytes that HTTP/2 has ready."""
        self.socket.sendall(self.protocol.data_to_send())

    def read(self, until: Any, within: float) -> None:
        """Read for all streams until a condition holds."""
        deadline = time.monotonic() + within
        while not until():
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.socket.recv(262_144)
            if not data:
                raise Vanished("fin")
            for event in self.protocol.receive_data(data):
                self.take(event)
            self.flush()

    def take(self, event: Any) -> None:
        """Handle one event of HTTP/2."""
        peer = self.peers.get(getattr(event, "stream_id", None) or 0)
        if peer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            peer.status = int(dict(event.headers)[b":status"])
        elif isinstance(event, h2.events.DataReceived):
            if peer.reads:
                self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                # The window of the connection, which its neighbours need too, stays open.
                self.protocol.increment_flow_control_window(event.flow_controlled_length)
            peer.fed(event.data)
        elif isinstance(event, h2.events.StreamReset):
            peer.ended = "reset"
        elif isinstance(event, h2.events.StreamEnded):
            peer.ended = "end"


class Http2Peer:
    """One WebSocket on an HTTP/2 connection.

    Args:
        connection: the connection that carries it.
        number: the number of its stream.
        reads: whether its data are acknowledged.
    """

    def __init__(self, connection: Http2Connection, number: int, reads: bool) -> None:
        self.connection, self.number, self.reads = connection, number, reads
        self.parser = FrameParser()
        self.frames: list[Frame] = []
        self.status = 0
        self.ended = ""
        self.answers_pings = True

    def fed(self, data: bytes) -> None:
        """Take bytes for this stream."""
        self.parser.feed(data)
        while (frame := self.parser.next(time.monotonic())) is not None:
            self.frames.append(frame)
            if frame.opcode == PING and self.answers_pings:
                self.say(Frame(PONG, frame.payload))

    def say(self, frame: Frame) -> None:
        """Send a frame."""
        self.connection.protocol.send_data(self.number, frame.encode())
        self.connection.flush()

    def send(self, text: str) -> None:
        """Send a text message."""
        self.say(Frame(TEXT, text.encode()))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Send a close frame."""
        self.say(Frame(CLOSE, close_payload(code, reason)))

    def wait(self, opcode: int, count: int = 1, within: float = 5.0) -> Frame:
        """Read until this many frames of a kind have arrived, and return the last of them."""
        self.connection.read(lambda: sum(frame.opcode == opcode for frame in self.frames) >= count, within)
        return [frame for frame in self.frames if frame.opcode == opcode][-1]

    def wait_for_end(self, within: float = 5.0) -> str:
        """Read until the stream has ended; ``end`` or ``reset``."""
        self.connection.read(lambda: self.ended, within)
        return self.ended
