"""Clients that come, talk and die in every way there is, chosen at random from a seed."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

from .frames import BINARY, CLOSE, PING, TEXT, Frame, close_payload
from .handshake import request
from .lab import Lab
from .peer import RESET
from .server import Variant
from .waiting import eventually

__all__ = ["FAULTS", "HAS_NO_SOCKET", "LEFT_BEFORE_ITS_500", "Faults", "churn", "make_quick"]

FAULTS = ("fin", "rst", "silence", "half", "early", "close", "garbage", "before accept")
"""What becomes of a client: it ends TCP in good order, resets it, falls silent, ends within a message, sends frames
with its handshake, closes as it should, breaks the protocol, leaves before it is accepted."""
PATHS = ("/room/red", "/room/blue", "/echo", "/push", "/sleep", "/wait-for-more")
QUICK = {"heartbeat_interval": 0.5, "heartbeat_timeout": 1.0, "accept_timeout": 0.3}
LEFT_BEFORE_ITS_500 = (
    "exception was never retrieved",
    "RuntimeError: unable to perform operation .* handler is closed",
)
"""What uvicorn's old implementation logs on uvloop when it answers 500 to a peer that has left before accept."""
HAS_NO_SOCKET = ("exception was never retrieved", "ExceptionGroup: unhandled errors in a", r"OSError: \[Errno 107\]")
"""What hypercorn logs, depending on loop and Python, when it ends a connection that its peer has ended: ENOTCONN."""
ACCEPTED = b"\r\n\r\n"


class Faults:
    """Clients that come and die, a few at a time.

    Args:
        address: host and port of the server.
        paths: the paths that they may ask for.
        seed: the seed of everything that is left to chance.
    """

    def __init__(self, address: tuple[str, int], paths: list[str], seed: int) -> None:
        self.address = address
        self.paths = paths
        self.chance = random.Random(seed)
        self.silent: list[socket.socket] = []

    def run(self, count: int, at_once: int = 20) -> None:
        """Let this many clients come and die."""
        while count > 0:
            fates = [self.chance.choice(FAULTS) for _ in range(min(at_once, count))]
            count -= len(fates)
            clients = [(self._come(fate), fate) for fate in fates]
            self.chance.shuffle(clients)
            for client, fate in clients:
                self._die(client, fate)

    def leave(self) -> None:
        """Close the clients that were silent until now."""
        for client in self.silent:
            client.close()
        self.silent.clear()

    def _come(self, fate: str) -> socket.socket:
        client = socket.create_connection(self.address, timeout=10)
        early = Frame(TEXT, b"early").encode() * self.chance.randint(1, 20) if fate == "early" else b""
        client.sendall(request(self.chance.choice(self.paths), "localhost") + early)
        return client

    def _die(self, client: socket.socket, fate: str) -> None:
        try:
            if fate not in ("before accept", "early"):
                self._wait_for_answer(client)
                for _ in range(self.chance.randint(0, 5)):
                    client.sendall(Frame(self.chance.choice((TEXT, BINARY, PING)), b"x" * 50).encode())
            if fate == "half":
                whole = Frame(TEXT, b"y" * 5000, fin=self.chance.random() < 0.5).encode()
                client.sendall(whole[: self.chance.randint(1, len(whole))])
            elif fate == "garbage":
                client.sendall(self.chance.randbytes(200))
            elif fate == "close":
                client.sendall(Frame(CLOSE, close_payload(1000)).encode())
        except OSError:
            pass  # The server was faster.
        if fate == "silence":
            self.silent.append(client)
            return
        if fate == "rst" or self.chance.random() < 0.3:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()

    def _wait_for_answer(self, client: socket.socket) -> None:
        data, until = b"", time.monotonic() + 10
        while ACCEPTED not in data and time.monotonic() < until:
            piece = client.recv(4096)
            if not piece:
                return
            data += piece


def make_quick(lab: Callable[..., Lab], variant: Variant) -> Lab:
    """A lab in which silence is noticed soon."""
    made = lab("tests.support.apps.rooms:make_app", heartbeat_type=variant.heartbeat[0], **QUICK)
    if variant.legacy:
        made.forgive(*LEFT_BEFORE_ITS_500)
    if variant.sansio:
        # uvicorn logs text that is not UTF-8, and random bytes begin a text message now and then.
        made.forgive("UnicodeDecodeError")
    if variant.server == "hypercorn" and variant.loop != "trio":
        made.forgive(*HAS_NO_SOCKET)
    return made


def churn(made: Lab, count: int, seed: int, least: float = 0.0) -> None:
    """Let this many clients come and die during broadcasts, and check that they leave nothing.

    Args:
        made: a lab made by `make_quick`.
        count: the number of clients.
        seed: the seed of their fates.
        least: seconds for which new clients come in any case.
    """
    before, began = made.server.sockets, time.monotonic()
    faults = Faults(made.server.address, [made.path(path) for path in PATHS], seed)
    while count > 0 or time.monotonic() - began < least:
        faults.run(40)
        count -= 40
        for name in ("red", "blue", None):
            made.burst(3, 200, room=name)
    eventually(lambda: not set(made.held) - {"lingering", "deadlines"}, within=30)
    faults.leave()
    eventually(lambda: not made.held, within=30)
    eventually(lambda: made.server.get("/-/tasks") == [], within=15)
    eventually(lambda: made.server.sockets <= before, within=15)
