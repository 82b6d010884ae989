"""The owner of the signals: drains all managers of the process when the server is told to stop.

The owner receives the stop before the server does, drains, and then lets the server stop. A second signal ends the
drain at once. Within a second of the first it counts as the same signal delivered twice (the process group is
signalled, and the parent relays the signal as well).
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
"""Seconds during which a second signal counts as a repetition of the first."""
A_MOMENT = 0.5
"""Seconds for which WebSockets skip the check, after one found all takeovers in place or nothing to take over."""
TURNS = 5
"""Turns of the loop after a drain, in which cancelled tasks can end."""
AFTER_A_CUT = 0.25
"""Seconds after a drain that had to cut off connections, in which operations in other threads can end."""


class Drainable(Protocol):
    """A manager that is drained before the server stops."""

    @property
    def config(self) -> WebSocketConfig:
        """The configuration of the manager."""

    @property
    def is_draining(self) -> bool:
        """Whether the drain is under way or over."""

    async def drain_before_stop(self) -> ShutdownReport:
        """Refuse new connections and close the existing ones in batches."""

    def hurry(self) -> None:
        """End the current drain as if its time were over."""

    @property
    def servers(self) -> Collection[object]:
        """The servers that serve the application of the manager."""

    def warn_once(self, key: str, line: str, *args: object) -> None:
        """Log a warning once for each key."""


class Takeover(Protocol):
    """One way in which a server is told to stop, taken over by the owner."""

    def stands(self) -> bool:
        """Whether the takeover is still in place."""

    def give_back(self) -> None:
        """Restore the previous state, except where other code has installed its own hook since."""

    def let_stop(self, number: int | None) -> None:
        """Give it back, and let the server stop as it was told.

        Args:
            number: the signal that told the server; ``None`` if it was not told by a signal.
        """


Take: TypeAlias = "Callable[[SignalOwner, Send | None], list[Takeover]]"
"""Takes over every way to stop one kind of server; returns an empty list if another server runs.

