"""What an operator may choose: the options, how each value is checked, and where else they are read from."""

from __future__ import annotations

from .config import Authorize, ClientAddressOf, Override, WebSocketConfig
from .groups import (
    CompressionMode,
    Drain,
    HeartbeatType,
    Hooks,
    Inbound,
    MemoryEvictionPolicy,
    Outbound,
    RateLimit,
    SlowConsumerPolicy,
)

__all__ = [
    "Authorize",
    "ClientAddressOf",
    "CompressionMode",
    "Drain",
    "HeartbeatType",
    "Hooks",
    "Inbound",
    "MemoryEvictionPolicy",
    "Outbound",
    "Override",
    "RateLimit",
    "SlowConsumerPolicy",
    "WebSocketConfig",
]
