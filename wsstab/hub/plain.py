"""Plain ASGI: says once, in one sentence, what a connection lacks when the transport is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from ..config import CompressionMode, HeartbeatType
from ..wires.observers import Stranger, look_through, name_of, stranger
from ..wires.traits import ASGI

if TYPE_CHECKING:
    from ..config import WebSocketConfig
    from ..types import Scope, Send
    from ..wires.base import Wire
    from .hub import Hub

__all__ = ["tell_of_plain"]

CUSTOM = 'heartbeat_type="custom" sends messages instead'
OUTSIDE = "wrap the stabilizer around everything, app = WebSocketStabilizer(app)"
MOST_TOLD = 100
"""How many names each hub remembers."""
PROTOCOL = "or start uvicorn with --ws wsstab.wires.uvicorn:Protocol"

# Weak, so that the table keeps no hub alive.
_told: WeakKeyDictionary[Hub, set[tuple[str, str]]] = WeakKeyDictionary()


def tell_of_plain(hub: Hub, wire: Wire, config: WebSocketConfig, scope: Scope, send: Send) -> bool:
    """Warn, once for each cause, of what a connection lacks; a test client is told nothing.

    Args:
        hub: logs the warning.
        wire: the wire of the connection.
        config: the configuration of its path.
        scope: the scope of its handshake.
        send: the ASGI ``send`` that its wire uses.

    Returns:
        Whether the warning covers everything that cannot act.
    """
    if wire.traits is not ASGI:
        if config.heartbeat_type is HeartbeatType.PING and not wire.traits.native_ping:
            line = "! no heartbeat: %s sends no WebSocket pings; " + CUSTOM
            hub.warn_once("heartbeat_type", line, wire.traits.server)
        return False
    told = _told.setdefault(hub, set())
    name = name_of(look_through(send))
    if name in told:
        # Finding the server behind a wrapper is slow, and every handshake comes through here.
        return True
    found = stranger(scope, send)
    if not found.is_test:
        if len(told) < MOST_TOLD:
            told.add(name)
        if found.is_server:
            line = "! plain ASGI is all that works with this version of %s: %s"
            hub.warn_once("plain ASGI", line, found.server, lost(found, config))
        else:
            line = "! %s.%s %s, so every message goes through it: %s; %s"
            words = (found.module, found.function, what(found), lost(found, config), remedies(found))
            hub.warn_once(f"plain ASGI {found.module}.{found.function}", line, *words)
    return True


def what(found: Stranger) -> str:
    """What is known about the ``send``."""
    if found.server:
        return f"wraps the send() of {found.server} and may change messages"
    return "is the send() of an unknown server, or wraps one and may change messages"


def lost(found: Stranger, config: WebSocketConfig) -> str:
    """What is missing, and which heartbeat is left."""
    missing = ["no abort of peers that take nothing", "no joined broadcasts"]
    if found.server == "granian":
        missing = ["no drop of peers that take nothing"]
    if config.compression is CompressionMode.NONE:
        missing.append('no compression="none"')
    if config.heartbeat_type is not HeartbeatType.PING:
        return ", ".join(missing)
    if found.ping_interval is None:
        return ", ".join(["no WebSocket pings, so no heartbeat", *missing]) + f" ({CUSTOM})"
    left = f"the only heartbeat is {found.server}'s own ping every {found.ping_interval:g} s"
    return ", ".join(["no WebSocket pings of ours", *missing]) + f" ({left})"


def remedies(found: Stranger) -> str:
    """What the operator can do about it."""
    if not found.server:
        return f"if it is middleware, {OUTSIDE}, {PROTOCOL}"
    return f"{OUTSIDE}, {PROTOCOL}" if found.server == "uvicorn" else OUTSIDE
