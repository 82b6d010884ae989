"""The wire to ``--ws wsproto`` of uvicorn."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

from ...types import Receive, Send
from ..lean import make_lean
from ..traits import TRAITS
from ..transport import DEPARTED, observed
from ..wsproto import bound_inflating, undecoded, window_bits
from .base import UvicornWire, lower

__all__ = ["WsprotoWire"]


class WsprotoWire(UvicornWire):
    """The implementation on wsproto."""

    __slots__ = ()

    traits = TRAITS["uvicorn wsproto"]

    needs = (*UvicornWire.needs, "conn", "config", "buffer", "queue", "writable", "handle_pong")

    def __init__(self, protocol: Any, receive: Receive, send: Send) -> None:
        super().__init__(protocol, receive, send)
        make_lean(protocol)

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
            # uvicorn makes the extension while it answers, so this is the only moment to speak to it.
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

    @staticmethod
    def observing(protocol_class: Any) -> Any:
        return observed_wsproto(protocol_class)

    def partial(self) -> int:
        if self.protocol is DEPARTED:
            return 0
        return undecoded(getattr(self.protocol.conn, "connection", None)) + int(self.protocol.buffer.length)

    def server_closed(self) -> bool:
        return self.protocol is not DEPARTED and bool(self.protocol.close_sent)


@cache
def observed_wsproto(protocol_class: Any) -> Any:
    """The observed class that also tells of pongs."""

    class Observed(observed(protocol_class)):  # type: ignore[misc]
        def handle_pong(self, event: Any) -> None:
            if self.wsstab_wire.takes_over:
                self.wsstab_wire.on_pong(bytes(event.payload))
            else:
                super().handle_pong(event)

    Observed.__name__, Observed.__qualname__ = protocol_class.__name__, protocol_class.__qualname__
    return Observed
