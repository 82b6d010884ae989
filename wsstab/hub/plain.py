"""What is said where a connection has less than its server could give: once, in one sentence."""

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
"""Names that are kept for each hub."""
PROTOCOL = "or start uvicorn with --ws wsstab.wires.uvicorn:Protocol"

_told: WeakKeyDictionary[Hub, set[tuple[str, str]]] = WeakKeyDictionary()


def tell_of_plain(hub: Hub, wire: Wire, config: WebSocketConfig, scope: Scope, send: Send) -> bool:
    """Warn of what a connection cannot have, each cause once; a test client is told nothing.

    Args:
        hub: who warns.
        wire: of the connection.
        config: of its path.
        scope: of its handshake.
        send: what its wire was made of.

    Returns:
        Whether everything that cannot act has been told.
    """
    if wire.traits is not ASGI:
        if config.heartbeat_type is HeartbeatType.PING and not wire.traits.native_ping:
            line = "! no heartbeat: %s sends no WebSocket pings; " + CUSTOM
            hub.warn_once("heartbeat_type", line, wire.traits.server)
        return False
    told = _told.setdefault(hub, set())
    name = name_of(look_through(send))
    if name in told:
        # To look for the server takes its time, and this is asked at each handshake.
        return True
    found = stranger(scope, send)
    if not found.is_test:
        if len(told) < MOST_TOLD:
            told.add(name)
        if found.is_server:
            line = "! plain ASGI is all that works with this version of %s: %s"
            hub.warn_once("plain ASGI", line, found.server, lost(found, config))
        else:
            line = "! %s.%s %s, so they all pass it: %s; %s"
            words = (found.module, found.function, what(found), lost(found, config), remedies(found))
            hub.warn_once(f"plain ASGI {found.module}.{found.function}", line, *words)
    return True


def what(found: Stranger) -> str:
    """What is known of it."""
    if found.server:
        return f"stands around the send() of {found.server}, and may change messages"
    return "is the send() of no server that is known, or stands around one and may change messages"


def lost(found: Stranger, config: WebSocketConfig) -> str:
    """What there is not, and the heartbeat that is left."""
    missing = ["no abort of peers that take nothing", "no joined broadcasts"]
    if found.server == "granian":
        missing = ["no drop of peers that take nothing"]
    if config.compression is CompressionMode.NONE:
        missing.append('no compression="none"')
    if config.heartbeat_type is not HeartbeatType.PING:
        return ", ".join(missing)
    if found.ping_interval is None:
        return ", ".join(["no WebSocket pings, so no heartbeat", *missing]) + f" ({CUSTOM})"
    left = f"the heartbeat that is left is {found.server}'s own ping every {found.ping_interval:g} s"
    return ", ".join(["no WebSocket pings of ours", *missing]) + f" ({left})"


def remedies(found: Stranger) -> str:
    """What to do."""
    if not found.server:
        return f"if it is middleware, {OUTSIDE}, {PROTOCOL}"
    return f"{OUTSIDE}, {PROTOCOL}" if found.server == "uvicorn" else OUTSIDE
