"""One peer: what a handler holds of it, and the parts that read, send, keep it alive and close it."""

from __future__ import annotations

from .carrier import Carrier
from .connection import Connection, Owner, current_connection
from .sender import Delivery
from .standalone import DoubleConnection
from .userdata import UserData

__all__ = ["Carrier", "Connection", "Delivery", "DoubleConnection", "Owner", "UserData", "current_connection"]
