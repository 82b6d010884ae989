"""The wire that works on every server: one ``send()`` of plain ASGI for each message.

At most one ``send()`` is pending at a time. A writer task awaits it; the task exists only while
messages wait. A handler waits a moment for its own message to be taken, so that it learns of a
failure. The outbound policy handles a message that the peer has not taken by then.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from contextvars import Context, copy_context

import anyio
import anyio.lowlevel

from ..close import RAISED
from ..core.frames import Block, Outgoing
from ..loop.tasks import Task, begin, current_loop, eager_loop
from ..loop.usercode import Uncaught, ends_the_process, is_cancellation
from ..types import Event, Receive, Send
from .base import Wire
from .departure import is_departure

__all__ = ["AsgiWire"]

PRIVATE = 3000
"""The first close code that every server lets an application send (RFC 6455 section 7.4.2)."""
MOMENT = 0.05
"""Seconds that a handler waits for the server to take its message."""


class AtOnce:
    """Placeholder for the event of a handler that does not wait yet; its message may be taken before it has to."""

    def set(self) -> None:
        """Do nothing: no handler waits."""


AT_ONCE = AtOnce()


class AsgiWire(Wire):
    """Plain ASGI: no ping, no buffer size, no abort.

    Args:
        receive: the ``receive`` of the server.
        send: the ``send`` of the server.
    """

    passes_others = True

    __slots__ = (
        "_closing",
        "_error_follows",
        "_failure",
        "_idle",
        "_in_flight",
        "_outer",
        "_own",
        "_send",
        "_sending",
        "_waiting",
        "_writer",
        "receive",
    )

    receive: Receive
    begins = True
    """Whether a send usually completes without suspending."""

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__()
        self.receive = receive
        self._send = self._outer = send
        self._waiting: deque[Block] = deque()
        self._in_flight = 0
        self._writer: Task | None = None
        self._closing = self._error_follows = False
        self._sending = False
        # What the handler's own message waits for; ``None`` once the message was taken or lost.
        self._own: anyio.Event | AtOnce | None = None
        self._failure: Exception | None = None
        self._idle: anyio.Event | None = None

    def announce_to(self, send: Send) -> None:
        self._outer = send

    async def accept(self, event: Event) -> None:
        await self._outer(event)

    async def deny(self, event: Event) -> None:
        await self._outer(event)

    def write(self, block: Block) -> None:
        if not self._closing:
            self._give_to_writer(block)

    async def send(self, message: Outgoing) -> None:
        if self._closing:
            return
        if self._sending:
            # Middleware outside ours sends from within its own send, which waits for this one.
            self._give_to_writer(Block((message,)))
            return
        # Most messages are taken before the handler has to wait, and then no event is made.
        self._failure, self._own = None, AT_ONCE
        loop = eager_loop() if self.begins else None
        if loop is not None and self._writer is None:
            self._begin(message, loop)
        else:
            # Middleware outside ours sees the context of the sending handler.
            self._give_to_writer(Block((message,)), copy_context())
            # One turn for the writer, in which it usually gets rid of the message.
            await anyio.lowlevel.checkpoint()
        if self._own is not None:
            own = self._own = anyio.Event()
            # Long enough to learn of a failure. A message that takes longer stays with the writer, and the outbound
            # policy deals with those behind it.
            with anyio.move_on_after(MOMENT):
                await own.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def leave_error_to_server(self) -> None:
        self._error_follows = True

    def says_gone(self, error: Exception) -> bool:
        return is_departure(error, self._send)

    def is_open(self) -> bool:
        return not self._closing

    def buffered(self) -> int:
        return self._in_flight

    async def close(self, code: int, reason: str) -> None:
        # The close goes behind everything that was written. If the writer is stuck, the caller's deadline passes, and
        # its abort() cancels the writer.
        self._closing = True
        await self._until_idle()
        try:
            await self._outer({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            raise
        except Exception:
            # This may be daphne, hidden by other middleware: it takes only 1000 and 3000 to 4999, and raises a bare
            # Exception for any other code.
            if not 1000 < code < PRIVATE:
                raise
            # The server gets the handler's error next, and daphne then closes with 1011 by itself.
            if self._error_follows and code == RAISED.code:
                return
            await self._outer({"type": "websocket.close", "code": PRIVATE + code, "reason": reason})

    def abort(self) -> None:
        self._stop_writer()

    def detach(self) -> None:
        super().detach()
        self._stop_writer()

    def _give_to_writer(self, block: Block, context: Context | None = None) -> None:
        self._waiting.append(block)
        self._in_flight += block.size
        self._block()
        self._have_a_writer(context)

    def _have_a_writer(self, context: Context | None = None) -> None:
        if self._writer is None and not self._sending:
            self._writer = current_loop().spawn(self._write, context=self.context if context is None else context)

    def _begin(self, message: Outgoing, loop: AbstractEventLoop) -> None:
        """Send without a turn of the loop, because few sends have to wait.

        The send still gets its own task, so that one that does wait can be left running or cancelled.
        """
        self._in_flight += message.size
        self._sending = True
        try:
            self._writer = begin(self._write(message), loop)
        finally:
            self._sending = False
        if self._writer is not None:
            self._block()
        elif self._waiting:
            self._have_a_writer()

    async def _write(self, own: Outgoing | None = None) -> None:
        try:
            if own is not None:
                await self._send(own.event())
                self._in_flight -= own.size
                self._taken()
            while self._waiting:
                await self._transmit_block(self._waiting.popleft())
                self._taken()
        except BaseException as error:
            if ends_the_process(error) or is_cancellation(error):
                raise
            # The peer has left, or the server closed first; the reader learns of it.
            failure = error if isinstance(error, Exception) else Uncaught(error)
            self._waiting.clear()
            self._in_flight = 0
            if not self._taken(failure) and not self.says_gone(failure):
                self.on_failed(failure)
        finally:
            # Before _unblock(): its callback writes the queued messages, and they need a new writer.
            self._writer = None
            self._unblock()

    async def _transmit_block(self, block: Block) -> None:
        for message in block.messages:
            await self._send(message.event())
            self._in_flight -= message.size

    async def _until_idle(self) -> None:
        while self._writer is not None:
            if self._idle is None:
                self._idle = anyio.Event()
            await self._idle.wait()

    def _taken(self, failure: Exception | None = None) -> bool:
        """Report that the handler's message, always the first, was taken or lost; return whether a handler waits."""
        own, self._own = self._own, None
        if own is not None:
            self._failure = failure
            own.set()
        return own is not None

    def _block(self) -> None:
        if self.writable:
            self.writable = False
            self.on_blocked()

    def _unblock(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.set()
        if not self._closing and not self._waiting and not self.writable:
            self.writable = True
            self.on_writable()

    def _stop_writer(self) -> None:
        self._closing = True
        self.writable = False
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        # A handler that waits for its message is told that the peer did not take it.
        self._taken(ConnectionAbortedError("the peer takes nothing"))
        self._waiting.clear()
        self._in_flight = 0
