"""HTTP beside WebSockets: requests a second through the middleware."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from ..systems import System

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WARM_UP = 200
CLIENTS = 8
"""How many ask at a time, so that the server always has something to do."""


def measure(systems: Sequence[System], *, slices: int = 40, rounds: int = 100) -> dict[str, dict[str, float]]:
    """Requests a second, each client's one after the other.

    A difference of a hundredth is looked for, and the speed of the machine changes by a tenth from second to
    second. So all systems run at the same time, and are asked in turn, for some thirty milliseconds each.
    """
    with ExitStack() as stack:
        clients = {system.name: connected(stack, system) for system in systems}
        rates: dict[str, list[float]] = {name: [] for name in clients}
        for each in clients.values():
            for _ in range(WARM_UP):
                ask(each)
        for turn in range(slices):
            # The order alternates, because a system that comes after another finds the caches cold.
            for name in list(clients)[:: -1 if turn % 2 else 1]:
                began = time.perf_counter()
                for _ in range(rounds):
                    ask(clients[name])
                rates[name].append(rounds * CLIENTS / (time.perf_counter() - began))
    return {name: {"requests/s": median(of_it)} for name, of_it in rates.items()}


def connected(stack: ExitStack, system: System) -> list[socket.socket]:
    """Start a system, which runs as long as the stack lasts, and connect its clients."""
    running = stack.enter_context(system.running())
    clients = [stack.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(CLIENTS)]
    for client in clients:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return clients


def ask(clients: list[socket.socket]) -> None:
    """Send one request from each client, and read all answers in full."""
    for client in clients:
        client.sendall(REQUEST)
    for client in clients:
        answer = b""
        while not answer.endswith(b"hello"):
            answer += client.recv(4096)
