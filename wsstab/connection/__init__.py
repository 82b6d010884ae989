"""One peer: what a handler holds of it, and the parts that read, send, keep it alive and close it."""

from __future__ import annotations

from .connection import Connection, current_connection
from .sender import Delivery
from .standalone import DoubleConnection

__all__ = ["Connection", "Delivery", "DoubleConnection", "current_connection"]
