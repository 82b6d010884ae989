"""The wire to granian: plain ASGI, for its protocol object is of Rust and has but two methods.

Recognised so that the package knows what does not work there, and can say so. No ping, no abort, no
buffer size. A peer that takes nothing is let go of all the same: granian drops a connection whose
close was cancelled on its way, once the handler has returned.

Nothing private is used. Tried with granian 2.8.0 to 2.8.7.
"""

from __future__ import annotations

import contextlib

import anyio

from ..types import Receive, Scope, Send
from .asgi import AsgiWire
from .base import nothing_comes, nothing_goes
from .traits import TRAITS

__all__ = ["GranianWire", "recognise"]

A_WHILE = 0.05
"""Seconds in which granian's threads learn what was cancelled, and a close begins to wait for the peer."""


def recognise(scope: Scope, receive: Receive, send: Send) -> GranianWire | None:
    """The wire for this connection, ``None`` when ``send`` is not granian's own."""
    protocol = getattr(send, "__self__", None)
    if not type(protocol).__module__.startswith("granian."):
        return None
    return GranianWire(receive, send)


class GranianWire(AsgiWire):
    """Plain ASGI, and a way to drop who takes nothing.

    Args:
        receive: granian's.
        send: granian's.
    """

    __slots__ = ("_attempt",)

    traits = TRAITS["granian"]

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self._attempt: anyio.CancelScope | None = None

    async def close(self, code: int, reason: str) -> None:
        sent = False
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
        self.receive, self._send = nothing_comes, nothing_goes

    async def _drop(self, code: int, reason: str) -> None:
        # A send that is blocked when the process is told to stop makes the worker panic.
        self._stop_writer()
        with contextlib.suppress(Exception), anyio.CancelScope(shield=True):
            # Each step takes its threads a while.
            await anyio.sleep(A_WHILE)
            with anyio.move_on_after(A_WHILE):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
            await anyio.sleep(A_WHILE)
