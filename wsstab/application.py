"""The handler's side of a connection: the ASGI ``send`` that stands in for the server's.

Its ASGI ``receive`` is `wsstab.receiver.Receiver.receive`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .close import CloseCode, requested
from .core.lifecycle import Event as Happening
from .errors import PeerGoneError
from .payload import Outgoing, encode
from .sender import CHECKPOINT_EVERY
from .types import Event

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Application"]


class Application:
    """What a handler does with its connection.

    Args:
        connection: the connection.
    """

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def send(self, event: Event) -> None:
        """The ASGI ``send`` of the handler.

        Raises:
            PeerGoneError: the peer has left, or the connection was closed under the handler.
            RuntimeError: the event is illegal now.
        """
        kind = event["type"]
        try:
            if kind == "websocket.send":
                sender, message = self.connection.sender, outgoing_of(event)
                if sender.streak >= CHECKPOINT_EVERY or not sender.send_at_once(message):
                    await sender.send(message)
            elif kind == "websocket.close":
                await self._close(event)
            elif kind == "websocket.accept":
                await self._accept(event)
            elif kind.startswith("websocket.http.response."):
                await self._deny(event)
            else:
                raise RuntimeError(f"Unexpected ASGI message {kind!r}.")
        except ReferenceError:
            # Kept by somebody who did not keep the connection. To close it again was never an error.
            if kind != "websocket.close":
                raise PeerGoneError("the connection has ended") from None

    async def _accept(self, event: Event) -> None:
        connection = self.connection
        self._check_not_ended()
        connection.lifecycle.fire(Happening.ACCEPT)
        connection.subprotocol = event.get("subprotocol")
        try:
            await connection.wire.accept(event)
        except OSError as error:
            raise PeerGoneError("the peer left before the handshake was complete") from error
        if connection.ending.close is None:
            connection.opens()

    async def _deny(self, event: Event) -> None:
        connection = self.connection
        self._check_not_ended()
        start = event["type"] == "websocket.http.response.start"
        if start:
            connection.lifecycle.fire(Happening.DENY)
            connection.carrier.stop_reading()
        await connection.wire.deny(event)
        if not start and not event.get("more_body", False):
            connection.lifecycle.fire(Happening.DENIED)

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
