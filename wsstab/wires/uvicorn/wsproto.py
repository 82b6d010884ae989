"""The wire to ``--ws wsproto`` of uvicorn."""

from __future__ import annotations

import copy
from typing import Any

from ...types import Event, Receive, Send
from ..lean import make_lean
from ..traits import TRAITS
from ..transport import DEPARTED
from ..wsproto import bound_inflating, undecoded, window_bits
from .base import ObservedUvicorn, UvicornWire, lower

__all__ = ["WsprotoWire"]


MOST_EARLY = 65_536
"""Bytes kept from a peer that is not accepted yet; above this, reading pauses until the peer is accepted."""


class Early:
    """Keeps the data that a peer sends before it is accepted: wsproto takes it for an error, and uvicorn then ends TCP.

    Args:
        protocol: uvicorn's protocol object.
    """

    __slots__ = ("_connection", "_data", "_transport")

    def __init__(self, protocol: Any) -> None:
        self._connection = protocol.conn
        self._transport = protocol.transport
        self._data = bytearray()
        # Not the protocol's own data_received(), which uvloop looks up only once.
        self._connection.receive_data = self._keep

    def _keep(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > MOST_EARLY:
            self._transport.pause_reading()

    def end(self, protocol: Any) -> None:
        """Stop keeping data: hand it over to the accepted connection, or discard it if ``protocol`` is ``None``."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # Deleting the attribute of the object brings back the method of its class.
        connection.__dict__.pop("receive_data", None)
        if self._data and protocol is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            protocol.data_received(bytes(self._data))
        self._transport = DEPARTED
        self._data = bytearray()


class ObservedWsproto(ObservedUvicorn):
    """The methods of the protocol object for wsproto."""

    wsstab_payload = "payload"


class WsprotoWire(UvicornWire):
    """The implementation on wsproto."""

    __slots__ = ("_early",)

    traits = TRAITS["uvicorn wsproto"]
    observer = ObservedWsproto

    needs = (*UvicornWire.needs, "conn", "config", "buffer", "queue", "writable", "handle_pong")

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol, receive, send)
        make_lean(protocol)
        self._early = Early(protocol)

    async def accept(self, event: Event) -> None:
        await super().accept(event)
        self._early.end(self.protocol)

    def detach(self) -> None:
        if self.protocol is not DEPARTED:
            self._early.end(None)
        super().detach()

    def limit_message_size(self, limit: int) -> int | None:
        return lower(self.protocol.buffer, "max_length", limit)

    def refuse_compression(self) -> bool:
        config = self.protocol.config
        plain = getattr(config, "_wsstab_plain", None)
        if plain is None:
            # One copy for all connections of this server: the switch is only in the configuration.
            plain = config._wsstab_plain = copy.copy(config)
            plain.ws_per_message_deflate = False
        self.protocol.config = plain
        return True

    def refuse_context_takeover(self) -> bool:
        connection = self.protocol.conn
        send = connection.send

        def send_answer(event: Any) -> Any:
            # uvicorn creates the extension while it answers, so this is the only moment to configure it.
            del connection.send
            for extension in getattr(event, "extensions", ()):
                if getattr(extension, "name", "") == "permessage-deflate":
                    extension.server_no_context_takeover = extension.client_no_context_takeover = True
            return send(event)

        connection.send = send_answer
        return True

    def _attach(self) -> None:
        super()._attach()
        buffer = self.protocol.buffer
        bound_inflating(getattr(self.protocol.conn, "connection", None), lambda: buffer.max_length - buffer.length)

    def _negotiated_bits(self) -> int:
        return window_bits(getattr(self.protocol.conn, "connection", None))

    def partial(self) -> int:
        if self.protocol is DEPARTED:
            return 0
        return undecoded(getattr(self.protocol.conn, "connection", None)) + int(self.protocol.buffer.length)

    def server_closed(self) -> bool:
        return self.protocol is not DEPARTED and bool(self.protocol.close_sent)
