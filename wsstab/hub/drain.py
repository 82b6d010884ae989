"""Drain: lets all connections go, in batches, before the server cuts them.

Refuse new ones, tell the handlers, close batch by batch (each close with a deadline), abort what
did not take its close, cancel handlers that ignore all that. Batches grow where they must, so that
the last connection is told by half of the timeout. ``graceful_shutdown`` is the same with one batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, Protocol

import anyio

from ..close import DRAINING, Close, clamp_reason
from ..config import Drain, WebSocketConfig
from ..connection import Peer
from ..core.lifecycle import OutboundState
from ..events import DrainFinished, DrainRound, DrainStarted, Event
from ..loop.tasks import Latch, current_loop
from ..reports import ShutdownReport

__all__ = ["Drainer", "PartOfServer"]

logger = logging.getLogger("wsstab")

LAST_PART = 0.15
"""Part of the timeout, at most a second, that is kept for handlers to end after they were cancelled."""
LOOK_AGAIN = 0.02
"""Seconds between two checks of what is left."""
LOOK_SOON = 0.002
"""The same while a batch waits for the one before: 10,000 connections take 100 batches."""


class Drained(Protocol):
    """What can be drained: a hub, or what came to it by one server."""

    @property
    def config(self) -> WebSocketConfig:
        """Its configuration."""

    @property
    def calls(self) -> set[Peer]:
        """The peers whose ASGI call is running."""

    def peers(self) -> list[Peer]:
        """The open peers."""

    def emit(self, event: Event) -> None:
        """Tell the subscribers."""

    def cut_lingering(self) -> None:
        """Abort TCP connections whose WebSocket has closed but whose peer does not leave."""


class PartOfServer:
    """The part of a hub that is drained when one of several servers of the application stops.

    Args:
        hub: the hub.
        server: the server that stops, as in `Carrier.server`.
    """

    def __init__(self, hub: Drained, server: object) -> None:
        self._hub = hub
        self._server = server
        self.config = hub.config
        self.emit = hub.emit

    @property
    def calls(self) -> set[Peer]:
        """The peers that came through the server, and whose ASGI call is running."""
        return {peer for peer in self._hub.calls if peer.carrier.server is self._server}

    def peers(self) -> list[Peer]:
        """The open peers."""
        return [each for each in self._hub.peers() if each.carrier.server is self._server]

    def cut_lingering(self) -> None:
        """Do nothing: they belong to all servers, and each has a deadline of its own."""


class Drainer:
    """Drains one manager; one drain at a time.

    Args:
        hub: the hub whose peers are closed.
    """

    def __init__(self, hub: Drained) -> None:
        self._hub = hub
        self._running: Latch | None = None
        self._hurried = False
        self._unpaced = False
        self._deadline = 0.0
        self._leaving: dict[Peer, None] = {}
        self._closing: list[Peer] = []
        self._staying: list[Peer] = []
        self._report = ShutdownReport()

    def hurry(self) -> None:
        """End the running drain as if its time were over."""
        self._hurried = True

    async def drain(self, plan: Drain, paced: bool = True) -> ShutdownReport:
        """Close all connections; a second call joins the first.

        Args:
            plan: the pace and the timeout of the drain.
            paced: close in batches; otherwise all at once.
        """
        if self._running is not None:
            self._unpaced = self._unpaced or not paced
            self._deadline = min(self._deadline, end_of(plan, current_loop().time()))
            await self._running.wait()
            return self._report
        self._running = latch = Latch()
        self._hurried = False
        self._unpaced = not paced
        try:
            self._report = await self._drain(plan)
        finally:
            self._running = None
            latch.set()
        return self._report

    async def _drain(self, plan: Drain) -> ShutdownReport:
        hub, time = self._hub, current_loop().time
        began = time()
        self._deadline = end_of(plan, began)
        leaving = hub.peers()
        self._leaving = dict.fromkeys(leaving)
        hub.emit(DrainStarted(len(leaving), plan.timeout))
        told: dict[str, Any] = {"connections": len(leaving), "timeout": plan.timeout}
        logger.info("- drain started: %d connections, %g s", *told.values(), extra=told)
        await self._close_in_batches(plan, began, time)
        self._staying = list(self._leaving)
        await self._wait(lambda: not self._unfinished(), time)
        failed = self._cut()
        if self._hurried:
            # The handlers cancelled just now may still end properly, unless somebody hurries again.
            self._hurried, self._deadline = False, time() + min(1.0, plan.timeout * LAST_PART)
        else:
            self._deadline += plan.timeout * LAST_PART
        await self._wait(lambda: not hub.calls and self._aborts_are_over(), time)
        report = ShutdownReport(len(self._leaving) - failed, failed, time() - began)
        self._leaving, self._closing, self._staying = {}, [], []
        hub.emit(DrainFinished(report.closed_count, report.failed_count, report.duration_seconds))
        told = {"closed": report.closed_count, "failed": failed, "duration": round(report.duration_seconds, 3)}
        logger.info("- drain finished: %d closed, %d failed, after %.1f s", *told.values(), extra=told)
        return report

    async def _close_in_batches(self, plan: Drain, began: float, time: Callable[[], float]) -> None:
        row = DRAINING.because(clamp_reason(plan.reason))
        close = Close(plan.code, row.reason, row.cause, row.reconnect, row.status, row.retry_after)
        half = began + plan.timeout / 2
        while (left := self._hub.peers() + self._unaccepted()) or self._opening():
            late = self._hurried or time() >= self._deadline
            batch = left if self._unpaced or late else left[: batch_size(len(left), plan, half - time())]
            await self._close_batch(batch, close, time)
            remaining = len(self._hub.peers())
            if batch:
                self._hub.emit(DrainRound(len(batch), remaining))
            if late:
                break
            if remaining:
                await anyio.sleep(min(plan.interval, max(self._deadline - time(), 0.0)))
            elif self._opening():
                await anyio.sleep(LOOK_AGAIN)

    async def _close_batch(self, batch: list[Peer], close: Close, time: Callable[[], float]) -> None:
        at_once = self._hub.config.max_concurrent_cleanup
        for start in range(0, len(batch), at_once):
            for peer in batch[start : start + at_once]:
                # Also for peers that were accepted after the drain had begun.
                self._leaving[peer] = None
                peer.closing.begin(close, within=max(self._deadline - time(), LOOK_AGAIN))
                self._closing.append(peer)
            await self._wait(lambda: self._at_once() < at_once, time, LOOK_SOON)

    def _unaccepted(self) -> list[Peer]:
        """Peers whose handshake can still be refused."""
        return [each for each in self._undecided() if each.lifecycle.outbound is OutboundState.CONNECTING]

    def _opening(self) -> bool:
        """Whether an accept is being written: until that is done, its peer can be neither refused nor closed."""
        return any(each.lifecycle.outbound is OutboundState.OPEN for each in self._undecided())

    def _undecided(self) -> list[Peer]:
        # A copy: under a test client, calls begin and end in other threads.
        return [peer for peer in list(self._hub.calls) if peer.closing.close is None and not peer.open]

    def _at_once(self) -> int:
        """How many peers are being closed now."""
        self._closing = [peer for peer in self._closing if peer.closing.event is None]
        return len(self._closing)

    def _unfinished(self) -> bool:
        # A peer that is gone is not checked again: there may be tens of thousands.
        while self._staying and finished(self._staying[-1]):
            self._staying.pop()
        return bool(self._hub.calls) or bool(self._staying)

    def _cut(self) -> int:
        """Abort the peers that are left and cancel their handlers; how many peers got no close frame."""
        failed = {peer for peer in self._leaving if not finished(peer)}
        for peer in failed:
            # On its own event loop: under a test client each peer may have one.
            peer.loop.call_from_thread(peer.wire.abort)
        self._hub.cut_lingering()
        for peer in list(self._hub.calls):
            if peer.owner.may_tell("handler cancelled"):
                line = "! handler of %s cancelled: it ignored the drain"
                logger.warning(line, peer.log_name(), extra=peer.log_fields())
            peer.loop.call_from_thread(peer.carrier.cancel)
        self._staying = [each for each in self._leaving if each.closing.cut or each in failed]
        return len(self._staying)

    def _aborts_are_over(self) -> bool:
        """Whether the servers have finished all aborts."""
        while self._staying and self._staying[-1].wire.abort_is_over():
            self._staying.pop()
        return not self._staying

    async def _wait(self, done: Callable[[], bool], time: Callable[[], float], every: float = LOOK_AGAIN) -> None:
        while not done() and time() < self._deadline and not self._hurried:
            await anyio.sleep(every)


def end_of(plan: Drain, began: float) -> float:
    """When to stop waiting for handlers, so that cancelled ones still have time to end."""
    return began + plan.timeout - min(1.0, plan.timeout * LAST_PART)


def batch_size(left: int, plan: Drain, seconds: float) -> int:
    """How many connections to close now, so that none is left after ``seconds``."""
    rounds = max(math.floor(seconds / plan.interval), 1) if plan.interval > 0 else 1
    return max(plan.batch_size, math.ceil(left / rounds))


def finished(peer: Peer) -> bool:
    """Whether the socket of a peer is gone, or its close frame has left the process."""
    wire, closing = peer.wire, peer.closing
    if closing.event is None:
        return False
    return wire.lost or not wire.traits.can_abort or not (closing.cut or wire.buffered())
