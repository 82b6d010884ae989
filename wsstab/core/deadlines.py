"""Deadlines: when a connection is due for a ping, dead, idle, too old, or late to accept.

Does not read the clock: callers pass the time, which may stand still while the event loop lags. Time
in which the socket was not read does not count, so no peer is blamed for delays on our side.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Action", "Deadlines"]


class Action(Enum):
    """The action that is due."""

    NOTHING = "nothing"
    PING = "ping"
    DEAD = "dead"
    IDLE = "idle"
    TOO_OLD = "too old"
    NOT_ACCEPTED = "not accepted"


class Deadlines:
    """The deadlines of one connection.

    A ping is due ``heartbeat_interval`` after the last sign of life; the peer is dead when nothing
    arrived for ``heartbeat_timeout`` after that ping. Either may be the larger.

    Args:
        now: the present, in seconds.
        accept_timeout: seconds from the request to the handshake; ``None`` for no limit.
        heartbeat_interval: seconds; ``None`` for no heartbeat.
        heartbeat_timeout: seconds from an unanswered ping until the peer counts as dead; 60.
        idle_timeout: seconds without an application message in either direction; ``None`` for no limit.
        max_age: seconds from the handshake; ``None`` for no limit.

    Attributes:
        heard_at: when anything last arrived. Written on every message.
        data_at: when an application message last passed, in either direction. Written before each `decide`.
        ping_at: when the unanswered ping left; ``None`` without one.
    """

    __slots__ = (
        "_accept_timeout",
        "_heartbeat_interval",
        "_heartbeat_timeout",
        "_idle_timeout",
        "_max_age",
        "_opened_at",
        "_started_at",
        "data_at",
        "heard_at",
        "ping_at",
    )

    def __init__(
        self,
        now: float,
        *,
        accept_timeout: float | None = None,
        heartbeat_interval: float | None = None,
        heartbeat_timeout: float = 60.0,
        idle_timeout: float | None = None,
        max_age: float | None = None,
    ) -> None:
        self._accept_timeout = accept_timeout
        self._heartbeat_interval = heartbeat_interval
        self._heartbeat_timeout = heartbeat_timeout
        self._idle_timeout = idle_timeout
        self._max_age = max_age
        self._started_at = now
        self._opened_at: float | None = None
        self.heard_at = now
        self.data_at = now
        self.ping_at: float | None = None

    def opened(self, now: float) -> None:
        """Record that the handshake is complete."""
        self._opened_at = self.heard_at = self.data_at = now

    @property
    def unanswered(self) -> bool:
        """Whether nothing has arrived since the last ping."""
        return self.ping_at is not None and self.heard_at < self.ping_at

    @property
    def beats(self) -> bool:
        """Whether there is a heartbeat."""
        return self._heartbeat_interval is not None

    def stop_heartbeat(self) -> None:
        """Send no more pings; all other deadlines stay."""
        self._heartbeat_interval = self.ping_at = None

    def decide(self, now: float, reading: bool = True) -> Action:
        """Return the action that is due at ``now``; a ping that is due counts as sent.

        Args:
            now: the present, in seconds.
            reading: whether the socket is being read; if not, silence proves nothing.
        """
        if self._opened_at is None:
            return Action.NOT_ACCEPTED if _due(self._started_at, self._accept_timeout, now) else Action.NOTHING
        if _due(self._opened_at, self._max_age, now):
            return Action.TOO_OLD
        if _due(self.data_at, self._idle_timeout, now):
            return Action.IDLE
        return self._heartbeat(now, reading)

    def next(self, now: float) -> float | None:
        """When to call `decide` again; ``None`` for never. May be early, is never late."""
        if self._opened_at is None:
            return _at(self._started_at, self._accept_timeout)
        due = self._next_heartbeat(now)
        if self._max_age is not None:
            due = _sooner(due, self._opened_at + self._max_age)
        if self._idle_timeout is not None:
            due = _sooner(due, self.data_at + self._idle_timeout)
        return due

    def _heartbeat(self, now: float, reading: bool) -> Action:
        if self.ping_at is not None:
            # ``>=``, because a ping and its answer may come within one tick, in which the clock stands still.
            if self.heard_at >= self.ping_at:
                self.ping_at = None
            # As if the ping left now: the answer may lie unread in the socket.
            elif not reading:
                self.ping_at = now
            elif now - self.ping_at >= self._heartbeat_timeout:
                return Action.DEAD
        if self.ping_at is None and _due(self.heard_at, self._heartbeat_interval, now):
            self.ping_at = now
            return Action.PING
        return Action.NOTHING

    def _next_heartbeat(self, now: float) -> float | None:
        if self._heartbeat_interval is None:
            return None
        if self.ping_at is None or self.heard_at >= self.ping_at:
            return self.heard_at + self._heartbeat_interval
        # Not only the timeout: the answer may come at once, and the next ping is then due an interval later.
        return min(self.ping_at + self._heartbeat_timeout, now + self._heartbeat_interval)


def _due(since: float, span: float | None, now: float) -> bool:
    return span is not None and now - since >= span


def _sooner(at: float | None, other: float) -> float:
    return other if at is None or other < at else at


def _at(since: float, span: float | None) -> float | None:
    return None if span is None else since + span
