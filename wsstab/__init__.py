"""WebSockets that do not drop, hang, bloat, storm or lie."""

from __future__ import annotations

from .close import Close, CloseCode
from .config import Override, WebSocketConfig
from .connection import Connection
from .errors import (
    BroadcastFailedError,
    ConnectionLimitExceededError,
    ConnectionNotFoundError,
    ConnectionTimeoutError,
    InvalidTokenError,
    MemoryLimitExceededError,
    ShutdownError,
    TokenExpiredError,
    WebSocketStabilizerError,
)
from .events import (
    ConnectionClosed,
    ConnectionEvicted,
    ConnectionIdentified,
    ConnectionOpened,
    DrainFinished,
    DrainRound,
    DrainStarted,
    Event,
    HeartbeatMissed,
    LimitHit,
    SlowConsumer,
    TokenIssued,
    TokenRefused,
    TokenUsed,
)
from .logs import StructuredLogger, configure_logging, get_logger
from .manager import WebSocketConnectionManager
from .middleware import WebSocketStabilizer, get_connection, get_manager
from .options import (
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
from .reports import BroadcastResult, ShutdownReport, Statistics

__version__ = "0.1.0"

__all__ = [
    "BroadcastFailedError",
    "BroadcastResult",
    "Close",
    "CloseCode",
    "CompressionMode",
    "Connection",
    "ConnectionClosed",
    "ConnectionEvicted",
    "ConnectionIdentified",
    "ConnectionLimitExceededError",
    "ConnectionNotFoundError",
    "ConnectionOpened",
    "ConnectionTimeoutError",
    "Drain",
    "DrainFinished",
    "DrainRound",
    "DrainStarted",
    "Event",
    "HeartbeatMissed",
    "HeartbeatType",
    "Hooks",
    "Inbound",
    "InvalidTokenError",
    "LimitHit",
    "MemoryEvictionPolicy",
    "MemoryLimitExceededError",
    "Outbound",
    "Override",
    "RateLimit",
    "ShutdownError",
    "ShutdownReport",
    "SlowConsumer",
    "SlowConsumerPolicy",
    "Statistics",
    "StructuredLogger",
    "TokenExpiredError",
    "TokenIssued",
    "TokenRefused",
    "TokenUsed",
    "WebSocketConfig",
    "WebSocketConnectionManager",
    "WebSocketStabilizer",
    "WebSocketStabilizerError",
    "configure_logging",
    "get_connection",
    "get_logger",
    "get_manager",
]