The second argument is the ``send`` of a WebSocket, or ``None``.
"""


class SignalOwner:
    """Learns before the server of this process does that the server is to stop."""

    def __init__(self) -> None:
        # Weak, because the owner lives as long as the process, and an application may drop a manager that it never
        # stopped.
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
            takes: one function for each supported server.
            send: the ``send`` of a WebSocket, through which some servers are reached; default ``None``.

        Returns:
            Whether any way to stop is taken over.
        """
        in_place = self._settled(send)
        if self._first is None and not in_place:
            self._give_back()
            # Some servers are reached only by way of a WebSocket's send, so the first one is worth another search.
            self._saw_send = send is not None
            taken = [takeover for take in takes for takeover in take(self, send)]
            for chain in [each for each in taken if isinstance(each, Chain)]:
                for old in buried(self._takeovers):
                    old.leave_to(chain)
            self._takeovers = [*taken, *buried(self._takeovers)]
        if self._takeovers:
            self._managers[manager] = current_loop()
        if send is not None and (in_place or not self._takeovers):
            # Searching at each handshake would be expensive where there is nothing to take over.
            self._in_place_for, self._in_place_until = weakref.ref(manager), time.monotonic() + A_MOMENT
        return bool(self._takeovers)

    def in_place(self, manager: Drainable) -> bool:
        """Whether a WebSocket of this manager checked a moment ago and changed nothing, so no check is due."""
        return self._in_place_for() is manager and time.monotonic() < self._in_place_until

    def forget(self, manager: Drainable) -> None:
        """Forget a manager that has stopped; the last one gives back every takeover still in place."""
        self._in_place_for = _nobody
        self._managers.pop(manager, None)
        if not self._managers and not self._draining:
            self._give_back()

    @property
    def serves_several(self) -> bool:
        """Whether several servers of this process serve one application, so the stop of one is not the end."""
        return any(len(manager.servers) > 1 for manager in list(self._managers))

    @property
    def stopping(self) -> bool:
        """Whether the server was told to stop, and the drain is not over."""
        return self._first is not None

    def on_signal(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal to the server: the first one starts the drain, a later one ends it at once."""
        now = time.monotonic()
        if self._first is None:
            self._drain_all(number)
        elif now - self._first >= DEBOUNCE:
            self._hurry_all()

    def on_stop(self) -> None:
        """Start the drain when the server stops without a signal; may be called repeatedly."""
        if self._first is None:
            self._drain_all(None)

    async def drain(self) -> None:
        """Drain all managers, as `on_stop` does, and return when the drain is over."""
        if self.serves_several:
            # The other servers continue, and this code cannot tell which one stops.
            return
        self.on_stop()
        await self._stopped.wait()

    def _settled(self, send: Send | None) -> bool:
        if not self._takeovers or (send is not None and not self._saw_send):
            return False
        return all(takeover.stands() for takeover in self._takeovers)

    def _hurry_all(self) -> None:
        # The drains end at once, and the last of them lets the server stop. Letting it stop right here is not enough:
        # a server that closes while handlers ignore it would wait for them for ever.
        for manager, loop in list(self._managers.items()):
            loop.call_from_thread(manager.hurry)

    def _drain_all(self, number: int | None) -> None:
        self._first, self._stopped = time.monotonic(), Latch()
        # A copy, because a weak dictionary shrinks when a manager is freed.
        managers = list(self._managers.items())
        self._draining = len(managers)
        # A handler of `signal.signal` may run between any two instructions, and the manager may be on a loop in another
        # thread. So each drain is started by its own loop.
        handed_over = [loop.call_from_thread(self._start, manager, loop, number) for manager, loop in managers]
        # A loop that is closed has no connections left to drain.
        self._draining -= handed_over.count(False)
        if not self._draining:
            self._let_stop(number)

    def _start(self, manager: Drainable, loop: EventLoop, number: int | None) -> None:
        loop.spawn(self._drain, manager, number)

    async def _drain(self, manager: Drainable, number: int | None) -> None:
        try:
            report = await manager.drain_before_stop()
            for _ in range(TURNS):
                await checkpoint()
            if report.failed_count:
                # granian panics if an operation on its threads ends after the event loop. The drain knows that pending
                # sends have learnt of the cut, but nothing tells it whether a cancelled handler's operations have.
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
            # After let_stop(), which gives each takeover back, and so finds out which chains are buried.
            self._takeovers = [*buried(takeovers)]
            self._stopped.set()

    def _give_back(self) -> None:
        self._in_place_for = _nobody
        for takeover in self._takeovers:
            takeover.give_back()
        self._takeovers = [*buried(self._takeovers)]
        self._first = None


class Chain:
    """Handlers that were installed with ``signal.signal``, with ours in front of each.

    Other code may install a handler in front of ours and call ours from it. Ours then cannot be
    removed, and continues to lead to the server's.

    Args:
        owner: the owner that is told of the signals.
        numbers: the signals.
    """

    def __init__(self, owner: SignalOwner, numbers: Sequence[int]) -> None:
        self._on_signal = owner.on_signal
        self._before: dict[int, Any] = {}
        for number in numbers:
            self._before[number] = signal.signal(number, self._on_signal)

    def stands(self) -> bool:
        # Compared with ``==`` throughout, because each access to a method makes a new object.
        return all(signal.getsignal(number) == self._on_signal for number in self._before)

    @property
    def buried(self) -> bool:
        """Whether another handler stands in front of ours; valid only after `give_back`."""
        return bool(self._before)

    def give_back(self) -> None:
        for number, handler in list(self._before.items()):
            if signal.getsignal(number) == self._on_signal:
                try:
                    signal.signal(number, handler)
                except ValueError:
                    # The loop that drained runs outside the main thread; the server restores the handler when it exits.
                    logger.debug("- signal %s not given back outside the main thread", number)
                del self._before[number]

    def leave_to(self, other: Chain) -> None:
        """Forget the signals that another chain holds: the handler in front of ours does not call ours."""
        for number in other._before:
            self._before.pop(number, None)

    def let_stop(self, number: int | None) -> None:
        handler = self._before.get(number) if number is not None else None
        self.give_back()
        if callable(handler):
            # Raising the signal could reach a handler installed in front of ours since, which would call us again.
            handler(number, None)
        elif handler == signal.SIG_DFL and number is not None:
            # give_back() keeps a signal for which another handler stands in front of ours, and raising it would only
            # call that one.
            if number in self._before:
                signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


def leads_to(handler: object, handles: Callable[[object], bool]) -> Any:
    """The server's handler: the installed one or one that it leads to; ``None`` if none is found."""
    for each in reachable(handler):
        try:
            if handles(each):
                return each
        except Exception:
            # The object may be anyone's, and its attribute access may raise anything.
            continue
    return None


def buried(takeovers: Sequence[Takeover]) -> list[Chain]:
    """The chains through which we may still be called although they were given back."""
    return [takeover for takeover in takeovers if isinstance(takeover, Chain) and takeover.buried]


def _nobody() -> None:
    pass


owner = SignalOwner()
