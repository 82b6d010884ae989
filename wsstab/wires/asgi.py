"""The wire that works on every server: one ``send()`` of plain ASGI for each message.

At most one ``send()`` is pending at a time. A handler's own send is awaited in place; what others
send is awaited by a writer task that exists only while there is something to write.
"""

from __future__ import annotations

from collections import deque

import anyio

from ..payload import Outgoing
from ..tasks import Task, current_loop
from ..types import Event, Receive, Send
from .base import Block, Wire

__all__ = ["AsgiWire"]


class AsgiWire(Wire):
    """Plain ASGI: no ping, no buffer size, no abort.

    Args:
        receive: the server's.
        send: the server's.
    """

    __slots__ = ("_closing", "_idle", "_in_flight", "_own_send", "_receive", "_send", "_waiting", "_writer")

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__()
        self._receive = receive
        self._send = send
        self._waiting: deque[Block] = deque()
        self._in_flight = 0
        self._writer: Task | None = None
        self._closing = False
        self._own_send: anyio.CancelScope | None = None
        self._idle: anyio.Event | None = None

    async def receive(self) -> Event:
        return await self._receive()

    async def accept(self, event: Event) -> None:
        await self._send(event)

    async def deny(self, event: Event) -> None:
        await self._send(event)

    def write(self, block: Block) -> None:
        self._waiting.append(block)
        self._in_flight += block.size
        self._block()
        if self._writer is None:
            self._writer = current_loop().spawn(self._write)

    async def send(self, message: Outgoing) -> None:
        self._in_flight += message.size
        self._block()
        try:
            with anyio.CancelScope() as self._own_send:
                await self._transmit(message)
                return
            raise ConnectionAbortedError("the peer takes nothing")
        finally:
            self._own_send = None
            # A close that came in between has given up what was in flight.
            self._in_flight = max(self._in_flight - message.size, 0)
            self._unblock()

    def is_open(self) -> bool:
        return not self._closing

    def buffered(self) -> int:
        return self._in_flight

    async def close(self, code: int, reason: str) -> None:
        # After all that was written. A writer that is stuck is cancelled by abort(), when the caller's time is over.
        self._closing = True
        await self._until_idle()
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def abort(self) -> None:
        self._stop_writer()

    def detach(self) -> None:
        super().detach()
        self._stop_writer()

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._transmit_block(self._waiting.popleft())
        except (OSError, RuntimeError):
            # The peer has left, or the server closed first: the reader is told of it.
            self._waiting.clear()
            self._in_flight = 0
        finally:
            self._writer = None
            self._unblock()

    async def _transmit_block(self, block: Block) -> None:
        for message in block.messages:
            await self._transmit(message)
            self._in_flight -= message.size

    async def _transmit(self, message: Outgoing) -> None:
        await self._send(message.event())

    async def _until_idle(self) -> None:
        while self._writer is not None or self._own_send is not None:
            self._idle = anyio.Event()
            await self._idle.wait()

    def _block(self) -> None:
        if self.writable:
            self.writable = False
            self.on_blocked()

    def _unblock(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.set()
        if not self._closing and not self._waiting:
            self.writable = True
            self.on_writable()

    def _stop_writer(self) -> None:
        self._closing = True
        self.writable = False
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        if self._own_send is not None:
            self._own_send.cancel()
        self._waiting.clear()
        self._in_flight = 0
