"""The wire to a uvicorn protocol object: frames go straight to its transport.

Recognised by the ``send`` that uvicorn passes to the application, for its three WebSocket
implementations. Frames are written next to uvicorn's own protocol state: server frames carry no
mask and no sequence, so only the closing handshake has to stay uvicorn's, and it does: `close`
goes through uvicorn's own ``send``.

Private names of uvicorn used here; all are checked at recognition, and if one is missing, the plain
ASGI wire is used and one line is logged. Tried with uvicorn 0.46 to 0.54.

===========================  ==============================================================
all                          ``transport``, ``pause_writing``, ``resume_writing``,
                             ``connection_lost``, ``ping_interval``
websockets-sansio            ``conn.max_message_size`` (or ``max_size``), ``conn.extensions``,
                             ``response.headers``, ``handle_pong``, ``handle_parser_exception``,
                             ``handle_events``, ``handle_ping``,
                             ``send_receive_event_to_app``, ``queue``, ``writable``, ``read_paused``
wsproto                      ``conn.connection._proto.extensions``, ``config``, ``buffer.max_length``,
                             ``handle_pong``, ``queue``, ``writable``, ``read_paused``
websockets (deprecated)      ``state``, ``pings``, ``max_size``, ``extensions``,
                             ``available_extensions``, ``handshake_completed_event``
===========================  ==============================================================
"""

from __future__ import annotations

from typing import Any

from ...types import Receive, Scope, Send
from ..base import lacks, owner_of
from .base import EXTENSION, UvicornWire
from .legacy import LegacyWire
from .sansio import SansioWire
from .wsproto import WsprotoWire

__all__ = ["LegacyWire", "SansioWire", "UvicornWire", "WsprotoWire", "recognise"]

IMPLEMENTATIONS: dict[str, type[UvicornWire]] = {
    "websockets_sansio_impl": SansioWire,
    "wsproto_impl": WsprotoWire,
    "websockets_impl": LegacyWire,
}
_complete: dict[type, type[UvicornWire]] = {}
"""The wire class for each protocol class that has all needed attributes."""


def recognise(scope: Scope, receive: Receive, send: Send) -> UvicornWire | None:
    """The wire for this connection, ``None`` when ``send`` is not uvicorn's own."""
    extensions = scope.get("extensions") or {}
    protocol = extensions.get(EXTENSION) or owner_of(send)
    protocol_class = type(protocol)
    wire_class = _complete.get(protocol_class)
    if wire_class is None:
        module = _implementation(protocol_class)
        wire_class = IMPLEMENTATIONS.get(module)
        if wire_class is None or lacks(protocol, wire_class.needs, module):
            return None
        _complete[protocol_class] = wire_class
    if EXTENSION in extensions:
        # Middleware in between, known or not, still sees the handshake and the close.
        receive = wire_class.callables(protocol)[0]
    return wire_class(protocol, receive, send)


def _implementation(protocol_class: type) -> str:
    # The base classes too, because applications may derive protocol classes of their own.
    for base in protocol_class.__mro__:
        if base.__module__.startswith("uvicorn.protocols.websockets."):
            return base.__module__.rpartition(".")[2]
    return ""


def __getattr__(name: str) -> Any:
    """``uvicorn --ws wsstab.wires.uvicorn:Protocol``, imported when asked for: uvicorn is an extra."""
    if name != "Protocol":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .protocol import Protocol

    return Protocol
