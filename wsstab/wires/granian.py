"""The wire to granian: plain ASGI, for its protocol object is of Rust and has but two methods.

Recognised so that the package knows what does not work there, and can say so. No ping, no abort, no
buffer size. A peer that takes nothing is let go of all the same: granian drops a connection whose
close was cancelled on its way, once the handler has returned.

Its ``send()`` is no coroutine but begins at once and gives a future, which its own threads complete.
So a single message needs no task of ours: it is enough to ask whether the one before is done.

Nothing private is used. Tried with granian 2.8.0 to 2.8.7.
"""

from __future__ import annotations

import contextlib
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from ..payload import Outgoing
from ..tasks import EventLoop, current_loop
from ..types import Receive, Scope, Send
from .asgi import AsgiWire
from .base import Block, lacks, nothing_comes, nothing_goes, owner_of
from .traits import TRAITS

__all__ = ["GranianWire", "recognise"]

A_WHILE = 0.05
"""Seconds in which granian's threads learn what was cancelled, and a close begins to wait for the peer."""


def recognise(scope: Scope, receive: Receive, send: Send) -> GranianWire | None:
    """The wire for this connection, ``None`` when ``send`` is not granian's own."""
    protocol = owner_of(send)
    if not type(protocol).__module__.startswith("granian."):
        return None
    return GranianWire(receive, send)


class GranianWire(AsgiWire):
    """Plain ASGI, and a way to drop who takes nothing.

    Args:
        receive: granian's.
        send: granian's.
    """

    __slots__ = ("_attempt", "_handed", "_handed_size", "_watch", "watched")

    traits = TRAITS["granian"]
    begins = False

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self._attempt: anyio.CancelScope | None = None
        self._handed: Any = None
        self._handed_size = 0
        self._watch = watch_of(current_loop())
        self.watched = False

    def write(self, block: Block) -> None:
        if self._closing or self._writer is not None or block.count > 1 or self._on_its_way():
            super().write(block)
            return
        self._handed_size = block.size
        self._handed = self._send(block.messages[0].event())
        if not is_future(self._handed):
            self._block()
            self._have_a_writer()
        elif not self.watched:
            self._watch.add(self)

    def look(self) -> None:
        """What was handed over a while ago should be taken by now; a peer that has not is blocked."""
        self.watched = False
        if self._writer is None and not self._closing and self._on_its_way():
            self._block()
            self._have_a_writer()

    def buffered(self) -> int:
        return super().buffered() + (self._handed_size if self._on_its_way() else 0)

    async def close(self, code: int, reason: str) -> None:
        sent = False
        self._closing = True
        if self._on_its_way():
            self._have_a_writer()
        try:
            with anyio.CancelScope() as self._attempt:
                await super().close(code, reason)
                sent = True
        finally:
            self._attempt = None
            if not sent:
                await self._drop(code, reason)
        if not sent:
            raise ConnectionAbortedError("the peer takes nothing")

    def abort(self) -> None:
        super().abort()
        if self._attempt is not None:
            self._attempt.cancel()

    def detach(self) -> None:
        super().detach()
        # It ends the TCP connection when the last reference to its object is gone.
        self.receive, self._send, self._outer = nothing_comes, nothing_goes, nothing_goes

    def _on_its_way(self) -> bool:
        """Whether a message was handed over, and is neither taken nor lost. That it was lost the reader is told."""
        if self._handed is not None and is_future(self._handed) and self._handed.done():
            self._handed = None
        return self._handed is not None

    async def _write(self, own: Outgoing | None = None) -> None:
        handed, self._handed = self._handed, None
        if handed is not None:
            self._in_flight += self._handed_size
            try:
                with contextlib.suppress(Exception):
                    await handed
            except BaseException:
                # Cancelled: whoever waits to close waits no longer.
                self._writer = None
                self._unblock()
                raise
            self._in_flight -= self._handed_size
        await super()._write(own)

    def _stop_writer(self) -> None:
        super()._stop_writer()
        handed, self._handed = self._handed, None
        if handed is not None:
            if is_future(handed):
                handed.cancel()
            else:
                handed.close()

    async def _drop(self, code: int, reason: str) -> None:
        # A send that is blocked when the process is told to stop makes the worker panic.
        self._stop_writer()
        with contextlib.suppress(Exception), anyio.CancelScope(shield=True):
            # Each step takes its threads a while.
            await anyio.sleep(A_WHILE)
            with anyio.move_on_after(A_WHILE):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
            await anyio.sleep(A_WHILE)


class Watch:
    """The wires of one event loop to which something was handed lately.

    Asked once, a while later: a peer that takes nothing must be known to be blocked, though nothing more is said to it.
    """

    def __init__(self) -> None:
        self._wires: list[GranianWire] = []

    def add(self, wire: GranianWire) -> None:
        """Have `GranianWire.look` called in a while."""
        wire.watched = True
        self._wires.append(wire)
        if len(self._wires) == 1:
            # Not kept: this is the value of a table whose key is the loop, and must not keep it alive.
            current_loop().spawn(self._look_at_all)

    async def _look_at_all(self) -> None:
        await anyio.sleep(A_WHILE)
        wires, self._wires = self._wires, []
        for wire in wires:
            wire.look()


_futures: set[type] = set()


def is_future(awaitable: Any) -> bool:
    """Whether it has begun by itself and can be asked; what another version may give is only awaited."""
    kind = type(awaitable)
    if kind in _futures:
        return True
    if _futures and not hasattr(awaitable, "done"):
        # What it gives for a peer that has left, which is done before it begins.
        return False
    if lacks(awaitable, ("done", "cancel"), "what granian's send() gives"):
        return False
    _futures.add(kind)
    return True


_watches: WeakKeyDictionary[EventLoop, Watch] = WeakKeyDictionary()


def watch_of(loop: EventLoop) -> Watch:
    """The one of this loop."""
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = Watch()
    return watch
