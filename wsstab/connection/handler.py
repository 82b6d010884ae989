"""Handler: the ASGI ``receive`` and ``send`` that the application gets in place of the server's.

The handler refers to its peer, and no part of the peer refers to the handler. An application that keeps ``receive`` or
``send`` after the end thereby keeps the peer, and gets the error of a closed connection.
"""

from __future__ import annotations

from collections import deque

import anyio
import anyio.lowlevel

from ..close import VANISHED, Cause, CloseCode, requested
from ..core.frames import Outgoing
from ..core.lifecycle import InboundState, Transition
from ..errors import PeerGoneError
from ..payload import encode
from ..types import Event
from .peer import Peer, current_peer
from .sender import CHECKPOINT_EVERY, SentAfterCloseError

__all__ = ["ENDED", "Handler", "ReceivedAfterEndError", "outgoing_of"]

LONGEST_WAY_TO_THE_END = 1.0
"""Seconds that a handler which sends to its own departed peer gets to come to ``receive()``."""
TRANSITIONS = {"websocket.connect": Transition.CONNECT, "websocket.disconnect": Transition.DISCONNECT}
ENDED = 'Cannot call "receive" once a disconnect message has been received.'


class ReceivedAfterEndError(RuntimeError):
    """The handler receives again, after it has received the disconnect."""


