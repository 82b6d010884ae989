"""Events in the life of a connection, as frozen dataclasses.

Register a callback, plain or async, with ``manager.on(ConnectionClosed, callback)`` or through
`wsstab.config.Hooks`; both are the same mechanism. If a callback raises, the error is logged and harms no
connection. Events are for rare happenings; traffic is counted (see ``manager.statistics()``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from .close import Cause
from .errors import WebSocketStabilizerError

__all__ = [
    "ConnectionClosed",
    "ConnectionEvicted",
    "ConnectionIdentified",
    "ConnectionOpened",
    "DrainFinished",
    "DrainRound",
    "DrainStarted",
    "Event",
    "EventCallback",
    "HeartbeatMissed",
    "LimitHit",
    "SlowConsumer",
    "TokenIssued",
    "TokenRefused",
    "TokenUsed",
]


@dataclass(frozen=True)
class Event:
    """Root of all events; a callback for it is called with every event."""


EventCallback: TypeAlias = Callable[..., Awaitable[None] | None]
"""Called with the event as its only argument."""


@dataclass(frozen=True)
class ConnectionEvent(Event):
    """An event of one connection.

    Args:
        connection_id: id of the connection, unique in the process.
        client_id: its client id at that moment; the connection id until ``connect()`` gave it another.
    """

    connection_id: str
    client_id: str


@dataclass(frozen=True)
class ConnectionOpened(ConnectionEvent):
    """The handshake is complete.

    Args:
        path: path of the request, without query string.
        address: address of the peer; behind trusted proxies, the forwarded address.
        subprotocol: the subprotocol that was selected.
    """

    path: str
    address: str | None
    subprotocol: str | None = None


@dataclass(frozen=True)
class ConnectionIdentified(ConnectionEvent):
    """``connect()`` or ``authorize`` gave the connection its client id.

    Args:
        previous_id: its client id before.
    """

    previous_id: str


@dataclass(frozen=True)
class ConnectionClosed(ConnectionEvent):
    """The connection has ended.

    Args:
        code: close code; 1006 if no close frame was exchanged.
        reason: the reason of the close.
        cause: who ended the connection.
        duration: seconds since it opened.
        error: the error of this package that ended it, such as `ConnectionTimeoutError`; ``None`` if none did.
    """

    code: int
    reason: str
    cause: Cause
    duration: float
    error: WebSocketStabilizerError | None = None


@dataclass(frozen=True)
class HeartbeatMissed(ConnectionEvent):
    """Nothing arrived in time after a ping; the connection is aborted next.

    Args:
        silent_for: seconds since the last sign of life.
    """

    silent_for: float


@dataclass(frozen=True)
class SlowConsumer(ConnectionEvent):
    """A peer reads more slowly than messages are sent to it; emitted once each time it falls behind.

    Args:
        policy: the policy that applies, see ``Outbound.policy``.
        queued_bytes: bytes that wait for it.
        queued_messages: messages that wait for it.
    """

    policy: str
    queued_bytes: int
    queued_messages: int


@dataclass(frozen=True)
class LimitHit(Event):
    """A handshake or a message was refused by a limit.

    Args:
        limit: name of the option, such as ``max_connections``.
        address: address of the peer.
        path: path of the request, without query string.
    """

    limit: str
    address: str | None
    path: str


@dataclass(frozen=True)
class ConnectionEvicted(ConnectionEvent):
    """Closed to bring memory under its limit.

    Args:
        policy: the policy that chose it.
        freed_bytes: the bytes that it held.
    """

    policy: str
    freed_bytes: int


@dataclass(frozen=True)
class TokenIssued(Event):
    """A reconnect token was issued. No event contains the token itself.

    Args:
        client_id: the client that may use the token.
    """

    client_id: str


@dataclass(frozen=True)
class TokenUsed(Event):
    """A reconnect token was accepted.

    Args:
        client_id: the client that the token names.
    """

    client_id: str


@dataclass(frozen=True)
class TokenRefused(Event):
    """A reconnect token was refused.

    Args:
        why: ``malformed``, ``signature``, ``expired``, ``used``, or ``full`` (too many used tokens to remember).
    """

    why: str


@dataclass(frozen=True)
class DrainStarted(Event):
    """New connections are refused from now on.

    Args:
        connections: how many are open.
        timeout: seconds until the remaining connections are aborted.
    """

    connections: int
    timeout: float


@dataclass(frozen=True)
class DrainRound(Event):
    """One batch of connections was told to close.

    Args:
        closed: connections in this batch.
        remaining: connections still open after it.
    """

    closed: int
    remaining: int


@dataclass(frozen=True)
class DrainFinished(Event):
    """The drain is over.

    Args:
        closed: connections that ended with a close handshake or by themselves.
        failed: connections that had to be aborted, and handlers that had to be cancelled.
        duration: seconds.
    """

    closed: int
    failed: int
    duration: float
