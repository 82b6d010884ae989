"""WebSockets that do not drop, hang, bloat, storm or lie."""

from __future__ import annotations

from .close import Cause, Close, CloseCode
from .config import (
    CompressionMode,
    Drain,
    HeartbeatType,
    Hooks,
    Inbound,
    MemoryEvictionPolicy,
    Outbound,
    Override,
    RateLimit,
    SlowConsumerPolicy,
    WebSocketConfig,
)
from .connection import Connection
from .errors import (
    BroadcastFailedError,
    ConnectionLimitExceededError,
    ConnectionNotFoundError,
    ConnectionTimeoutError,
    InvalidTokenError,
    MemoryLimitExceededError,
    PeerGoneError,
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
from .exporters.logs import StructuredLogger, configure_logging, get_logger
from .manager import WebSocketConnectionManager
from .middleware import WebSocketStabilizer, get_connection, get_manager
from .reports import BroadcastResult, ConnectionStatistics, Histogram, ShutdownReport, Statistics

__version__ = "0.1.0"

__all__ = [
    "BroadcastFailedError",
    "BroadcastResult",
    "Cause",
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
    "ConnectionStatistics",
    "ConnectionTimeoutError",
    "Drain",
    "DrainFinished",
    "DrainRound",
    "DrainStarted",
    "Event",
    "HeartbeatMissed",
    "HeartbeatType",
    "Histogram",
    "Hooks",
    "Inbound",
    "InvalidTokenError",
    "LimitHit",
    "MemoryEvictionPolicy",
    "MemoryLimitExceededError",
    "Outbound",
    "Override",
    "PeerGoneError",
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
