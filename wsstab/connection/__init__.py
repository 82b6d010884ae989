"""One peer: what a handler holds of it, and the parts that read, send, keep it alive and close it."""

from __future__ import annotations

from .connection import Connection, connection_of
from .handler import Handler
from .outcome import run
from .peer import Peer, current_peer
from .sender import Delivery
from .standalone import DoublePeer
from .userdata import UserData

__all__ = [
    "Connection",
    "Delivery",
    "DoublePeer",
    "Handler",
    "Peer",
    "UserData",
    "connection_of",
    "current_peer",
    "run",
]
