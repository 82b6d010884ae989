"""The load: many WebSocket clients in one process, which count bytes and parse nothing.

The frames that a system will send are known, so a client knows by the number of bytes that it has had
all of them. One `recv_into` for each readable socket is all the work there is; how busy the process was
with it is reported, so that a slow client is not mistaken for a slow server.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

__all__ = ["Arrival", "Frames", "Swarm", "TimedOut", "frame_size", "masked"]

BUFFER = 262_144
"""Bytes that one recv may take."""
AT_ONCE = 200
"""Handshakes under way at a time."""
PATIENCE = 60.0
"""Seconds after which a scenario is given up."""


class TimedOut(Exception):
    """Not everything arrived in time."""


@dataclass
class Arrival:
    """How one broadcast arrived.

    Attributes:
        seconds: from the command to the last byte at the last client.
        times: seconds from the command until each client had everything, sorted.
        busy: part of that time in which this process worked, 0 to 1.
        received: bytes on the wire, where they were not known beforehand.
    """

    seconds: float
    times: list[float] = field(default_factory=list)
    busy: float = 0.0
    received: int = 0


class Frames:
    """Counts the frames of one stream, without looking into them.

    Args:
        left: how many frames are still to come.
    """

    __slots__ = ("_beginning", "_skip", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self._skip = 0
        self._beginning = b""

    def take(self, data: memoryview) -> bool:
        """Take what arrived, and return whether the last frame is complete.

        Raises:
            ConnectionError: something came after the last frame.
        """
        if self._beginning:
            data, self._beginning = memoryview(self._beginning + bytes(data)), b""
        while len(data):
            if not self._skip:
                length = frame_length(data)
                if length is None:
                    self._beginning = bytes(data)
                    return False
                self._skip = length
            if len(data) < self._skip:
                self._skip -= len(data)
                return False
            data = data[self._skip :]
            self._skip = 0
            self.left -= 1
        if self.left < 0:
            raise ConnectionError(f"{-self.left} frames too many")
        return self.left == 0


def frame_length(data: memoryview) -> int | None:
    """The length of a server's frame with its header; ``None`` while too little of the header is there."""
    header = (2, 4, 10)[max((data[1] & 0x7F) - 125, 0)] if len(data) > 1 else 11
    if len(data) < header:
        return None
    return header + (data[1] if header == 2 else int.from_bytes(data[2:header], "big"))


