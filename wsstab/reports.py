"""Results, reports and snapshots that the manager returns.

They are plain data, correct when they were made, and never updated afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["BroadcastResult", "ConnectionStatistics", "Histogram", "ShutdownReport", "Statistics"]

MAX_ERRORS = 100
"""How many errors a `BroadcastResult` keeps; ``failed`` counts all."""


@dataclass(frozen=True)
class BroadcastResult:
    """The outcome of one broadcast.

    Args:
        total: connections in the audience, before exclusion.
        succeeded: deliveries handed to the transport or queued for it.
        failed: deliveries that did not happen.
        errors: ``(client_id, what went wrong)`` of the first 100 failures.
        queued: of ``succeeded``, those that wait behind earlier messages or on another event loop.
        dropped: of ``failed``, those that a slow consumer's policy dropped.
    """

    total: int = 0
    succeeded: int = 0
    failed: int = 0
    errors: list[tuple[str, str]] = field(default_factory=list)
    queued: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class ShutdownReport:
    """The outcome of a drain or a shutdown.

    Args:
        closed_count: connections that ended with a close frame or by themselves.
        failed_count: connections that had to be aborted because their close did not get through.
        duration_seconds: how long it took.
    """

    closed_count: int = 0
    failed_count: int = 0
    duration_seconds: float = 0.0


@dataclass(frozen=True)
class Histogram:
    """Latencies in fixed buckets.

    Args:
        bounds: upper bound of each bucket, in seconds; observations above the last one are only in ``count``.
        counts: observations at or under each bound, cumulative as in Prometheus.
        count: all observations.
        total: their sum, in seconds.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    count: int = 0
    total: float = 0.0


@dataclass(frozen=True)
class ConnectionStatistics:
    """Snapshot of one connection.

    Args:
        messages_received: application messages that arrived.
        bytes_received: their payload, in bytes.
        messages_sent: application messages handed to the transport.
        bytes_sent: their payload, in bytes.
        queued_messages: messages that wait to be sent.
        queued_bytes: their payload, in bytes.
        unread_messages: messages that wait for the handler.
        unread_bytes: their payload, in bytes.
        dropped_outbound: messages a slow consumer's policy dropped or conflated.
        dropped_inbound: messages dropped because the handler never read, or by ``rate_limit``.
        memory: bytes counted for the connection by the memory limits.
        latency: seconds between the last ping and its pong, ``None`` before the first.
    """

    messages_received: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    queued_messages: int = 0
    queued_bytes: int = 0
    unread_messages: int = 0
    unread_bytes: int = 0
    dropped_outbound: int = 0
    dropped_inbound: int = 0
    memory: int = 0
    latency: float | None = None


@dataclass(frozen=True)
class Statistics:
    """Snapshot of a manager.

    The counters cover the manager's whole life and are always on; ``latencies`` are measured only with
    ``enable_metrics=True``.

    Args:
        connections: open connections.
        rooms: rooms with at least one member.
        opened: connections that completed their handshake.
        closed: connections that have ended, by close code.
        refused: refused handshakes, by option (``max_connections``, ``allowed_origins``…).
        broadcasts: calls of ``broadcast`` and ``broadcast_to_clients``.
        messages_received: application messages that arrived.
        bytes_received: their payload, in bytes.
        messages_sent: application messages handed to a transport.
        bytes_sent: their payload, in bytes.
        dropped_outbound: messages that slow consumers' policies dropped or conflated, and messages that a handler sent
            to the WebSocket of another handler after the peer had left.
        dropped_inbound: inbound messages that were dropped.
        queued_bytes: bytes that wait to be sent at this moment.
        slow_consumers: connections that are behind at this moment.
        heartbeats_sent: pings.
        heartbeats_missed: connections aborted because nothing arrived after a ping.
        evicted: connections closed by a memory limit.
        memory: bytes counted by the memory limits.
        draining: whether new connections are refused.
        latencies: histograms by name: ``ping`` (round trips), ``broadcast`` (call to last write).
    """

    connections: int = 0
    rooms: int = 0
    opened: int = 0
    closed: dict[int, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    broadcasts: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    dropped_outbound: int = 0
    dropped_inbound: int = 0
    queued_bytes: int = 0
    slow_consumers: int = 0
    heartbeats_sent: int = 0
    heartbeats_missed: int = 0
    evicted: int = 0
    memory: int = 0
    draining: bool = False
    latencies: dict[str, Histogram] = field(default_factory=dict)
