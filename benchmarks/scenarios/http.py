"""HTTP beside it: requests a second through the middleware."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from ..systems import System

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WARM_UP = 100
CLIENTS = 8
"""How many ask at a time, so that the server always has something to do."""


def measure(system: System, *, rounds: int = 2000) -> dict[str, float]:
    """Requests a second, each client's one after the other."""
    with system.running() as running, ExitStack() as stack:
        address = ("127.0.0.1", running.port)
        clients = [stack.enter_context(socket.create_connection(address)) for _ in range(CLIENTS)]
        for client in clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(WARM_UP):
            ask(clients)
        began = time.perf_counter()
        for _ in range(rounds):
            ask(clients)
        return {"requests/s": rounds * CLIENTS / (time.perf_counter() - began)}


def ask(clients: list[socket.socket]) -> None:
    """One request of each, and its whole answer."""
    for client in clients:
        client.sendall(REQUEST)
    for client in clients:
        answer = b""
        while not answer.endswith(b"hello"):
            answer += client.recv(4096)