def split(stream: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames that a server's stream begins with, and the rest."""
    frames, view, start = list[bytes](), memoryview(stream), 0
    while (length := frame_length(view[start:])) is not None and start + length <= len(stream):
        frames.append(stream[start : start + length])
        start += length
    return frames, stream[start:]


class Swarm:
    """WebSocket clients of one server.

    Args:
        port: the port of the server, on 127.0.0.1.
        headers: more lines for each handshake, as ``Name: value``.
    """

    def __init__(self, port: int, headers: Iterable[str] = ()) -> None:
        self._port = port
        self._headers = "".join(f"{line}\r\n" for line in headers)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._receivers: dict[int, Callable[..., int]] = {}
        self._buffer = bytearray(BUFFER)

    def __len__(self) -> int:
        return len(self._sockets)

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self, path: str, count: int, *, receive_buffer: int | None = None) -> list[int]:
        """Open this many WebSockets, and return their descriptors.

        Raises:
            ConnectionError: a handshake was refused.
            TimedOut: a handshake took too long.
        """
        made: list[int] = []
        while len(made) < count:
            made += self._connect_some(path, min(AT_ONCE, count - len(made)), receive_buffer)
        return made

    def _connect_some(self, path: str, count: int, receive_buffer: int | None) -> list[int]:
        waiting: dict[int, bytes] = {}
        for _ in range(count):
            client = socket.socket()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.connect(("127.0.0.1", self._port))
            client.sendall(self._handshake(path))
            client.setblocking(False)
            fd = client.fileno()
            self._sockets[fd], self._receivers[fd] = client, client.recv_into
            self._poll.register(fd, select.EPOLLIN)
            waiting[fd] = b""
        made = list(waiting)
        until = time.monotonic() + PATIENCE
        while waiting:
            for fd, _ in self._poll.poll(0.5):
                if fd in waiting:
                    waiting[fd] += self._sockets[fd].recv(4096)
                    if b"\r\n\r\n" in waiting[fd]:
                        answer = waiting.pop(fd)
                        if not answer.startswith((b"HTTP/1.1 101", b"HTTP/1.0 101")):
                            raise ConnectionError(answer[:200].decode("latin-1"))
                    elif not waiting[fd]:
                        raise ConnectionError("closed in the handshake")
            if time.monotonic() > until:
                raise TimedOut(f"{len(waiting)} handshakes are not answered")
        return made

    def _handshake(self, path: str) -> bytes:
        key = base64.b64encode(os.urandom(16)).decode()
        return (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{self._headers}\r\n"
        ).encode()

    def send(self, fd: int, text: str) -> None:
        """Send a text message from one client."""
        self._sockets[fd].setblocking(True)
        self._sockets[fd].sendall(masked(text.encode()))
        self._sockets[fd].setblocking(False)

    def receive_text(self, fd: int, within: float = PATIENCE) -> str:
        """Receive one unfragmented text message of under 64 KiB for one client."""
        client = self._sockets[fd]
        client.setblocking(True)
        client.settimeout(within)
        try:
            header = self._exactly(client, 2)
            length = header[1] & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self._exactly(client, 2))
            return self._exactly(client, length).decode()
        finally:
            client.setblocking(False)

    def _exactly(self, client: socket.socket, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = client.recv(count - len(data))
            if not more:
                raise ConnectionError("the server closed")
            data += more
        return data

    def quiet(self, seconds: float = 0.05) -> None:
        """Discard greetings of a protocol and late frames, until nothing has arrived for this long."""
        while events := self._poll.poll(seconds):
            for fd, _ in events:
                if not self._receivers[fd](self._buffer):
                    raise ConnectionError("the server closed")

    def gather(self, command: Callable[[], None], expected: dict[int, int]) -> Arrival:
        """Give a command, and count until each of these clients has had its number of bytes.

        Args:
            command: makes the server send.
            expected: the number of bytes by descriptor.

        Raises:
            TimedOut: they did not come.
            ConnectionError: a client had more, or was closed.
        """
        remaining, left, buffer = dict(expected), len(expected), self._buffer
        receivers, poll, times, clock = self._receivers, self._poll.poll, list[float](), time.perf_counter
        cpu, began = time.process_time(), clock()
        command()
        while left:
            events = poll(PATIENCE)
            if not events:
                raise TimedOut(f"{left} of {len(expected)} clients wait for {sum(remaining.values())} bytes")
            for fd, _ in events:
                rest = remaining[fd] - receivers[fd](buffer)
                remaining[fd] = rest
                if rest == 0:
                    left -= 1
                    times.append(clock() - began)
                elif rest < 0:
                    raise ConnectionError(f"{-rest} bytes too many")
        seconds = clock() - began
        return Arrival(seconds, times, (time.process_time() - cpu) / seconds)

    def gather_frames(self, command: Callable[[], None], clients: Iterable[int], count: int) -> Arrival:
        """Give a command, and count until each of these clients has had this many frames of unknown sizes.

        Raises:
            TimedOut: they did not come.
            ConnectionError: a client had more.
        """
        streams = {fd: Frames(count) for fd in clients}
        left, times, view = len(streams), list[float](), memoryview(self._buffer)
        cpu, began, received = time.process_time(), time.perf_counter(), 0
        command()
        while left:
            events = self._poll.poll(PATIENCE)
            if not events:
                raise TimedOut(f"{left} of {len(streams)} clients wait for frames")
            for fd, _ in events:
                size = self._receivers[fd](self._buffer)
                received += size
                if streams[fd].take(view[:size]):
                    left -= 1
                    times.append(time.perf_counter() - began)
        seconds = time.perf_counter() - began
        return Arrival(seconds, times, (time.process_time() - cpu) / seconds, received)

    def echo(self, clients: list[int], payload: bytes, seconds: float) -> tuple[float, list[float], float]:
        """Each client sends, waits for its echo and sends again, for this many seconds.

        Returns:
            Echoes a second, the round trips in seconds, sorted, and how busy this process was.
        """
        message, size = masked(payload), frame_size(len(payload))
        sent_at, rest, trips = dict[int, float](), dict.fromkeys(clients, size), list[float]()
        clock, poll, receivers, buffer = time.perf_counter, self._poll.poll, self._receivers, self._buffer
        senders = {fd: self._sockets[fd].send for fd in clients}
        cpu, began = time.process_time(), clock()
        for fd in clients:
            sent_at[fd] = clock()
            senders[fd](message)
        until = began + seconds
        waiting = len(clients)
        while waiting:
            events = poll(PATIENCE)
            if not events:
                raise TimedOut(f"{waiting} clients wait for their echo")
            for fd, _ in events:
                rest[fd] -= receivers[fd](buffer)
                if rest[fd] == 0:
                    now = clock()
                    trips.append(now - sent_at[fd])
                    if now < until:
                        rest[fd], sent_at[fd] = size, now
                        senders[fd](message)
                    else:
                        waiting -= 1
        took = clock() - began
        return len(trips) / took, sorted(trips), (time.process_time() - cpu) / took

    def answer_pings(self, seconds: float) -> int:
        """Answer pings for this many seconds, and return how many there were. A ping is one short frame."""
        until, answered = time.perf_counter() + seconds, 0
        while (left := until - time.perf_counter()) > 0:
            for fd, _ in self._poll.poll(left):
                data = self._sockets[fd].recv(256)
                if not data:
                    self._poll.unregister(fd)
                elif data[0] == 0x89:
                    self._sockets[fd].send(masked(data[2 : 2 + data[1]], 0xA))
                    answered += 1
        return answered

    def leave_unread(self, count: int) -> None:
        """Read nothing any more from this many clients, the last ones."""
        for fd in list(self._sockets)[len(self._sockets) - count :]:
            self._poll.unregister(fd)

    def endings(self, clients: Iterable[int], within: float) -> tuple[float, int]:
        """Wait until the server has closed all of these.

        Returns:
            Seconds until the last one, and how many of them got a close frame.
        """
        left, rest, closed, began = set(clients), dict[int, bytes](), set[int](), time.perf_counter()
        until = began + within
        while left and time.perf_counter() < until:
            for fd, _ in self._poll.poll(0.2):
                if fd not in left:
                    continue
                try:
                    data = self._sockets[fd].recv(BUFFER)
                except ConnectionError:
                    data = b""
                if data:
                    frames, rest[fd] = split(rest.get(fd, b"") + data)
                    for close in [frame for frame in frames if frame[0] == 0x88 and fd not in closed]:
                        # Answer, as a client does, so that the server does not wait for us.
                        closed.add(fd)
                        self._sockets[fd].send(masked(close[2:4], 0x8))
                else:
                    left.discard(fd)
                    self._poll.unregister(fd)
        return time.perf_counter() - began, len(closed)

    def close(self) -> None:
        """Reset all connections at once, without close frames."""
        for client in self._sockets.values():
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        self._sockets.clear()
        self._receivers.clear()
        self._poll.close()
        self._poll = select.epoll()


def masked(payload: bytes, opcode: int = 0x1) -> bytes:
    """A client's frame; its mask is zero, so that masking costs nothing."""
    length = len(payload)
    if length < 126:
        header = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65536:
        header = struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
    else:
        header = struct.pack("!BBQ", 0x80 | opcode, 0xFF, length)
    return header + b"\x00\x00\x00\x00" + payload


def frame_size(payload: int) -> int:
    """The size of a server's frame with a payload of this size."""
    return payload + (2 if payload < 126 else 4 if payload < 65536 else 10)