class Handler:
    """The application's side of one peer.

    Args:
        peer: the peer.
        promised: whether the server's version of ASGI promises an error for a ``send`` to a peer that has left.
    """

    __slots__ = ("_carrier", "_passed_over", "_passing_over_since", "_promised", "_receiver", "_sender", "peer")

    def __init__(self, peer: Peer, promised: bool = True) -> None:
        self.peer = peer
        self._carrier = peer.carrier
        self._receiver = peer.receiver
        self._sender = peer.sender
        self._promised = promised
        self._passed_over = 0
        self._passing_over_since = 0.0

    async def receive(self) -> Event:
        """The ASGI ``receive`` of the handler.

        Raises:
            RuntimeError: the disconnect was delivered before.
        """
        receiver, carrier = self._receiver, self._carrier
        if not receiver.handler_reads:
            self._comes_to_read()
        self._sender.streak = 0
        event: Event | None = None
        while event is None:
            if receiver.inbox.waiting is not None:
                if receiver.due:
                    await self._time_has_come(receiver.due)
                event = receiver.take()
            elif carrier.begin_reading():
                # Not in a method of the carrier: that would cost one more coroutine for every idle connection.
                try:
                    event = await carrier.wire.receive()
                finally:
                    carrier.end_reading()
                event = receiver.admit(event)
            else:
                await carrier.arrival()
        if event["type"] != "websocket.receive":
            transition = TRANSITIONS.get(event["type"])
            # Events of any other type are passed on as they are.
            if transition is not None and self.peer.lifecycle.try_fire(transition):
                receiver.handler_reads = False
        return event

    def _comes_to_read(self) -> None:
        inbound = self.peer.lifecycle.inbound
        if inbound is InboundState.ENDED:
            raise ReceivedAfterEndError(ENDED)
        self._receiver.handler_reads = inbound is InboundState.OPEN

    async def _time_has_come(self, due: deque[float]) -> None:
        """Wait until the rate limit lets the oldest message through, or the connection has ended."""
        while not self._receiver.over and (wait := due[0] - self.peer.loop.time()) > 0:
            with anyio.move_on_after(wait):
                await self._carrier.arrival()

    async def send(self, event: Event) -> None:
        """The ASGI ``send`` of the handler.

        A message for a closed connection raises in the connection's own handler. In the handler of another connection
        it is dropped and counted: that handler has done nothing wrong. In any other task it raises if the server's
        version of ASGI promises that.

        Raises:
            PeerGoneError: the peer has left, or the connection was closed under the handler.
            RuntimeError: the event is illegal now.
        """
        kind = event["type"]
        try:
            if kind == "websocket.send":
                sender, message = self._sender, outgoing_of(event)
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

    def _must_be_told(self) -> bool:
        """Whether a send to this closed connection raises in the running code."""
        sending = current_peer.get()
        if sending is None:
            return self._promised
        return sending is self.peer and (self._promised or not self._is_to_hear_the_end())

    def _is_to_hear_the_end(self) -> bool:
        """Whether the handler may still come to ``receive()``, where its disconnect waits. Bounded: it may never come.

        On servers that promise no error, frameworks clean up when they receive the disconnect, not when a send fails.
        """
        close = self.peer.closing.close
        # A bare server would not have closed what we close, so no framework relies on that disconnect.
        left = close is None or close.cause in (Cause.CLIENT, Cause.SERVER)
        if not left or self.peer.lifecycle.inbound is InboundState.ENDED:
            return False
        if self._receiver.end_told and not self._receiver.handler_reads:
            return False
        now = self.peer.loop.time()
        if not self._passed_over:
            self._passing_over_since = now
        self._passed_over += 1
        return self._passed_over < CHECKPOINT_EVERY and now - self._passing_over_since < LONGEST_WAY_TO_THE_END

    async def _pass_over(self) -> None:
        """Drop a message for a closed connection."""
        sending, peer = current_peer.get(), self.peer
        (sending or peer).owner.missed()
        if peer.debug:
            peer.trace("> dropped, for it is over:")
        # A handler that sends in a loop must still let other tasks run.
        await anyio.lowlevel.checkpoint()

    async def _accept(self, event: Event) -> None:
        peer = self.peer
        if peer.second_look is not None:
            await peer.second_look.check()
        self._check_not_ended()
        peer.lifecycle.fire(Transition.ACCEPT)
        peer.subprotocol = event.get("subprotocol")
        try:
            await peer.wire.accept(event)
        except OSError as error:
            self._raise_if_gone(error, "the peer left before the handshake was complete")
            raise
        if peer.debug:
            # Not which subprotocol: some applications pass a token in its place.
            with_or_without = "without a" if peer.subprotocol is None else "with a"
            peer.trace("> accepted %s subprotocol, by %s:", with_or_without, peer.wire.traits.server)
        if peer.closing.close is None:
            peer.opens()

    async def _deny(self, event: Event) -> None:
        peer = self.peer
        self._check_not_ended()
        start = event["type"] == "websocket.http.response.start"
        if start:
            peer.lifecycle.fire(Transition.DENY)
            peer.carrier.stop_reading()
        try:
            await peer.wire.deny(event)
        except OSError as error:
            self._raise_if_gone(error, "the peer left before it was refused")
            raise
        if start and peer.debug:
            peer.trace("> denied with %s:", event.get("status"))
        if not start and not event.get("more_body", False):
            peer.lifecycle.fire(Transition.DENIED)

    def _raise_if_gone(self, error: OSError, words: str) -> None:
        """Raise `PeerGoneError` if the error of the server means that the peer has left."""
        if self.peer.wire.says_gone(error):
            self.peer.closing.learn(VANISHED)
            raise PeerGoneError(words) from error

    async def _close(self, event: Event) -> None:
        peer = self.peer
        if peer.closing.close is None:
            peer.closing.by_handler = True
            peer.closing.begin(requested(event.get("code", CloseCode.NORMAL_CLOSURE), event.get("reason")))
            await peer.closing.latch.wait()

    def _check_not_ended(self) -> None:
        close = self.peer.closing.close
        if close is not None:
            raise PeerGoneError(f"the connection has ended: {int(close.code)} {close.reason}".rstrip())


def outgoing_of(event: Event) -> Outgoing:
    """The message in a ``websocket.send`` event.

    Raises:
        RuntimeError: the event has neither text nor bytes.
    """
    data = event.get("bytes")
    if data is None:
        data = event.get("text")
        if data is None:
            raise RuntimeError("websocket.send needs text or bytes")
    # The exact type, because encode() makes plain text of an enum, or of another class derived from str.
    return Outgoing(data if type(data) is str else encode(data))
