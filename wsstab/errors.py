"""Exceptions of the package.

    WebSocketStabilizerError
      +-- ConnectionNotFoundError         nobody has that client id
      +-- ConnectionLimitExceededError    a connection limit is reached
      +-- ConnectionTimeoutError          the peer stopped answering
      +-- InvalidTokenError               not a token of ours, or used before
      +-- TokenExpiredError               a token of ours, too late
      +-- BroadcastFailedError            not one delivery succeeded
      +-- ShutdownError                   draining or stopped
      +-- MemoryLimitExceededError        a memory limit is reached

    PeerGoneError (OSError)               send() to a peer that has left

They hold data; ``str()`` makes the sentence. An error that escapes a handler
ends its connection, and carries the `Close` for that.
"""

from __future__ import annotations

from .close import CONNECTION_LIMIT, DRAINING, EVICTED, HEARTBEAT_TIMEOUT, RAISED, UNAUTHORIZED, Close
from .reports import BroadcastResult

__all__ = [
    "BroadcastFailedError",
    "ConnectionLimitExceededError",
    "ConnectionNotFoundError",
    "ConnectionTimeoutError",
    "InvalidTokenError",
    "MemoryLimitExceededError",
    "PeerGoneError",
    "ShutdownError",
    "TokenExpiredError",
    "WebSocketStabilizerError",
]


class WebSocketStabilizerError(Exception):
    """Root of all errors of this package.

    Attributes:
        close: the close of the connection if the handler lets this error escape.
    """

    close: Close = RAISED


class ConnectionNotFoundError(WebSocketStabilizerError):
    """Nobody is connected under a client id.

    Attributes:
        client_id: the id that was asked for.
    """

    def __init__(self, client_id: str = "") -> None:
        super().__init__(client_id)
        self.client_id = client_id

    def __str__(self) -> str:
        return f"no connection has the client id {self.client_id!r}"


class ConnectionLimitExceededError(WebSocketStabilizerError):
    """A connection limit is reached.

    Attributes:
        limit: the number of connections that are allowed; ``None`` if the limit is not a number.
        close: the close that tells the peer which limit it was.
    """

    def __init__(self, limit: int | None = None, close: Close = CONNECTION_LIMIT) -> None:
        super().__init__(limit, close)
        self.limit = limit
        self.close = close

    def __str__(self) -> str:
        return self.close.reason + (f" ({self.limit})" if self.limit is not None else "")


class ConnectionTimeoutError(WebSocketStabilizerError):
    """The peer stopped answering.

    Attributes:
        timeout: seconds without a sign of life after the ping.
    """

    close = HEARTBEAT_TIMEOUT

    def __init__(self, timeout: float = 0.0) -> None:
        super().__init__(timeout)
        self.timeout = timeout

    def __str__(self) -> str:
        return f"nothing arrived for {self.timeout:g} s after the heartbeat"


class InvalidTokenError(WebSocketStabilizerError):
    """A reconnect token is malformed, signed by somebody else, or was used before.

    Attributes:
        why: one word: ``malformed``, ``signature``, ``used``, or ``full`` (the table of used tokens).
    """

    close = UNAUTHORIZED

    def __init__(self, why: str = "malformed") -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"reconnect token refused: {self.why}"


class TokenExpiredError(WebSocketStabilizerError):
    """A reconnect token is genuine, but has expired.

    Attributes:
        expired_ms: how many milliseconds ago it expired.
    """

    close = UNAUTHORIZED

    def __init__(self, expired_ms: int = 0) -> None:
        super().__init__(expired_ms)
        self.expired_ms = expired_ms

    def __str__(self) -> str:
        return f"reconnect token expired {self.expired_ms} ms ago"


class BroadcastFailedError(WebSocketStabilizerError):
    """Not one delivery of a broadcast succeeded.

    Attributes:
        result: the counts and errors of the broadcast.
    """

    def __init__(self, result: BroadcastResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        return f"all {self.result.failed} deliveries of the broadcast failed"


class ShutdownError(WebSocketStabilizerError):
    """The manager is draining or has stopped."""

    close = DRAINING

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else "the manager is shutting down"


class MemoryLimitExceededError(WebSocketStabilizerError):
    """A memory limit is reached and no eviction can help.

    Attributes:
        limit: the limit, in bytes.
        needed: the total that would have been held, in bytes.
    """

    close = EVICTED

    def __init__(self, limit: int = 0, needed: int = 0) -> None:
        super().__init__(limit, needed)
        self.limit = limit
        self.needed = needed

    def __str__(self) -> str:
        return f"memory limit of {self.limit} bytes exceeded: {self.needed} bytes needed"


class PeerGoneError(OSError):
    """The handler called ``send()`` after its peer had left.

    It is an ``OSError``, because Starlette turns that into ``WebSocketDisconnect``, and the
    ASGI specification (2.4, "Disconnected Client - send exception") asks for it.
    """
