"""The wire to granian: plain ASGI, because its protocol object is written in Rust and has only two methods.

It is recognised so that the package knows and reports what does not work there: ping, abort and buffer
size. A stalled peer can still be dropped: granian drops a connection whose pending close was cancelled,
once the handler has returned.

Its ``send()`` is not a coroutine: it begins at once and returns a future, which granian's threads complete.
A single message therefore needs no task of ours; it is enough to check whether the previous one is done.

Nothing private is used. Tried with granian 2.8.0 to 2.8.9.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from ..core.frames import Block, Outgoing
from ..loop.tasks import EventLoop, current_loop
from ..types import Receive, Scope, Send
from .asgi import AsgiWire
from .base import lacks, nothing_comes, nothing_goes, owner_of
from .traits import TRAITS

__all__ = ["GranianWire", "recognise"]

A_WHILE = 0.05
"""Seconds in which a close begins to wait for the peer, and in which a message is taken by one that reads."""
LONGEST_GRIP = 2.0
"""Seconds that granian's threads are given to let go of what was cancelled: a few milliseconds on an idle machine."""
LOOK_AGAIN = 0.002
"""Seconds between two checks whether the threads have let go."""


def recognise(scope: Scope, receive: Receive, send: Send) -> GranianWire | None:
    """The wire for this connection, ``None`` when ``send`` is not granian's own."""
    protocol = owner_of(send)
    if not type(protocol).__module__.startswith("granian."):
        return None
    return GranianWire(receive, send)


class GranianWire(AsgiWire):
    """Plain ASGI, and a way to drop stalled peers.

    Args:
        receive: granian's ``receive``.
        send: granian's ``send``.
    """

    __slots__ = ("_attempt", "_cancelled", "_ending", "_handed", "_handed_size", "_watch", "_written", "watched")

    traits = TRAITS["granian"]
    begins = False

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self._attempt: anyio.CancelScope | None = None
        self._handed: Any = None
        self._handed_size = 0
        self._written: Any = None
        self._cancelled: tuple[Any, ...] = ()
        self._ending = False
        self._watch = watch_of(current_loop())
        self.watched = False

    def write(self, block: Block) -> None:
        # Only one message, with nothing before it, goes without a task. All else needs a writer that keeps the order.
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
        """Treat the peer as blocked if it has not yet taken the message that was handed over a while ago."""
        self.watched = False
        if self._writer is None and not self._closing and self._on_its_way():
            self._block()
            self._have_a_writer()

    def buffered(self) -> int:
        return super().buffered() + (self._handed_size if self._on_its_way() else 0)

    async def close(self, code: int, reason: str) -> None:
        sent = False
        self._closing = self._ending = True
        # The writer takes over the message on its way, and the close waits for the writer.
        if self._on_its_way():
            self._have_a_writer()
        try:
            with anyio.CancelScope() as self._attempt:
                await super().close(code, reason)
                sent = True
        finally:
            self._attempt = None
            # granian drops a connection whose pending close was cancelled, and _drop() sees to it that one was.
            if not sent:
                await self._drop(code, reason)
            self._ending = False
        if not sent:
            raise ConnectionAbortedError("the peer takes nothing")

    def abort(self) -> None:
        super().abort()
        if self._attempt is not None:
            self._attempt.cancel()

    def abort_is_over(self) -> bool:
        return not self._ending and not self._sends_are_held()

    def _sends_are_held(self) -> bool:
        """Whether granian's threads still refer to a cancelled send, and so have not learnt of the cancellation."""
        self._cancelled = tuple([each for each in self._cancelled if sys.getrefcount(each) > OWN_REFERENCES])
        return bool(self._cancelled)

    def detach(self) -> None:
        super().detach()
        # granian ends the TCP connection when the last reference to its protocol object is gone.
        self.receive, self._send, self._outer = nothing_comes, nothing_goes, nothing_goes

    def _on_its_way(self) -> bool:
        """Whether a message was handed over and is neither taken nor lost. The reader learns of a loss."""
        if self._handed is not None and is_future(self._handed) and self._handed.done():
            self._handed = None
        return self._handed is not None

    async def _write(self, own: Outgoing | None = None) -> None:
        handed, self._handed = self._handed, None
        if handed is not None:
            self._in_flight += self._handed_size
            self._written = handed
            # `_sends_are_held` counts references, and one of this frame would look like one of granian's threads.
            del handed
            try:
                # A loss is not told here: the reader gets the disconnect.
                with contextlib.suppress(Exception):
                    await self._written
            except BaseException:
                # The writer was cancelled, so a close must no longer wait for it.
                self._writer = None
                self._unblock()
                raise
            self._in_flight -= self._handed_size
            self._written = None
        await super()._write(own)

    async def _transmit_block(self, block: Block) -> None:
        for message in block.messages:
            self._written = self._send(message.event())
            await self._written
            self._in_flight -= message.size
        self._written = None

    def _stop_writer(self) -> None:
        super()._stop_writer()
        handed, self._handed = self._handed, None
        self._cancelled += tuple([each for each in (handed, self._written) if each is not None])
        self._written = None
        if handed is not None:
            if is_future(handed):
                handed.cancel()
            else:
                # A coroutine of another version; unless it is closed, Python warns that it was never awaited.
                handed.close()

    async def _drop(self, code: int, reason: str) -> None:
        # The worker panics if its threads still hold a send when the process is told to stop.
        self._stop_writer()
        # Shielded, because the task is often cancelled already. The time is bounded by LONGEST_GRIP.
        with contextlib.suppress(Exception), anyio.CancelScope(shield=True):
            await self._until_released()
            self._cancelled += (self._send({"type": "websocket.close", "code": code, "reason": reason}),)
            with contextlib.suppress(Exception), anyio.move_on_after(A_WHILE):
                await self._cancelled[-1]
            await self._until_released()

    async def _until_released(self) -> None:
        with anyio.move_on_after(LONGEST_GRIP):
            while self._sends_are_held():
                await anyio.sleep(LOOK_AGAIN)


