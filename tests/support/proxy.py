"""A TCP proxy between a client and a server that can lose, delay and cut.

One thread for each direction of each connection. While it swallows, both ends
keep their TCP connection and hear nothing from each other: half-open, as after
a pulled cable.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from types import TracebackType

__all__ = ["Proxy"]

Address = tuple[str, int]


class Proxy:
    """Forwards TCP connections.

    Args:
        target: the address that it forwards to.
        delay: seconds that each piece of data is held back, in either direction.
    """

    def __init__(self, target: Address, delay: float = 0.0) -> None:
        self.target = target
        self.delay = delay
        self.swallowing = False
        self.sockets: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: Address = self.listener.getsockname()
        self._start(self._accept)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def swallow(self) -> None:
        """Let nothing through from now on, without telling either end."""
        self.swallowing = True

    def cut(self) -> None:
        """Reset every connection, both ends."""
        self.swallow()
        for end in self.sockets:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._shut(socket.SHUT_RD)

    def stop(self) -> None:
        """End every connection and every thread."""
        self._wake(self.listener)
        self.listener.close()
        self._shut()
        for thread in self.threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            self.sockets += [client, server]
            self._start(self._pump, client, server)
            self._start(self._pump, server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                time.sleep(self.delay)
                if not self.swallowing:
                    sink.sendall(data)
            if not self.swallowing:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._wake(sink)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self.threads.append(thread)
        thread.start()

    def _shut(self, how: int = socket.SHUT_RDWR) -> None:
        for end in self.sockets:
            self._wake(end, how)
            end.close()
        self.sockets.clear()

    @staticmethod
    def _wake(end: socket.socket, how: int = socket.SHUT_RDWR) -> None:
        """Make a thread that waits in this socket return; closing it alone would not.

        Shutting only the reading side sends nothing, so that close() can still send RST.
        """
        try:
            end.shutdown(how)
        except OSError:
            pass
