"""Who drains when the server is told to stop: one owner for all managers of the process.

It stands between a server and its stop: hears of it first, drains, and then lets the server go on. A second signal
means at once; within a second of the first it is the same one, told twice (a process group is signalled, and the
parent relays it).
"""

from __future__ import annotations

import logging
import signal
import time
import weakref
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import Any, Protocol, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from ..config import WebSocketConfig
from ..loop.tasks import EventLoop, Latch, current_loop
from ..reports import ShutdownReport
from ..types import Send
from ..wires.observers import reachable

__all__ = ["Drainable", "SignalOwner", "Take", "Takeover", "leads_to", "owner"]

logger = logging.getLogger("wsstab")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
DEBOUNCE = 1.0
"""Seconds in which a second signal counts as the first."""
A_MOMENT = 0.5
"""Seconds after a WebSocket found everything in its place, or nothing to be had, in which others need not look."""
TURNS = 5
"""Turns of the loop in which what a drain has cancelled ends."""
AFTER_A_CUT = 0.25
"""Seconds in which what a drain has cut off ends elsewhere too."""


class Drainable(Protocol):
    """What is drained before the server stops: a manager."""

    @property
    def config(self) -> WebSocketConfig:
        """Its configuration."""

    @property
    def is_draining(self) -> bool:
        """Whether that is under way, or over."""

    async def drain(self) -> ShutdownReport:
        """Refuse new connections, and close all there are, in batches."""

    def hurry(self) -> None:
        """End the drain that is under way as if its time were over."""

    @property
    def servers(self) -> Collection[object]:
        """The servers that serve its application."""

    def warn_once(self, key: str, line: str, *args: object) -> None:
        """Log a warning the first time it is asked for."""


class Takeover(Protocol):
    """One way in which a server is told to stop, now in our hands."""

    def stands(self) -> bool:
        """Whether it still is."""

    def give_back(self) -> None:
        """As it was before; what somebody else has taken since stays theirs."""

    def let_stop(self, number: int | None) -> None:
        """Give it back, and have the server do what it was told.

        Args:
            number: the signal that told it; ``None`` where it was no signal.
        """


Take: TypeAlias = "Callable[[SignalOwner, Send | None], list[Takeover]]"
"""Takes over what there is of one server; nothing where another server runs.

The ``send`` is that of a WebSocket, where there is one.
"""


