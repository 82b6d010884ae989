"""What happens in the life of a connection, as frozen dataclasses.

Register a callback, plain or async, with ``manager.on(ConnectionClosed, callback)`` or through
`wsstab.config.Hooks`; both are the same mechanism. A callback that raises is logged and harms no
connection. Events are for what is rare; traffic is counted (see ``manager.statistics()``).
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
    """Root of all events; a callback on it hears everything."""


EventCallback: TypeAlias = Callable[..., Awaitable[None] | None]
"""Called with the event as its only argument."""


@dataclass(frozen=True)
class ConnectionEvent(Event):
    """Something about one connection.

    Args:
        connection_id: id of the connection, unique in the process.
        client_id: the name it had at that moment; the connection id until ``connect()`` named it.
    """

    connection_id: str
    client_id: str


@dataclass(frozen=True)
class ConnectionOpened(ConnectionEvent):
    """The handshake is complete.

    Args:
        path: path of the request, without query string.
        address: address of the peer, behind trusted proxies the forwarded one.
        subprotocol: the subprotocol that was selected.
    """

    path: str
    address: str | None
    subprotocol: str | None = None


@dataclass(frozen=True)
class ConnectionIdentified(ConnectionEvent):
    """``connect()`` or ``authorize`` gave the connection its client id.

    Args:
        previous_id: the name it had before.
    """

    previous_id: str


@dataclass(frozen=True)
class ConnectionClosed(ConnectionEvent):
    """The connection has ended.

    Args:
        code: close code, 1006 where no close frame was exchanged.
        reason: the reason that came with it.
        cause: who ended it.
        duration: seconds since it opened.
        error: what ended it, where an error of this package did (`ConnectionTimeoutError`, say).
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
    """A peer reads more slowly than is sent to it; once for each time that it falls behind.

    Args:
        policy: what is done about it, see ``Outbound.policy``.
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
        policy: how it was chosen.
        freed_bytes: what it held.
    """

    policy: str
    freed_bytes: int


@dataclass(frozen=True)
class TokenIssued(Event):
    """A reconnect token was made. The token itself is in no event.

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
        why: ``malformed``, ``signature``, ``expired``, ``used``, or ``full``: too many used ones to remember.
    """

    why: str


@dataclass(frozen=True)
class DrainStarted(Event):
    """New connections are refused from now on.

    Args:
        connections: how many are open.
        timeout: seconds until what is left is aborted.
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
