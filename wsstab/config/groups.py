"""Groups: options that belong together, and the enums of their values.

Each group is a small frozen dataclass that is checked when it is created, and holds
the options of one concern. Options without a group are fields of
`wsstab.config.WebSocketConfig`.

Groups are immutable: to change an option of a group, set a new group in the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from .. import events
from ..close import DRAINING
from . import checks
from .checks import Check, number, optional, whole

__all__ = [
    "CompressionMode",
    "Drain",
    "HeartbeatType",
    "Hooks",
    "Inbound",
    "MemoryEvictionPolicy",
    "Outbound",
    "RateLimit",
    "SlowConsumerPolicy",
]

MIB = 1024 * 1024

Kept = TypeVar("Kept", covariant=True)
Given = TypeVar("Given", contravariant=True)
EventT = TypeVar("EventT", bound=events.Event, contravariant=True)

Hook: TypeAlias = Callable[[EventT], object]
"""Plain or async; called with the event."""


class Accepts(Generic[Kept, Given]):
    """Type of a field that is read as the first type but may be set as the second; only type checkers see it."""

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: object) -> Kept: ...

        def __set__(self, instance: object, value: Given) -> None: ...


def accepts(default: Any) -> Any:
    """The default of an `Accepts` field."""
    return default


class _Word(str, Enum):
    def __str__(self) -> str:
        return str(self.value)


class HeartbeatType(_Word):
    """How the stabilizer checks that a silent peer is still there."""

    PING = "ping"
    """A WebSocket ping, which every client answers by itself (RFC 6455 section 5.5.2)."""
    CUSTOM = "custom"
    """An application message, for clients that must see it, such as a page in a browser."""
    OFF = "off"
    """No heartbeat; the keepalive of the server stays as it is."""


class CompressionMode(_Word):
    """What is negotiated with a client that offers permessage-deflate (RFC 7692)."""

    DEFLATE = "deflate"
    """Whatever the server negotiates."""
    NONE = "none"
    """No compression; an idle connection then takes 19 KB instead of 52 KB on uvicorn."""


class MemoryEvictionPolicy(_Word):
    """Which connection is closed first when memory is short."""

    LRU = "lru"
    """The connection with the least recent traffic."""
    FIFO = "fifo"
    """The connection whose socket has been open longest."""
    OLDEST = "oldest"
    """The connection whose client has been known longest; a reconnect keeps the age of its client."""
    LARGEST = "largest"
    """The connection that holds the most bytes."""


class SlowConsumerPolicy(_Word):
    """What happens when a peer reads more slowly than is sent to it and its queue is full."""

    CLOSE = "close"
    """The connection is closed with 1013."""
    BLOCK = "block"
    """The handler's own sends wait; messages of other senders are dropped."""
    DROP_OLDEST = "drop_oldest"
    """The oldest unsent messages make room."""
    DROP_NEWEST = "drop_newest"
    """The message that does not fit is dropped."""
    LATEST = "latest"
    """A message replaces the unsent one of the same key; then as `DROP_OLDEST`."""


class _Group:
    CHECKS: ClassVar[Mapping[str, Check]]

    def __post_init__(self) -> None:
        # The dataclass is frozen, so the checked values have to be set by way of `object`.
        for name, check in self.CHECKS.items():
            object.__setattr__(self, name, check(f"{type(self).__name__}.{name}", getattr(self, name)))


@dataclass(frozen=True)
class Inbound(_Group):
    """Limits of the messages that wait for a busy handler; when one is reached, reading pauses.

    Args:
        max_messages: messages that may wait; 256.
        max_bytes: payload that may wait, in bytes; 1 MiB.
        message_timeout: seconds within which an unfinished message must grow, or its peer is closed with 1008;
            ``None``, the default, for ``heartbeat_interval`` and ``heartbeat_timeout`` together.

    Raises:
        ValueError: a value that is not allowed. Nothing is unbounded.
    """

    max_messages: int = 256
    max_bytes: int = MIB
    message_timeout: float | None = None

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "max_messages": whole("messages"),
        "max_bytes": whole("bytes"),
        "message_timeout": optional(number("a number of seconds"), "heartbeat_interval + heartbeat_timeout"),
    }


@dataclass(frozen=True)
class Outbound(_Group):
    """Limits of the messages that wait for a slow peer, and what happens when one is reached.

    Args:
        max_bytes: payload that may wait, in bytes; 1 MiB. ``None``: only ``max_messages`` bounds it.
        max_messages: messages that may wait; 1,000. ``None``: only ``max_bytes`` bounds it.
        send_timeout: seconds; 10. A peer that takes no byte for this time while messages wait is
            closed with 1013, under every policy.
        policy: what happens when a bound is reached; ``close``.

    Raises:
        ValueError: a value that is not allowed, or both bounds are off.
    """

    max_bytes: int | None = MIB
    max_messages: int | None = 1000
    send_timeout: float = 10.0
    policy: Accepts[SlowConsumerPolicy, SlowConsumerPolicy | str] = field(default=accepts(SlowConsumerPolicy.CLOSE))

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "max_bytes": optional(whole("bytes"), "no such bound"),
        "max_messages": optional(whole("messages"), "no such bound"),
        "send_timeout": number("a number of seconds"),
        "policy": checks.member(SlowConsumerPolicy),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_bytes is None and self.max_messages is None:
            raise ValueError("Outbound.max_bytes=None, Outbound.max_messages=None: must not both be None")