class SignalOwner:
    """Hears first that the server of this process is to stop."""

    def __init__(self) -> None:
        self._managers: weakref.WeakKeyDictionary[Drainable, EventLoop] = weakref.WeakKeyDictionary()
        self._takeovers: list[Takeover] = []
        self._saw_send = False
        self._in_place_for: Callable[[], Drainable | None] = _nobody
        self._in_place_until = 0.0
        self._first: float | None = None
        self._stopped = Latch()
        self._draining = 0

    def watch(self, manager: Drainable, takes: Sequence[Take], send: Send | None = None) -> bool:
        """Drain ``manager`` before the server stops. Main thread only.

        Args:
            manager: the manager to drain.
            takes: one for each server that is known.
            send: that of a WebSocket, where some servers can be reached.

        Returns:
            Whether there is anything to hear it from.
        """
        in_place = self._settled(send)
        if self._first is None and not in_place:
            self._give_back()
            self._saw_send = send is not None
            taken = [takeover for take in takes for takeover in take(self, send)]
            for chain in [each for each in taken if isinstance(each, Chain)]:
                for old in buried(self._takeovers):
                    old.leave_to(chain)
            self._takeovers = [*taken, *buried(self._takeovers)]
        if self._takeovers:
            self._managers[manager] = current_loop()
        if send is not None and (in_place or not self._takeovers):
            # Where there is nothing to take over, to look for it at each handshake would be dear.
            self._in_place_for, self._in_place_until = weakref.ref(manager), time.monotonic() + A_MOMENT
        return bool(self._takeovers)

    def in_place(self, manager: Drainable) -> bool:
        """Whether a WebSocket of this manager looked a moment ago, and left all as it was: no need to look again."""
        return self._in_place_for() is manager and time.monotonic() < self._in_place_until

    def forget(self, manager: Drainable) -> None:
        """The manager has stopped; the last one gives everything back, where it is still ours."""
        self._in_place_for = _nobody
        self._managers.pop(manager, None)
        if not self._managers and not self._draining:
            self._give_back()

    @property
    def serves_several(self) -> bool:
        """Whether several servers of this process serve one application: one that stops by itself is not the end."""
        return any(len(manager.servers) > 1 for manager in list(self._managers))

    @property
    def stopping(self) -> bool:
        """Whether the server was told to stop, and the drain is not over."""
        return self._first is not None

    def on_signal(self, number: int, frame: FrameType | None = None) -> None:
        """The server got a signal: the first one drains, a later one ends the patience."""
        now = time.monotonic()
        if self._first is None:
            self._drain_all(number)
        elif now - self._first >= DEBOUNCE:
            self._hurry_all()

    def on_stop(self) -> None:
        """The server stops by itself, or was told by other means than a signal; may be said again and again."""
        if self._first is None:
            self._drain_all(None)

    async def drain(self) -> None:
        """Drain all managers, as `on_stop`, and return when that is over."""
        if self.serves_several:
            # The others serve on, and nobody knows here which one it is that stops.
            return
        self.on_stop()
        await self._stopped.wait()

    def _settled(self, send: Send | None) -> bool:
        if not self._takeovers or (send is not None and not self._saw_send):
            return False
        return all(takeover.stands() for takeover in self._takeovers)

    def _hurry_all(self) -> None:
        # The drains end at once, and the last of them lets the server stop: a server that closes
        # while handlers ignore it would wait for them for ever.
        for manager, loop in list(self._managers.items()):
            loop.call_from_thread(manager.hurry)

    def _drain_all(self, number: int | None) -> None:
        self._first, self._stopped = time.monotonic(), Latch()
        managers = list(self._managers.items())
        self._draining = len(managers)
        handed_over = [loop.call_from_thread(self._start, manager, loop, number) for manager, loop in managers]
        self._draining -= handed_over.count(False)
        if not self._draining:
            self._let_stop(number)

    def _start(self, manager: Drainable, loop: EventLoop, number: int | None) -> None:
        loop.spawn(self._drain, manager, number)

    async def _drain(self, manager: Drainable, number: int | None) -> None:
        try:
            report = await manager.drain()
            for _ in range(TURNS):
                await checkpoint()
            if report.failed_count:
                # What ends on granian's threads after its loop makes it panic. Of sends the drain knows that they have
                # learnt of the cut; of what a handler waited for when it was cancelled nobody does.
                await anyio.sleep(AFTER_A_CUT)
        finally:
            self._draining -= 1
            if not self._draining:
                self._let_stop(number)

    def _let_stop(self, number: int | None) -> None:
        takeovers, self._takeovers = self._takeovers, []
        self._in_place_for = _nobody
        self._first = None
        try:
            for takeover in takeovers:
                takeover.let_stop(number)
        finally:
            self._takeovers = [*buried(takeovers)]
            self._stopped.set()

    def _give_back(self) -> None:
        self._in_place_for = _nobody
        for takeover in self._takeovers:
            takeover.give_back()
        self._takeovers = [*buried(self._takeovers)]
        self._first = None


class Chain:
    """Handlers that were installed with ``signal.signal``: ours stands before each of them.

    Somebody may put a handler before ours in turn, and call ours from it. Then ours cannot be taken
    out, and goes on leading to the server's.

    Args:
        owner: who hears of the signals.
        numbers: the signals.
    """

    def __init__(self, owner: SignalOwner, numbers: Sequence[int]) -> None:
        self._on_signal = owner.on_signal
        self._before: dict[int, Any] = {}
        for number in numbers:
            self._before[number] = signal.signal(number, self._on_signal)

    def stands(self) -> bool:
        return all(signal.getsignal(number) == self._on_signal for number in self._before)

    @property
    def buried(self) -> bool:
        """Whether somebody stands before ours; to be asked when it was given back."""
        return bool(self._before)

    def give_back(self) -> None:
        for number, handler in list(self._before.items()):
            if signal.getsignal(number) == self._on_signal:
                try:
                    signal.signal(number, handler)
                except ValueError:
                    # Not the main thread: the loop that drained runs elsewhere, and the server's own exit restores.
                    logger.debug("- signal %s not given back outside the main thread", number)
                del self._before[number]

    def leave_to(self, other: Chain) -> None:
        """Forget the signals that another has: whoever put a handler before ours does not call it."""
        for number in other._before:
            self._before.pop(number, None)

    def let_stop(self, number: int | None) -> None:
        handler = self._before.get(number) if number is not None else None
        self.give_back()
        if callable(handler):
            # Not by raising the signal: somebody may have put a handler before ours since, which would call us again.
            handler(number, None)
        elif handler == signal.SIG_DFL and number is not None:
            if number in self._before:
                signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def leads_to(handler: object, handles: Callable[[object], bool]) -> Any:
    """A server's handler, at or behind the one that is installed; ``None`` where there is none."""
    for each in reachable(handler):
        try:
            if handles(each):
                return each
        except Exception:
            # Somebody's own attribute access, whatever it raises.
            continue
    return None


def buried(takeovers: Sequence[Takeover]) -> list[Chain]:
    """Those through which we may still be called, though they were given back."""
    return [takeover for takeover in takeovers if isinstance(takeover, Chain) and takeover.buried]


def _nobody() -> None:
    pass


owner = SignalOwner()
