"""Connecting: ``manager.connect()`` gives a peer its name, and registers it where no middleware has done so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio

from ..close import VANISHED
from ..config.config import dead_without_middleware
from ..connection import DoublePeer, Peer, current_peer
from ..errors import ConnectionLimitExceededError, ConnectionNotFoundError, ShutdownError, WebSocketStabilizerError
from ..events import LimitHit
from ..types import PEER_KEY
from ..wires.standalone import is_websocket
from .hub import Hub

__all__ = ["connect"]

LONGEST_GOODBYE = 1.0
"""Seconds that ``connect()`` waits for the connection that it has replaced to be closed."""
DEAD = (
    "! no middleware stands around this application, so these options cannot act: %s; "
    "app.add_middleware(WebSocketStabilizer, manager=manager) makes them act"
)


async def connect(hub: Hub, client_id: str, websocket: Any, metadata: dict[str, Any] | None) -> None:
    """Give a peer its client id; see ``manager.connect()``."""
    if not isinstance(client_id, str) or not client_id:
        raise ConnectionNotFoundError(client_id)
    peer = find(hub, websocket)
    if peer is None:
        if hub.is_draining:
            raise ShutdownError
        peer = register(hub, client_id, websocket)
    if peer.closing.close is not None:
        return
    try:
        replaced = hub.clients.take(peer, client_id, metadata)
    except WebSocketStabilizerError:
        if isinstance(peer, DoublePeer) and not peer.named:
            # It was registered a moment ago, only for the name that it cannot have.
            peer.closing.abort(VANISHED)
        raise
    if replaced:
        await closed_soon(replaced)


def find(hub: Hub, websocket: Any) -> Peer | None:
    """The peer that is registered for this object."""
    if is_websocket(websocket):
        peer = websocket.scope.get(PEER_KEY)
        if isinstance(peer, Peer) and peer.owner is hub:
            return peer
        own = current_peer.get()
        if own is not None and own.owner is hub and own.carrier.carries(websocket.scope):
            # Middleware has built a new scope.
            return own
    return hub.doubles.find(websocket)


def register(hub: Hub, client_id: str, websocket: Any) -> DoublePeer:
    """Register the peer behind an object.

    Args:
        hub: the hub.
        client_id: the name that it is about to get.
        websocket: the object.

    Raises:
        ConnectionLimitExceededError: ``max_connections``.
    """
    replacing = hub.clients.may_replace(client_id, hub.config)
    if not hub.has_middleware and (dead := dead_without_middleware(hub.config)):
        hub.warn_once("dead", DEAD, ", ".join(dead))
    # Without an address: the object need not know that of its peer.
    refusal = hub.admission.admit(None, replacing=replacing)
    if refusal is not None:
        hub.emit(LimitHit("max_connections", None, ""))
        raise ConnectionLimitExceededError(hub.config.max_connections, refusal)
    peer = DoublePeer(hub, hub.loops.here(), hub.config, id=hub.next_id(), websocket=websocket)
    hub.doubles.add(peer)
    hub.enrol(peer)
    peer.open_now()
    if is_websocket(websocket):
        # As behind the middleware: in this handler, the client id means its own connection from now on.
        current_peer.set(peer)
    return peer


async def closed_soon(replaced: Iterable[Peer]) -> None:
    """Wait up to a second until the replaced peers are closed, except for the peer whose handler waits here."""
    own = current_peer.get()
    with anyio.move_on_after(LONGEST_GOODBYE):
        for each in replaced:
            if each is not own:
                await each.closing.latch.wait()
