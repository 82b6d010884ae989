"""Who owns SIGTERM and SIGINT: one owner for all managers of the process.

It takes a signal over from a server's handler, drains, and then gives that handler the signal it
was waiting for. A second signal means at once; within a second of the first it is the same one,
told twice (a process group is signalled, and the parent relays it).
"""

from __future__ import annotations

import logging
import signal
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol, TypeAlias

from ..config import WebSocketConfig
from ..reports import ShutdownReport
from ..tasks import EventLoop, current_loop

__all__ = ["Drainable", "SignalOwner", "owner"]

logger = logging.getLogger("wsstab")

Handler: TypeAlias = Callable[[int, "FrameType | None"], Any]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
DEBOUNCE = 1.0
"""Seconds in which a second signal counts as the first."""


class Drainable(Protocol):
    """What a signal drains: a manager."""

    @property
    def config(self) -> WebSocketConfig:
        """Its configuration."""

    async def drain(self) -> ShutdownReport:
        """Refuse new connections, and close all there are, in batches."""

    def hurry(self) -> None:
        """End the drain that is under way as if its time were over."""


class SignalOwner:
    """Takes over the stop signals of this process, once."""

    def __init__(self) -> None:
        self._managers: weakref.WeakKeyDictionary[Drainable, EventLoop] = weakref.WeakKeyDictionary()
        self._servers: dict[int, Handler] = {}
        self._first: float | None = None
        self._draining = 0

    def watch(self, manager: Drainable, handles: Callable[[object], bool]) -> None:
        """Drain ``manager`` at the signals for which ``handles`` knows the server's handler. Main thread only."""
        if manager in self._managers and self._installed():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not _on_signal and callable(handler) and handles(handler):
                self._servers[number] = handler
                signal.signal(number, _on_signal)
                self._first = None
        if self._servers:
            self._managers[manager] = current_loop()

    def forget(self, manager: Drainable) -> None:
        """The manager has stopped; the last one gives the signals back, where they are still ours."""
        self._managers.pop(manager, None)
        if not self._managers and not self._draining:
            self._give_back()

    def _installed(self) -> bool:
        return bool(self._servers) and all(signal.getsignal(number) is _on_signal for number in self._servers)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal drains, a later one goes straight to the server."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self._drain_all(number)
        elif now - self._first >= DEBOUNCE:
            self._hurry_all()

    def _hurry_all(self) -> None:
        # The drains end at once, and the last of them passes the signal on: a server that closes
        # while handlers ignore it would wait for them for ever.
        for manager, loop in list(self._managers.items()):
            loop.call_from_thread(manager.hurry)

    def _drain_all(self, number: int) -> None:
        managers = list(self._managers.items())
        self._draining = len(managers)
        handed_over = [loop.call_from_thread(self._start, manager, loop, number) for manager, loop in managers]
        self._draining -= handed_over.count(False)
        if not self._draining:
            self._pass_on(number, None)

    def _start(self, manager: Drainable, loop: EventLoop, number: int) -> None:
        loop.spawn(self._drain, manager, number)

    async def _drain(self, manager: Drainable, number: int) -> None:
        try:
            await manager.drain()
        finally:
            self._draining -= 1
            if not self._draining:
                self._pass_on(number, None)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        handler = self._servers.get(number)
        self._give_back()
        if handler is not None:
            handler(number, frame)

    def _give_back(self) -> None:
        for number, handler in self._servers.items():
            if signal.getsignal(number) is _on_signal:
                try:
                    signal.signal(number, handler)
                except ValueError:
                    # Not the main thread: the loop that drained runs elsewhere, and the server's own exit restores.
                    logger.debug("- signal %s not given back outside the main thread", number)
        self._servers.clear()
        self._first = None


owner = SignalOwner()


def _on_signal(number: int, frame: FrameType | None) -> None:
    owner.on_signal(number, frame)
