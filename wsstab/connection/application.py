"""The handler's side of a connection: the ASGI ``send`` that stands in for the server's.

Its ASGI ``receive`` is `wsstab.connection.receiver.Receiver.receive`.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio.lowlevel

from ..close import VANISHED, Cause, CloseCode, requested
from ..core.frames import Outgoing
from ..core.lifecycle import InboundState, Transition
from ..errors import PeerGoneError
from ..payload import encode
from ..types import Event
from .sender import CHECKPOINT_EVERY, SentAfterCloseError

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Application", "current_connection"]

logger = logging.getLogger("wsstab")

current_connection: ContextVar[Connection | None] = ContextVar("wsstab_connection", default=None)
"""The connection whose handler runs this code."""

LONGEST_WAY_TO_THE_END = 1.0
"""Seconds in which a handler that sends to its own peer, which has left, should come to receive the disconnect."""


class Application:
    """What a handler does with its connection.

    Args:
        connection: the connection.
        promised: whether the server's version of ASGI promises an error of a ``send`` to a peer that has left.

    Attributes:
        end_told: whether the handler has waited for the end of the connection, and so knows of it.
    """

    __slots__ = ("_passed_over", "_passing_over_since", "_promised", "connection", "end_told")

    def __init__(self, connection: Connection, promised: bool = True) -> None:
        self.connection = connection
        self.end_told = False
        self._promised = promised
        self._passed_over = 0
        self._passing_over_since = 0.0

    async def send(self, event: Event) -> None:
        """The ASGI ``send`` of the handler.

        A message for a connection that is over raises in its own handler. In the handler of another it is dropped and
        counted: that one has done nothing wrong, and the handler of this one learns of the end anyway. Elsewhere (a
        request, a task of the application) it raises where the server's version of ASGI promises that.

        Raises:
            PeerGoneError: the peer has left, or the connection was closed under the handler.
            RuntimeError: the event is illegal now.
        """
        kind = event["type"]
        try:
            if kind == "websocket.send":
                sender, message = self.connection.sender, outgoing_of(event)
                if sender.streak >= CHECKPOINT_EVERY:
                    await sender.send(message)
                elif not sender.send_at_once(message):
                    await sender.send_on(message)
            elif kind == "websocket.close":
                await self._close(event)
            elif kind == "websocket.accept":
                await self._accept(event)
            elif kind.startswith("websocket.http.response."):
                await self._deny(event)
            else:
                raise RuntimeError(f"Unexpected ASGI message {kind!r}.")
        except (PeerGoneError, SentAfterCloseError):
            if kind != "websocket.send" or self._must_be_told():
                raise
            await self._pass_over()
        except ReferenceError:
            if self._is_kept():
                # It is of somebody between the handler and the server.
                raise
            # Somebody kept this `send` and not the connection. Closing twice is not an error.
            if kind == "websocket.close":
                return
            if kind != "websocket.send" or self._must_be_told():
                raise PeerGoneError("the connection has ended") from None
            await self._pass_over()

    def _is_kept(self) -> bool:
        """Whether the connection is still there, to which this refers weakly once it is over."""
        try:
            return bool(self.connection.id)
        except ReferenceError:
            return False

    def _must_be_told(self) -> bool:
        """Whether who sends to a connection that is over gets an error of it."""
        sending = current_connection.get()
        if sending is None:
            return self._promised
        return sending.application is self and (self._promised or not self._is_to_hear_the_end())

    def _is_to_hear_the_end(self) -> bool:
        """Whether the handler may yet come to ``receive()``, where its disconnect waits; bounded, it may never come.

        Where no error is promised, frameworks clean up when they receive the disconnect, and not when a send fails.
        """
        close = self.connection.ending.close
        # What we close ourselves, bare servers do not: no framework counts on its end.
        left = close is None or close.cause in (Cause.CLIENT, Cause.SERVER)
        if not left or self.connection.lifecycle.inbound is InboundState.ENDED:
            return False
        if self.end_told and not self.connection.receiver.handler_reads:
            return False
        now = self.connection.loop.time()
        if not self._passed_over:
            self._passing_over_since = now
        self._passed_over += 1
        return self._passed_over < CHECKPOINT_EVERY and now - self._passing_over_since < LONGEST_WAY_TO_THE_END

    async def _pass_over(self) -> None:
        """Drop a message for a connection that is over."""
        sending = current_connection.get()
        with contextlib.suppress(ReferenceError):
            owner = sending.owner if sending is not None else self.connection.owner
            owner.missed()
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("> dropped: %s is over", self.connection.log_name(), extra=self.connection.log_fields())
        await anyio.lowlevel.checkpoint()

    async def _accept(self, event: Event) -> None:
        connection = self.connection
        if connection.second_look is not None:
            await connection.second_look.check()
        self._check_not_ended()
        connection.lifecycle.fire(Transition.ACCEPT)
        connection.subprotocol = event.get("subprotocol")
        try:
            await connection.wire.accept(event)
        except OSError as error:
            self._raise_if_gone(error, "the peer left before the handshake was complete")
            raise
        if connection.ending.close is None:
            connection.opens()

    async def _deny(self, event: Event) -> None:
        connection = self.connection
        self._check_not_ended()
        start = event["type"] == "websocket.http.response.start"
        if start:
            connection.lifecycle.fire(Transition.DENY)
            connection.carrier.stop_reading()
        try:
            await connection.wire.deny(event)
        except OSError as error:
            self._raise_if_gone(error, "the peer left before it was refused")
            raise
        if not start and not event.get("more_body", False):
            connection.lifecycle.fire(Transition.DENIED)

    def _raise_if_gone(self, error: OSError, words: str) -> None:
        """Raise ours where the server says by its error that the peer has left."""
        if self.connection.wire.says_gone(error):
            self.connection.ending.learn(VANISHED)
            raise PeerGoneError(words) from error

    async def _close(self, event: Event) -> None:
        connection = self.connection
        if connection.ending.close is None:
            connection.ending.by_handler = True
            connection.ending.begin(requested(event.get("code", CloseCode.NORMAL_CLOSURE), event.get("reason")))
            await connection.ending.latch.wait()

    def _check_not_ended(self) -> None:
        close = self.connection.ending.close
        if close is not None:
            raise PeerGoneError(f"the connection has ended: {int(close.code)} {close.reason}".rstrip())


def outgoing_of(event: Event) -> Outgoing:
    """The message of a ``websocket.send`` event.

    Raises:
        RuntimeError: it has neither text nor bytes.
    """
    data = event.get("bytes")
    if data is None:
        data = event.get("text")
        if data is None:
            raise RuntimeError("websocket.send needs text or bytes")
    return Outgoing(data if type(data) is str else encode(data))