@dataclass(frozen=True)
class RateLimit(_Group):
    """Limit of the rate at which one connection may send messages.

    Args:
        messages_per_second: messages a second, on average.
        burst: messages that may come at once; ``messages_per_second`` rounded up.
        bytes_per_second: payload on average, in bytes; ``None``, the default, for no such limit.
        action: what happens to a message above the limit: ``close`` its connection with 1008, ``drop`` it, or
            ``delay`` it: the handler gets it when the rate allows, at most 30 s after the message before it.

    Raises:
        ValueError: a value that is not allowed.
    """

    messages_per_second: float
    burst: Accepts[int, int | None] = field(default=accepts(None))
    bytes_per_second: float | None = None
    action: Literal["close", "delay", "drop"] = "close"

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "messages_per_second": number("a number of messages", most=checks.LARGEST),
        "burst": optional(whole("messages"), "messages_per_second rounded up"),
        "bytes_per_second": optional(number("a number of bytes", most=checks.LARGEST), "no limit"),
        "action": checks.word("close", "delay", "drop"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.burst is None:
            object.__setattr__(self, "burst", math.ceil(self.messages_per_second))


@dataclass(frozen=True)
class Drain(_Group):
    """How connections are ended when the process stops.

    Args:
        timeout: seconds until the remaining connections are aborted; 20. Keep it below the time that the
            supervisor allows between SIGTERM and SIGKILL. 0 aborts at once.
        batch_size: connections closed in one round; 100.
        interval: seconds between two rounds; 0.1. It makes clients come back in waves instead of all at once.
        code: close code; 1012, so that clients come back.
        reason: reason of the close, at most 123 bytes of UTF-8; ``service restart``.
        handle_signals: whether SIGTERM and SIGINT start a drain; ``True``.
        endpoint_token: the token that a request to ``manager.drain_endpoint()`` must carry: a text, or a list with the
            newest first. ``None``, the default: every answer is 404. It appears in no ``repr`` and in no error.

    Raises:
        ValueError: a value that is not allowed.
    """

    timeout: float = 20.0
    batch_size: int = 100
    interval: float = 0.1
    code: int = DRAINING.code
    reason: str = DRAINING.reason
    handle_signals: bool = True
    endpoint_token: str | Sequence[str] | None = field(default=None, repr=False)

    CHECKS: ClassVar[Mapping[str, Check]] = {
        "timeout": number("a number of seconds", or_zero=True),
        "batch_size": whole("connections"),
        "interval": number("a number of seconds", or_zero=True),
        "code": checks.close_code(),
        "reason": checks.close_reason(),
        "handle_signals": checks.flag(),
        "endpoint_token": optional(checks.bearer(), "no endpoint"),
    }


@dataclass(frozen=True)
class Hooks(_Group):
    """Functions, plain or async, that are called with events; the same as ``manager.on(...)``.

    An error in a function is logged and harms no connection.

    Args:
        on_connect: called with `wsstab.events.ConnectionOpened`.
        on_identify: called with `wsstab.events.ConnectionIdentified`.
        on_disconnect: called with `wsstab.events.ConnectionClosed`.
        on_heartbeat_missed: called with `wsstab.events.HeartbeatMissed`.
        on_slow_consumer: called with `wsstab.events.SlowConsumer`.
        on_limit_hit: called with `wsstab.events.LimitHit`.
        on_evicted: called with `wsstab.events.ConnectionEvicted`.
        on_token_issued: called with `wsstab.events.TokenIssued`.
        on_token_used: called with `wsstab.events.TokenUsed`.
        on_token_refused: called with `wsstab.events.TokenRefused`.
        on_drain_started: called with `wsstab.events.DrainStarted`.
        on_drain_round: called with `wsstab.events.DrainRound`.
        on_drain_finished: called with `wsstab.events.DrainFinished`.

    Raises:
        ValueError: a value cannot be called.
    """

    on_connect: Hook[events.ConnectionOpened] | None = None
    on_identify: Hook[events.ConnectionIdentified] | None = None
    on_disconnect: Hook[events.ConnectionClosed] | None = None
    on_heartbeat_missed: Hook[events.HeartbeatMissed] | None = None
    on_slow_consumer: Hook[events.SlowConsumer] | None = None
    on_limit_hit: Hook[events.LimitHit] | None = None
    on_evicted: Hook[events.ConnectionEvicted] | None = None
    on_token_issued: Hook[events.TokenIssued] | None = None
    on_token_used: Hook[events.TokenUsed] | None = None
    on_token_refused: Hook[events.TokenRefused] | None = None
    on_drain_started: Hook[events.DrainStarted] | None = None
    on_drain_round: Hook[events.DrainRound] | None = None
    on_drain_finished: Hook[events.DrainFinished] | None = None

    EVENTS: ClassVar[Mapping[str, type[events.Event]]] = {
        "on_connect": events.ConnectionOpened,
        "on_identify": events.ConnectionIdentified,
        "on_disconnect": events.ConnectionClosed,
        "on_heartbeat_missed": events.HeartbeatMissed,
        "on_slow_consumer": events.SlowConsumer,
        "on_limit_hit": events.LimitHit,
        "on_evicted": events.ConnectionEvicted,
        "on_token_issued": events.TokenIssued,
        "on_token_used": events.TokenUsed,
        "on_token_refused": events.TokenRefused,
        "on_drain_started": events.DrainStarted,
        "on_drain_round": events.DrainRound,
        "on_drain_finished": events.DrainFinished,
    }
    """The class of events that each hook receives."""
    CHECKS: ClassVar[Mapping[str, Check]] = dict.fromkeys(EVENTS, optional(checks.function("an event"), "nobody"))

    def pairs(self) -> Iterator[tuple[type[events.Event], Callable[..., Any]]]:
        """Each class of events that a function was given for, and that function."""
        for name, event_class in self.EVENTS.items():
            callback = getattr(self, name)
            if callback is not None:
                yield event_class, callback
