"""The wire to ``--ws websockets``, which uvicorn has deprecated; with ``auto``, older versions still choose it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ...core.frames import Deflate
from ...types import Event, Receive, Send, Transport
from ..traits import TRAITS
from ..transport import LINGER
from .base import UvicornWire, lower, window_bits

__all__ = ["LegacyWire"]


class LegacyWire(UvicornWire):
    """The implementation on the websockets library's legacy server, which runs tasks of its own."""

    __slots__ = ("_closer", "_receive")

    traits = TRAITS["uvicorn websockets"]

    needs = (
        *UvicornWire.needs,
        "state",
        "pings",
        "max_size",
        "extensions",
        "available_extensions",
        "handshake_completed_event",
    )

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol, self._receive_with_reason, send)
        self._receive = receive

    @staticmethod
    def callables(protocol: Any) -> tuple[Receive, Send]:
        return protocol.asgi_receive, protocol.asgi_send

    def limit_message_size(self, limit: int) -> int | None:
        return lower(self.protocol, "max_size", limit)

    def refuse_compression(self) -> bool:
        # The handshake holds this very list and reads it after the application has accepted.
        self.protocol.available_extensions.clear()
        return True

    def refuse_context_takeover(self) -> bool:
        for factory in self.protocol.available_extensions:
            if factory.name == "permessage-deflate":
                factory.server_no_context_takeover = factory.client_no_context_takeover = True
        return True

    async def accept(self, event: Event) -> None:
        await self._send(event)
        # That only lets the handshake go on; a frame written before its answer would destroy it.
        await self.protocol.handshake_completed_event.wait()
        self._attach()
        reading = getattr(self.protocol, "transfer_data_task", None)
        if reading is not None:
            reading.add_done_callback(self._nothing_more)

    async def _receive_with_reason(self) -> Event:
        event = await self._receive()
        if event["type"] == "websocket.disconnect" and self.server_closed():
            # uvicorn closed by itself (for example, a message was too large) and reports only 1006.
            close = self.protocol.close_sent
            return {**event, "code": int(close.code), "reason": close.reason}
        return event

    def let_go(self) -> None:
        # The protocol object is still needed when its tasks end, which is later.
        pass

    def partial(self) -> int:
        # The library reads through an `asyncio.StreamReader`, which does not tell how much it holds.
        return len(getattr(self.protocol.reader, "_buffer", b""))

    def server_closed(self) -> bool:
        return self.protocol.close_sent is not None and self.protocol.close_rcvd is None

    def _nothing_more(self, reading: asyncio.Future[None]) -> None:
        """End the TCP connection when the peer has closed.

        A server should end it first (RFC 6455 section 7.1.1). This implementation waits for the
        peer, and its ``recv()`` with it: a handler would learn up to 10 s late.
        """
        if self.protocol.close_rcvd is not None:
            self.transport.close()
        else:
            asyncio.get_running_loop().call_later(LINGER, self.transport.close)

    def shortcut(self) -> tuple[Transport, Deflate | None] | None:
        # This implementation may send its close while its transport stays open.
        return None

    def is_open(self) -> bool:
        # 1 is ``State.OPEN`` of the websockets library.
        return not self._closed and self.protocol.state == 1 and not self.transport.is_closing()

    def ping(self, payload: bytes) -> bool:
        if not self.is_open():
            return True
        pong: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        # The library fails all its pings when the connection ends, which is no pong.
        pong.add_done_callback(lambda done: done.cancelled() or done.exception() or self.on_pong(payload))
        # ping() itself would wait behind a stalled peer.
        self.protocol.pings[payload] = (pong, time.perf_counter())
        return super().ping(payload)

    async def close(self, code: int, reason: str) -> None:
        event = {"type": "websocket.close", "code": code, "reason": reason}
        # The library's close() returns when the TCP connection has ended, up to 20 s later; the frame is what counts.
        self._closer = asyncio.ensure_future(self._send(event))
        self._closer.add_done_callback(lambda done: done.cancelled() or done.exception())
        # The library leaves this state (``State.OPEN``) in the same step in which it writes the frame.
        while self.protocol.state == 1 and not self._closer.done():
            await asyncio.sleep(0)

    def _negotiated_bits(self) -> int:
        return window_bits(self.protocol.extensions)
