"""Closing: ends a connection. The first cause decides the close, and everybody is told once.

The decision is synchronous and takes the peer off the lists. Then the queued messages and the close frame are sent,
each with a deadline; a peer that does not take them in time is aborted.
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
from .base import CLOSE_TIMEOUT

if TYPE_CHECKING:
    from .base import PeerBase
    from .carrier import Carrier
    from .heartbeat import Heartbeat
    from .receiver import Receiver
    from .sender import Sender

__all__ = ["Closing"]

logger = logging.getLogger("wsstab")

LONGEST_FLUSH = 60.0
"""Seconds in all to flush the queue before a close, even if the peer steadily takes a little."""
LAST_WORD = 1.0
"""Seconds for the close frame, if the peer has stopped taking the messages before it."""
LEARN_TIMEOUT = 1.0
"""Seconds to wait for the server's disconnect event, after a send has found the peer gone."""


class Closing:
    """How and when one connection ends.

    Args:
        peer: the peer it belongs to.
        carrier: the carrier of the peer.
        sender: the sender of the peer.
        heartbeat: the heartbeat of the peer.
        receiver: the receiver of the peer.

    Attributes:
        close: how the connection ends, once that is decided.
        event: the event that subscribers got, once it has closed.
        latch: set when it has closed.
        cut: whether the close frame could not be sent.
        by_handler: whether the handler closed it by its own ``websocket.close``.
    """

    __slots__ = (
        "_carrier",
        "_error",
        "_heartbeat",
        "_receiver",
        "_sender",
        "_shut",
        "by_handler",
        "close",
        "cut",
        "event",
        "latch",
        "peer",
    )

    def __init__(
        self, peer: PeerBase, carrier: Carrier, sender: Sender, heartbeat: Heartbeat, receiver: Receiver
    ) -> None:
        self.peer = peer
        self._carrier = carrier
        self._sender = sender
        self._heartbeat = heartbeat
        self._receiver = receiver
        self._error: WebSocketStabilizerError | None = None
        self.close: Close | None = None
        self.event: ConnectionClosed | None = None
        self.latch = Latch()
        self.cut = self.by_handler = self._shut = False

    def begin(
        self,
        close: Close,
        *,
        flush: bool = True,
        within: float = CLOSE_TIMEOUT,
        error: WebSocketStabilizerError | None = None,
    ) -> None:
        """Begin to close. Does nothing if a close has begun. Never waits, and works from any event loop or thread.

        Args:
            close: code, reason and cause.
            flush: whether queued messages are sent first.
            within: seconds to send the close, after which the TCP connection is aborted.
            error: the error that caused it, for the event.
        """
        if self.close is not None:
            return
        # Decided before anything is scheduled, so that the first cause wins, whichever thread it comes from.
        self.close = close
        self._error = error
        peer = self.peer
        if not peer.elsewhere():
            self._start(peer, close, flush, within)
        elif not peer.loop.call_from_thread(self._start, peer, close, flush, within):
            # The event loop has ended, and the socket with it.
            self._end(close)

    def abort(self, close: Close, error: WebSocketStabilizerError | None = None) -> None:
        """Abort the TCP connection; if the server does not allow that, close instead."""
        if not self.peer.wire.traits.can_abort:
            self.begin(close, flush=False, error=error)
            return
        if self.close is None:
            self.close = close
            self._error = error
        if self.peer.debug:
            self.peer.trace("x aborted, %s:", quoted(close.reason))
        self.peer.wire.abort()
        self._end(self.close)

    def learn(self, close: Close) -> None:
        """The server says that the peer is gone. If a close has begun, the connection ends by that close."""
        if self.close is None:
            self.close = close
            self._end(close)
            if not self.peer.opened_at:
                self._cancel_later()
        self._linger(CLOSE_TIMEOUT)

    def abandon(self) -> None:
        """The ASGI call has ended. Synchronous, because nothing may be awaited any more."""
        if self.close is None:
            self.close = CANCELLED
        self._end(self.close)
        self._linger(CLOSE_TIMEOUT)
        self._carrier.release()

    async def settled(self) -> None:
        """If the connection is closing, or its peer has left, wait until it has closed."""
        if self.close is not None:
            await self.latch.wait()
        elif self._sender.gone:
            with anyio.move_on_after(LEARN_TIMEOUT):
                await self.latch.wait()

    def _start(self, peer: PeerBase, close: Close, flush: bool, within: float) -> None:
        if self.event is not None:
            # The call came from another thread, after the end.
            return
        if flush and peer.open and peer.services.turn_log.pending:
            peer.services.turn_log.catch_up(peer)
        if peer.debug:
            waiting = len(self._sender.queue)
            peer.trace("= closing with %d by the %s, %d wait:", close.code, close.cause.value, waiting)
        self._stop(peer)
        if not flush:
            self._sender.queue.clear()
        self._sender.wake()
        peer.loop.spawn(self._close, peer, close, within, context=peer.wire.context)

    async def _close(self, peer: PeerBase, close: Close, within: float) -> None:
        sent, flushed = False, True
        try:
            if self._sender.queue and peer.lifecycle.outbound is OutboundState.OPEN:
                with anyio.move_on_after(LONGEST_FLUSH):
                    # So that it is also False if the time for the whole flush runs out.
                    flushed = False
                    flushed = await self._flush(min(within, peer.config.outbound.send_timeout))
                self._sender.queue.clear()
            if not flushed:
                within = min(within, LAST_WORD)
            with anyio.move_on_after(within):
                await self._send(close)
                sent = True
        except Exception as failure:
            # The peer closed first, or the server refused the close: either way the connection has ended.
            if peer.debug:
                peer.trace("- close not sent, %s:", quoted(failure))
        finally:
            if not sent:
                self.cut = True
                if peer.debug:
                    peer.trace("x aborted, the close frame could not be sent:")
                peer.wire.abort()
            elif peer.debug:
                peer.trace("> close %d:", close.code)
            self._end(close)
        if sent:
            self._linger(min(within, CLOSE_TIMEOUT))

    def _linger(self, seconds: float) -> None:
        """Abort the TCP connection after so many seconds: servers wait without end for a peer that reads nothing."""
        peer = self.peer
        if peer.opened_at and peer.wire.traits.can_abort:
            peer.services.abort_later(peer.wire, seconds)

    async def _flush(self, patience: float) -> bool:
        """Wait until the queue is empty, as long as the peer takes some bytes every ``patience`` seconds.

        Returns:
            Whether the peer took all of it.
        """
        sender, wire = self._sender, self.peer.wire
        while sender.queue and wire.is_open():
            unsent = sender.queue.bytes + wire.buffered()
            with anyio.move_on_after(patience) as turn:
                await sender.room_made()
            if turn.cancelled_caught and sender.queue.bytes + wire.buffered() >= unsent:
                break
        return not sender.queue

    async def _send(self, close: Close) -> None:
        peer = self.peer
        accepted = peer.lifecycle.outbound is OutboundState.OPEN
        if not peer.lifecycle.try_fire(Transition.CLOSE):
            return
        if accepted or close.cause is Cause.APPLICATION:
            await self._carrier.close(close)
        else:
            await self._carrier.deny(close)

    def _stop(self, peer: PeerBase) -> None:
        """The milestone ``closing``, reached once: the peer gets no more messages, and its deadlines are cancelled."""
        if self._shut:
            return
        self._shut = True
        peer.open = False
        self._sender.shut()
        self._heartbeat.stop()
        peer.services.forget(peer)
        if peer.opened_at:
            peer.owner.closing(peer)

    def _end(self, close: Close) -> None:
        """The milestone ``closed``, reached once."""
        if self.event is not None:
            return
        peer = self.peer
        self._stop(peer)
        self._sender.queue.clear()
        peer.lifecycle.try_fire(Transition.CLOSED)
        if peer.opened_at:
            peer.owner.closed(peer)
        self.event = self._tell(close)
        self.latch.set()
        self._sender.wake()
        self._tell_handler()
        if not peer.opened_at and close.cause is Cause.STABILIZER:
            # The connection was refused while its handler ran; the handler has nothing left to wait for.
            self._carrier.cancel()

    def _cancel_later(self) -> None:
        """The peer left before accept: cancel its handler when the time for accept is over."""
        peer = self.peer
        seconds, carrier, timekeeper = peer.config.accept_timeout, self._carrier, peer.services.timekeeper
        if seconds is not None:
            # If the call has ended by then, the carrier has no scope, and cancels nothing.
            timekeeper.schedule(lambda now: carrier.cancel(), timekeeper.now + seconds)

    def _tell(self, close: Close) -> ConnectionClosed:
        peer = self.peer
        duration = peer.loop.time() - peer.started if peer.opened_at else 0.0
        event = ConnectionClosed(
            peer.id, peer.client_id, int(close.code), close.reason, close.cause, duration, self._error
        )
        if peer.opened_at:
            peer.owner.emit(event)
            if is_heard(logger, logging.INFO):
                self._log(event)
        return event

    def _log(self, event: ConnectionClosed) -> None:
        peer = self.peer
        received, sent = self._receiver.messages, self._sender.messages
        told = {"code": event.code, "cause": event.cause.value, "duration": round(event.duration, 3)}
        counts = {"messages_received": received, "messages_sent": sent}
        # A reason of the peer or of the handler may hold private data; ours says what to change.
        why = f": {quoted(event.reason)}" if event.reason and event.cause is Cause.STABILIZER else ""
        logger.info(
            "= closed %s after %.1f s: %d by the %s, %d in, %d out%s",
            *(peer.log_name(), event.duration, event.code, event.cause.value, received, sent, why),
            extra={**peer.log_fields(), **told, **counts},
        )

    def _tell_handler(self) -> None:
        """Put the disconnect into the inbox, for a handler that waits there."""
        carrier, receiver = self._carrier, self._receiver
        if carrier.reading and carrier.direct and not receiver.inbox:
            return  # The server's own receive() returns the disconnect.
        if self.peer.lifecycle.inbound is not InboundState.ENDED:
            receiver.disconnect()
            carrier.notify()
