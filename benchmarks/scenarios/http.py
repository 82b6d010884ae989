"""HTTP beside it: requests a second through the middleware."""

from __future__ import annotations

import socket
import time

from ..systems import System

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WARM_UP = 300


def measure(system: System, *, requests: int = 5000) -> dict[str, float]:
    """Requests a second, one after the other on one connection."""
    with system.running() as running, socket.create_connection(("127.0.0.1", running.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(WARM_UP):
            ask(client)
        began = time.perf_counter()
        for _ in range(requests):
            ask(client)
        return {"requests/s": requests / (time.perf_counter() - began)}


def ask(client: socket.socket) -> None:
    """One request and its whole answer."""
    client.sendall(REQUEST)
    answer = b""
    while not answer.endswith(b"hello"):
        answer += client.recv(4096)