class Watch:
    """The wires of one event loop to which a message was handed recently.

    Each is checked once, a while later, to find a blocked peer even if no further message is sent to it.
    """

    def __init__(self) -> None:
        self._wires: list[GranianWire] = []

    def add(self, wire: GranianWire) -> None:
        """Have `GranianWire.look` called in a while."""
        wire.watched = True
        self._wires.append(wire)
        if len(self._wires) == 1:
            # Loop not stored: this is the value of a table whose key is the loop, and must not keep it alive.
            current_loop().spawn(self._look_at_all)

    async def _look_at_all(self) -> None:
        await anyio.sleep(A_WHILE)
        wires, self._wires = self._wires, []
        for wire in wires:
            wire.look()


OWN_REFERENCES = max(sys.getrefcount(each) for each in [object()])
"""What `sys.getrefcount` returns for an object to which only the sequence of the running loop refers, as in
`GranianWire._sends_are_held`. Measured, because it depends on the version of Python."""
_futures: set[type] = set()


def is_future(awaitable: Any) -> bool:
    """Whether an awaitable of granian's ``send()`` has begun by itself and can be checked.

    If another version of granian returns something else, it is only awaited.
    """
    kind = type(awaitable)
    if kind in _futures:
        return True
    if _futures and not hasattr(awaitable, "done"):
        # For a peer that has left, granian returns an awaitable that is done before it begins.
        return False
    if lacks(awaitable, ("done", "cancel"), "what granian's send() gives"):
        return False
    _futures.add(kind)
    return True


_watches: WeakKeyDictionary[EventLoop, Watch] = WeakKeyDictionary()


def watch_of(loop: EventLoop) -> Watch:
    """The `Watch` of this loop."""
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = Watch()
    return watch
