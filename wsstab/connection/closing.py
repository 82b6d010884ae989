"""How a connection ends: the first cause decides, once, and everybody is told once.

The decision is synchronous and takes the connection off the lists. Then the queued messages go out, and the
close frame after them, each with a deadline; a peer that takes neither in time is aborted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from ..close import CANCELLED, Cause, Close
from ..core.lifecycle import InboundState, OutboundState, Transition
from ..errors import WebSocketStabilizerError
from ..events import ConnectionClosed
from ..levels import is_heard
from ..loop.tasks import Latch
from ..wording import quoted

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["CLOSE_TIMEOUT", "Ending"]

logger = logging.getLogger("wsstab")

CLOSE_TIMEOUT = 10.0
"""Seconds for a closing handshake; uvicorn and websockets wait as long."""
LONGEST_FLUSH = 60.0
"""Seconds in all for what was queued before a close, however steadily the peer takes a little."""
LAST_WORD = 1.0
"""Seconds for the close frame of a peer that has stopped taking what is before it."""
LEARN_TIMEOUT = 1.0
"""Seconds in which the server tells how a peer left that a send found gone."""


class Ending:
    """How and when one connection ends.

    Args:
        connection: the connection it belongs to.

    Attributes:
        close: how it ends, once that is decided.
        event: what everyone was told, once it is over.
        latch: set when it is over.
        cut: whether the close frame did not get out.
        by_handler: whether the handler closed it by its own ``websocket.close``.
    """

    __slots__ = ("_error", "by_handler", "close", "connection", "cut", "event", "latch")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._error: WebSocketStabilizerError | None = None
        self.close: Close | None = None
        self.event: ConnectionClosed | None = None
        self.latch = Latch()
        self.cut = self.by_handler = False

    def begin(
        self,
        close: Close,
        *,
        flush: bool = True,
        within: float = CLOSE_TIMEOUT,
        error: WebSocketStabilizerError | None = None,
    ) -> None:
        """Begin to close; once it has begun, nothing happens. Never waits, and works from any loop or thread.

        Args:
            close: code, reason and cause.
            flush: whether what is queued goes out first.
            within: seconds for the close to get out, after which the TCP connection is aborted.
            error: what made it necessary.
        """
        if self.close is not None:
            return
        self.close = close
        self._error = error
        connection = self.connection
        if not connection.elsewhere():
            self._start(connection, close, flush, within)
        elif not connection.loop.call_from_thread(self._start, connection, close, flush, within):
            # Its event loop has ended, and its socket with it.
            self._finish(close)

    def abort(self, close: Close, error: WebSocketStabilizerError | None = None) -> None:
        """End it at once, where the server lets us; elsewhere try to close."""
        if not self.connection.wire.traits.can_abort:
            self.begin(close, flush=False, error=error)
            return
        if self.close is None:
            self.close = close
            self._error = error
        self.connection.wire.abort()
        self._finish(self.close)

    def learn(self, close: Close) -> None:
        """The server says that the peer is gone; when we are closing already, that is how it ends."""
        if self.close is None:
            self.close = close
            self._finish(close)
            if not self.connection.opened_at:
                self._cancel_later()
        self._linger(CLOSE_TIMEOUT)

    def abandon(self) -> None:
        """The ASGI call is over, whatever became of it. Synchronous: nothing may be awaited any more."""
        if self.close is None:
            self.close = CANCELLED
        self._finish(self.close)
        self._linger(CLOSE_TIMEOUT)
        self.connection.carrier.release()

    async def settled(self) -> None:
        """If it is closing, or its peer has left, wait until that is done and known."""
        if self.close is not None:
            await self.latch.wait()
        elif self.connection.sender.gone:
            with anyio.move_on_after(LEARN_TIMEOUT):
                await self.latch.wait()

    def _start(self, connection: Connection, close: Close, flush: bool, within: float) -> None:
        if self.event is not None:
            # It came from another thread, and too late.
            return
        if flush and connection.open and connection.services.turn_log.pending:
            connection.services.turn_log.catch_up(connection)
        connection.shut()
        self._forget()
        if not flush:
            connection.sender.queue.clear()
        connection.sender.wake()
        connection.loop.spawn(self._close, connection, close, within, context=connection.wire.context)

    async def _close(self, connection: Connection, close: Close, within: float) -> None:
        sent, flushed = False, True
        try:
            if connection.sender.queue and connection.lifecycle.outbound is OutboundState.OPEN:
                with anyio.move_on_after(LONGEST_FLUSH):
                    flushed = False
                    flushed = await self._flush(min(within, connection.config.outbound.send_timeout))
                connection.sender.queue.clear()
            if not flushed:
                within = min(within, LAST_WORD)
            with anyio.move_on_after(within):
                await self._send(close)
                sent = True
        except Exception as failure:
            # The peer was faster, or the server found the close illegal: either way it is over.
            logger.debug("- close not sent to %s: %s", connection.log_name(), failure, extra=connection.log_fields())
        finally:
            if not sent:
                self.cut = True
                connection.wire.abort()
            self._finish(close)
        if sent:
            self._linger(min(within, CLOSE_TIMEOUT))

    def _linger(self, seconds: float) -> None:
        """The server closes, but waits for a peer that takes nothing for ever: not longer than this."""
        connection = self.connection
        if connection.opened_at and connection.wire.traits.can_abort:
            connection.services.abort_later(connection.wire, seconds)

    async def _flush(self, patience: float) -> bool:
        """Wait until nothing is queued, as long as the peer takes some bytes every ``patience`` seconds.

        Returns:
            Whether it took all of it.
        """
        sender, wire = self.connection.sender, self.connection.wire
        while sender.queue and wire.is_open():
            unsent = sender.queue.bytes + wire.buffered()
            with anyio.move_on_after(patience) as turn:
                await sender.room_made()
            if turn.cancelled_caught and sender.queue.bytes + wire.buffered() >= unsent:
                break
        return not sender.queue

    async def _send(self, close: Close) -> None:
        connection = self.connection
        accepted = connection.lifecycle.outbound is OutboundState.OPEN
        if not connection.lifecycle.try_fire(Transition.CLOSE):
            return
        if accepted or close.cause is Cause.APPLICATION:
            await connection.carrier.close(close)
        else:
            await connection.carrier.deny(close)

    def _finish(self, close: Close) -> None:
        if self.event is not None:
            return
        connection = self.connection
        connection.shut()
        self._forget()
        connection.sender.queue.clear()
        connection.lifecycle.try_fire(Transition.CLOSED)
        connection.owner.account(connection)
        self.event = self._tell(close)
        self.latch.set()
        connection.sender.wake()
        self._tell_handler()
        if not connection.opened_at and close.cause is Cause.STABILIZER:
            # It was refused under its handler, which has nothing to wait for.
            connection.carrier.cancel()

    def _cancel_later(self) -> None:
        """The peer left before accept: its handler has as long as it would have had to accept."""
        connection = self.connection
        seconds, carrier, timekeeper = (
            connection.config.accept_timeout,
            connection.carrier,
            connection.services.timekeeper,
        )
        if seconds is not None:
            # A call that is over by then has no scope any more.
            timekeeper.schedule(lambda now: carrier.cancel(), timekeeper.now + seconds)

    def _tell(self, close: Close) -> ConnectionClosed:
        connection = self.connection
        duration = connection.loop.time() - connection.started if connection.opened_at else 0.0
        event = ConnectionClosed(
            connection.id, connection.client_id, int(close.code), close.reason, close.cause, duration, self._error
        )
        if connection.opened_at:
            connection.owner.emit(event)
            if is_heard(logger, logging.INFO):
                self._log(event)
        return event

    def _log(self, event: ConnectionClosed) -> None:
        connection = self.connection
        received, sent = connection.receiver.messages, connection.sender.messages
        told = {"code": event.code, "cause": event.cause.value, "duration": round(event.duration, 3)}
        counts = {"messages_received": received, "messages_sent": sent}
        # A reason of the peer or of the handler may tell anything; ours tells what to change.
        why = f": {quoted(event.reason)}" if event.reason and event.cause is Cause.STABILIZER else ""
        logger.info(
            "= closed %s after %.1f s: %d by the %s, %d in, %d out%s",
            *(connection.log_name(), event.duration, event.code, event.cause.value, received, sent, why),
            extra={**connection.log_fields(), **told, **counts},
        )

    def _tell_handler(self) -> None:
        """Let a handler that waits for the inbox find its disconnect there."""
        connection = self.connection
        carrier, receiver = connection.carrier, connection.receiver
        if carrier.reading and carrier.direct and not receiver.inbox:
            return  # The server wakes whoever is in its receive().
        if connection.lifecycle.inbound is not InboundState.ENDED:
            receiver.disconnect()
            carrier.notify()

    def _forget(self) -> None:
        connection = self.connection
        connection.heartbeat.stop()
        connection.services.forget(connection)
        connection.owner.forget(connection)
