"""Servers started by their own command lines: several workers, reloaders, supervisors."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.crowd import Crowd
from tests.support.server import Server, Variant
from tests.support.waiting import eventually
from wsstab.signals.base import DEBOUNCE

__all__ = ["SERVICE", "Commanded", "Stop", "asked_again", "commanded", "drained", "group", "interrupted", "terminated"]

SERVICE = "tests.support.apps.service:app"

Stop = Callable[[Server], None]
"""A way to tell a server to stop."""


class Commanded(Server):
    """A server that is started by a command line.

    Args:
        variant: which server.
        command: the command line; ``{fd}`` is the listening socket that it inherits, ``{port}`` its port.
        options: what the application finds under ``tests.support.settings``.
    """

    def __init__(self, variant: Variant, command: str, options: dict[str, Any]) -> None:
        self.command = command
        super().__init__(SERVICE, variant, options)

    def _command(self, listener: int) -> list[str]:
        line = self.command.format(fd=listener, port=self.address[1], app=SERVICE)
        return [sys.executable, "-m", *line.split()]

    @property
    def lifespans(self) -> tuple[int, int]:
        """How often the application started, and how often it stopped."""
        return self.log.count('NOTE "startup"'), self.log.count('NOTE "shutdown"')


def terminated(server: Server) -> None:
    """Send SIGTERM to the process that was started."""
    server.signal(signal.SIGTERM)


def group(server: Server) -> None:
    """Send SIGTERM to all processes of the server at once."""
    server.signal_group(signal.SIGTERM)


def interrupted(server: Server) -> None:
    """Send SIGINT to all processes of the server at once, as a terminal does at Ctrl+C."""
    server.signal_group(signal.SIGINT)


def asked_again(server: Server) -> None:
    """Send SIGINT to all processes again, late enough to count as a second signal."""
    asked = time.monotonic()
    eventually(lambda: time.monotonic() > asked + DEBOUNCE)
    assert server.process.poll() is None
    interrupted(server)


@contextmanager
def commanded(variant: Variant, command: str, workers: int = 1, **drain: Any) -> Iterator[tuple[Commanded, Crowd]]:
    """A server with this command line and these drain options, whose workers have started, and a crowd for it."""
    plan = {"timeout": 8.0, "batch_size": 4, "interval": 0.1, **drain}
    server = Commanded(variant, command, {"drain": plan})
    with server, Crowd(server.address) as crowd:
        try:
            eventually(lambda: server.lifespans == (workers, 0), within=15)
        except AssertionError:
            # Once in a while a second worker of hypercorn on trio does not say that it has started.
            raise AssertionError(f"{server.lifespans} of {workers} workers have started:\n{server.log}") from None
        if variant.server == "granian":
            # Between its lifespan and its loop a worker of granian loses a signal, even without the middleware.
            eventually(lambda: server.log.count("Started worker-") == workers, within=15)
        yield server, crowd


def drained(server: Server, crowd: Crowd) -> None:
    """Check that a drain closed all clients, and not all at once.

    Raises:
        AssertionError: it did not.
    """
    report = crowd.report()
    closes = Counter((client["code"], client["reason"]) for client in report)
    assert closes == {server.variant.drained: len(report)}, server.log
    times = sorted(client["at"] for client in report)
    assert times[-1] - times[0] >= 0.2, server.log
