"""Many cheap WebSocket clients in one process of their own.

`Crowd` starts the process and speaks to it in JSON lines; run as a module this
file is that process. It counts messages and bytes without keeping them, answers
pings (frames, and messages that are heartbeats), notes close frames and what
came after them, and can read nothing from some clients from the start. SIGSTOP
makes all of its clients half-open at once.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .frames import BINARY, CLOSE, PING, PONG, TEXT, Frame, close_payload, read_header
from .handshake import parse_answer, request

__all__ = ["Crowd"]

ROOT = Path(__file__).parents[2]

SMALL = 125
"""The longest payload that is looked into: control frames have at most this length (RFC 6455 section 5.5)."""
BEAT = b'{"type":"ping"'
"""How a heartbeat message begins."""


class Crowd:
    """A process with many clients.

    Args:
        address: host and port of the server.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crowd", address[0], str(address[1])],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def open(self, path: str, count: int, *, stalled: int = 0, headers: dict[str, str] | None = None) -> list[int]:
        """Open clients, all handshakes at once.

        Args:
            path: request target; ``{i}`` is the number of the client.
            count: how many.
            stalled: this many of them, the first ones, never read after their handshake.
            headers: more headers of the handshake.

        Returns:
            The HTTP status that each got, 0 for no answer.
        """
        return list(self._ask(do="open", path=path, count=count, stalled=stalled, headers=headers or {}))

    def report(self) -> list[dict[str, Any]]:
        """Each client's counts: messages, bytes, pings, code, reason, at, after_close, ended."""
        return list(self._ask(do="report"))

    def send(self, text: str, times: int = 1) -> None:
        """Each client sends a text this many times."""
        self._ask(do="send", text=text, times=times)

    def leave(self, how: str) -> None:
        """All clients leave: ``close``, ``fin`` or ``rst``."""
        self._ask(do="leave", how=how)

    def _ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Client:
    """One client: its socket and what came through it."""

    def __init__(self, number: int, reads: bool) -> None:
        self.number = number
        self.reads = reads
        self.socket = socket.socket()
        self.status = 0
        self.head = b""
        self.carry = b""
        self.skip = 0
        self.messages = self.bytes = self.pings = self.after_close = 0
        self.code: int | None = None
        self.reason = ""
        self.at = 0.0
        self.ended = ""

    def facts(self) -> dict[str, Any]:
        """The values that are reported."""
        names = ("status", "messages", "bytes", "pings", "code", "reason", "at", "after_close", "ended")
        return {name: getattr(self, name) for name in names}

    def begin(self, address: tuple[str, int], path: str, headers: dict[str, str]) -> None:
        """Connect and send the handshake."""
        if not self.reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(address)
        handshake = request(path.replace("{i}", str(self.number)), f"{address[0]}:{address[1]}", headers.items())
        self.socket.sendall(handshake)
        self.socket.setblocking(False)

    def take(self) -> bool:
        """Read what is there, and return whether more may come."""
        try:
            data = self.socket.recv(262144)
        except BlockingIOError:
            return True
        except OSError:
            data, self.ended = b"", "rst"
        if data:
            self.digest(data)
            return True
        self.ended = self.ended or "fin"
        self.at = self.at or time.monotonic()
        self.greet(b"", ended=True)
        return False

    def digest(self, data: bytes) -> None:
        """Count what these bytes hold."""
        if self.status == 0:
            data = self.greet(data, ended=False)
        if self.skip >= len(data):
            self.skip -= len(data)
            return
        view = self.carry + data[self.skip :] if self.carry else data[self.skip :]
        self.skip = 0
        self.carry = self.count(view)

    def greet(self, data: bytes, ended: bool) -> bytes:
        """Read the answer to the handshake, and return what follows it."""
        self.head += data
        answer = parse_answer(self.head, ended) if self.status == 0 else None
        if answer is None:
            return b""
        self.status, self.head = answer.status, b""
        return answer.rest if answer.status == 101 else b""

    def count(self, view: bytes) -> bytes:
        """Count the frames in these bytes, and return the rest: an incomplete header or small frame."""
        position = 0
        while (header := read_header(view[position : position + 10])) is not None:
            start, length = position + header[0], header[1]
            opcode = view[position] & 15
            end = start + length
            if length <= SMALL and end > len(view):
                break
            self.note(opcode, length, view[start:end] if length <= SMALL else b"")
            position = end
            if end > len(view):
                self.skip = end - len(view)
                return b""
        return view[position:]

    def note(self, opcode: int, length: int, payload: bytes) -> None:
        """Count one frame and answer it where that is due."""
        self.after_close += self.code is not None
        if opcode in (TEXT, BINARY):
            self.messages += 1
            self.bytes += length
            if payload.startswith(BEAT):
                self.pings += 1
                self.say(Frame(TEXT, b"pong"))
        elif opcode == PING:
            self.pings += 1
            self.say(Frame(PONG, payload))
        elif opcode == CLOSE:
            frame = Frame(CLOSE, payload)
            self.code, self.reason, self.at = frame.code, frame.reason, time.monotonic()
            self.say(Frame(CLOSE, payload[:2]))

    def say(self, frame: Frame, times: int = 1) -> None:
        """Send a frame, if the connection still stands."""
        self.socket.setblocking(True)
        try:
            self.socket.sendall(frame.encode() * times)
        except OSError:
            pass
        finally:
            self.socket.setblocking(False)

    def leave(self, how: str) -> None:
        """End the connection."""
        if how == "close":
            self.say(Frame(CLOSE, close_payload(1000)))
            return
        if how == "rst":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Process:
    """The process: its clients and the commands that come in."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.clients: list[Client] = []
        self.selector = selectors.DefaultSelector()
        self.selector.register(0, selectors.EVENT_READ)

    def run(self) -> None:
        """Read from clients and obey until standard input ends."""
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    line = os.read(0, 65536)
                    if not line:
                        return
                    answer = self.obey(json.loads(line))
                    os.write(1, json.dumps(answer).encode() + b"\n")
                else:
                    self.read(key.data)

    def obey(self, command: dict[str, Any]) -> Any:
        """Carry out one command."""
        do = command.pop("do")
        if do == "open":
            return self.open(**command)
        if do == "report":
            return [client.facts() for client in self.clients]
        for client in self.clients:
            if do == "send":
                client.say(Frame(TEXT, command["text"].encode()), command["times"])
            elif client.ended == "":
                self.forget(client, command["how"])
        return None

    def open(self, path: str, count: int, stalled: int, headers: dict[str, str]) -> list[int]:
        """Open clients and wait for all their answers."""
        new = [Client(len(self.clients) + number, number >= stalled) for number in range(count)]
        self.clients += new
        for client in new:
            client.begin(self.address, path, headers)
            self.selector.register(client.socket, selectors.EVENT_READ, client)
        deadline = time.monotonic() + 60
        while any(client.status == 0 and not client.ended for client in new) and time.monotonic() < deadline:
            for key, _ in self.selector.select(1):
                if key.data is not None:
                    self.read(key.data)
        return [client.status for client in new]

    def read(self, client: Client) -> None:
        """Let a client read, and stop watching one that has ended or is never to read again."""
        more = client.take()
        if not more or (client.status == 101 and not client.reads):
            self.selector.unregister(client.socket)
        if not more:
            client.socket.close()

    def forget(self, client: Client, how: str) -> None:
        """Make a client leave; one that closes properly goes on reading."""
        if how != "close" and client.reads:
            self.selector.unregister(client.socket)
            client.ended = how
        client.leave(how)


if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Process((sys.argv[1], int(sys.argv[2]))).run()
