"""Configuration: every option of the stabilizer, its default and its bounds.

`WebSocketConfig` is a dataclass that checks every value when it is set. A manager
works with a frozen copy of it. An `Override` replaces options for some paths or
for one endpoint; it may contain the options that can differ between connections.

Nothing is read from the environment unless `WebSocketConfig.from_env` is called.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, TypedDict

from ..close import Close
from ..core.patterns import matches
from ..types import Scope
from . import checks
from .checks import Check, flag, function, instance, member, number, optional, whole
from .environment import nearest, read_environment
from .groups import (
    MIB,
    Accepts,
    CompressionMode,
    Drain,
    HeartbeatType,
    Hooks,
    Inbound,
    MemoryEvictionPolicy,
    Outbound,
    RateLimit,
    accepts,
)
from .marks import EndpointT, mark

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Authorize", "ClientAddressOf", "Override", "WebSocketConfig"]

Authorize: TypeAlias = Callable[[Scope], Awaitable[bool | str | Close]]
ClientAddressOf: TypeAlias = Callable[[Scope], str | None]
HeartbeatMessage: TypeAlias = str | bytes | dict[str, Any]
DuplicateClient: TypeAlias = Literal["replace", "reject", "allow"]


class OverrideFields(TypedDict, total=False):
    """The options that can differ between connections."""

    heartbeat_interval: float
    heartbeat_timeout: float
    heartbeat_type: HeartbeatType | str
    custom_heartbeat: HeartbeatMessage | Callable[[], HeartbeatMessage] | None
    max_message_size: int | None
    compression: CompressionMode | str
    compression_threshold: int
    max_memory_per_connection: int | None
    allowed_origins: str | Sequence[str]
    accept_timeout: float | None
    idle_timeout: float | None
    max_connection_age: float | None
    inbound: Inbound
    outbound: Outbound
    rate_limit: RateLimit | None
    authorize: Authorize | None
    broadcast: bool
    max_connections_per_client: int | None
    duplicate_client: DuplicateClient


PER_CONNECTION = tuple(OverrideFields.__annotations__)


@dataclass(frozen=True, init=False, repr=False)
class Override:
    """Options for the connections of some paths, or of one endpoint, that differ from the configuration.

    For paths, it is a value of ``WebSocketConfig.routes``. For an endpoint, it is a decorator, which applies however
    the endpoint is reached::

        @app.websocket("/admin")
        @Override(authorize=only_admins)
        async def admin(websocket: WebSocket): ...

    If both apply, ``authorize`` and ``allowed_origins`` of both must let a WebSocket in. For all other options, the
    endpoint wins.

    Takes, by keyword, any option of `WebSocketConfig` that can differ between connections. A
    group replaces the whole group, and ``None`` is a value like any other: it switches the option off.

    Attributes:
        fields: the given options, with their checked values.

    Raises:
        ValueError: a value is not allowed, or an option cannot differ between connections.
    """

    fields: Mapping[str, Any]

    def __init__(self, **fields: Unpack[OverrideFields]) -> None:
        for name in fields:
            if name not in PER_CONNECTION:
                raise ValueError(f"Override.{name}: not an option of one connection; these are {_listed()}")
        kept = {name: CHECKS[name](f"Override.{name}", value) for name, value in fields.items()}
        object.__setattr__(self, "fields", kept)

    def __call__(self, endpoint: EndpointT) -> EndpointT:
        """Apply the options to an endpoint: an async function, a class, or an instance that is called.

        Its guards run before the endpoint runs. For a class that is neither called nor a Starlette
        ``WebSocketEndpoint``, they run before it accepts.

        Args:
            endpoint: the endpoint.

        Returns:
            The endpoint to route to, with the same signature. The decorator of the route may be above or below this
            one.

        Raises:
            TypeError: the endpoint cannot be called, or takes no attributes.
        """
        return mark(endpoint, self)

    def __repr__(self) -> str:
        return f"Override({', '.join(f'{name}={value!r}' for name, value in self.fields.items())})"


def _listed() -> str:
    return ", ".join(PER_CONNECTION)


NO_LIMIT = "no limit"
MOST_SHARDS = 65_536
"""All shards exist from the start, and a walk visits each of them, so more would only cost."""

CHECKS: dict[str, Check] = {
    "heartbeat_interval": number("a number of seconds"),
    "heartbeat_timeout": number("a number of seconds"),
    "heartbeat_type": member(HeartbeatType),
    "max_connections": checks.published(
        optional(whole("connections"), NO_LIMIT), "must be positive or None", positive=True
    ),
    "max_message_size": optional(whole("bytes"), NO_LIMIT),
    "reconnect_token_ttl": checks.published(checks.duration(), "must be positive", positive=True),
    "enable_reconnect": flag(),
    "compression": member(CompressionMode),
    "log_level": checks.published(checks.level(), "must be a valid logging level"),
    "enable_metrics": flag(),
    "num_shards": whole("shards", most=MOST_SHARDS),
    "max_concurrent_cleanup": whole("connections"),
    "max_concurrent_broadcast": whole("connections"),
    "max_memory_per_connection": optional(whole("bytes"), NO_LIMIT),
    "max_total_memory": optional(whole("bytes"), NO_LIMIT),
    "memory_eviction_policy": checks.published(member(MemoryEvictionPolicy), "must be one of"),
    "memory_check_interval": number("a number of seconds"),
    "compression_threshold": whole("bytes"),
    "secret_key": optional(checks.secret(), "a random one in each process"),
    "allowed_origins": checks.origins(),
    "trusted_proxies": checks.proxies(),
    "client_address": optional(function("the scope", awaited=False), "the address of the peer"),
    "max_connections_per_address": optional(whole("connections"), NO_LIMIT),
    "max_connections_per_client": optional(whole("connections"), NO_LIMIT),
    "duplicate_client": checks.word("replace", "reject", "allow"),
    "accept_timeout": optional(number("a number of seconds"), NO_LIMIT),
    "idle_timeout": optional(number("a number of seconds"), NO_LIMIT),
    "max_connection_age": optional(number("a number of seconds"), NO_LIMIT),
    "inbound": instance(Inbound),
    "outbound": instance(Outbound),
    "rate_limit": optional(instance(RateLimit), NO_LIMIT),
    "drain": instance(Drain),
    "custom_heartbeat": optional(checks.message(), "the default message"),
    "authorize": optional(function("the scope", awaited=True), "everybody"),
    "broadcast": flag(),
    "routes": checks.patterns(Override),
    "hooks": instance(Hooks),
}
"""The check of each option."""

NEED_THE_MIDDLEWARE = frozenset(
    {
        "accept_timeout",
        "allowed_origins",
        "authorize",
        "client_address",
        "compression",
        "compression_threshold",
        "inbound",
        "max_connections_per_address",
        "max_message_size",
        "rate_limit",
        "routes",
        "trusted_proxies",
    }
)
"""Options that act before or outside of what a manager without middleware sees of a connection."""

GROUPS: dict[str, type[Any]] = {"inbound": Inbound, "outbound": Outbound, "rate_limit": RateLimit, "drain": Drain}
"""The groups whose fields have environment variables."""


def _set_checked(config: WebSocketConfig, name: str, value: Any) -> None:
    _refuse_when_taken(config, name)
    if name in CHECKS:
        value = CHECKS[name](name, value)
    elif name not in config.__dataclass_fields__:
        raise AttributeError(f"{name}: no such option; did you mean {nearest(name, CHECKS)}?")
    # By way of `object`, because this function is the class's own ``__setattr__``.
    object.__setattr__(config, name, value)


def dead_without_middleware(config: WebSocketConfig) -> list[str]:
    """The options that are set, but cannot act for a manager without the middleware."""
    default = WebSocketConfig()
    return sorted(name for name in NEED_THE_MIDDLEWARE if getattr(config, name) != getattr(default, name))


def _delete(config: WebSocketConfig, name: str) -> None:
    _refuse_when_taken(config, name)
    object.__delattr__(config, name)


def _refuse_when_taken(config: WebSocketConfig, name: str) -> None:
    if config._taken:
        raise FrozenInstanceError(f"{name}: a manager has taken this configuration; change yours before that")


@dataclass
class WebSocketConfig:
    """Every option of the stabilizer.

    Values are checked when they are set, and texts become members of the enums. Sizes are in bytes,
    times in seconds. Where ``None`` is allowed, it means off.

    Heartbeat:
        heartbeat_interval: seconds without inbound traffic until a ping leaves; 30. Keep it under the
            idle timeout of every proxy on the way, which is 60 s by default at nginx and at AWS ALB.
        heartbeat_timeout: seconds without a sign of life after that ping until the connection is
            aborted; 60. May be shorter or longer than the interval.
        heartbeat_type: ``ping``, the default; ``custom``, an application message; or ``off``.
        custom_heartbeat: the message of ``custom``, or a function that returns one; ``None``, the
            default, for ``{"type": "ping", "timestamp": ...}``.

    Connections:
        max_connections: connections open at once; ``None``, the default, for no limit. More are refused with 503.
        max_connections_per_address: connections of one address; ``None``, the default, for no limit. More are refused
            with 429.
        max_connections_per_client: connections of one client id; ``None``, the default, for no limit.
        duplicate_client: when a client id connects again, ``replace`` the old connection (4409), the
            default; ``reject`` the new one; or ``allow`` both.
        accept_timeout: seconds a handler may take to accept; 10. After that, the WebSocket is refused with 503.
        idle_timeout: seconds without an application message in either direction; ``None``, the
            default, for no limit. After that, the connection is closed with 4408.
        max_connection_age: seconds a connection may last, give or take 10 %; ``None``, the default,
            for no limit. After that, it is closed with 1012, so that connections move to new processes.

    Access:
        allowed_origins: pages that may connect: ``same-host``, the default; ``*`` for all; or a list
            with entries such as ``*.example.com``. An empty list refuses every browser.
        authorize: an async function of the scope, called before accept: ``True``, ``False``, a
            `Close`, or the client id. ``None``, the default, lets everybody in.
        trusted_proxies: addresses or networks whose ``X-Forwarded-For`` is believed; those of this
            machine.
        client_address: a function of the scope that gives the client's address; ``None``, the
            default, for the rule of ``trusted_proxies``.

    Messages:
        max_message_size: bytes of one inbound message, text in UTF-8; 1,048,576. A larger message closes the
            connection with 1009. ``None`` for the server's limit.
        rate_limit: a `RateLimit` for each connection; ``None``, the default, for no limit.
        inbound: an `Inbound`: limits of the messages that wait for a busy handler.
        outbound: an `Outbound`: limits of the messages that wait for a slow peer.
        compression: ``deflate``, the default, for whatever the server negotiates, but without context takeover, so
            that an idle connection has no compressor; or ``none``.
        compression_threshold: bytes from which a message is compressed; 1,024.
        broadcast: whether broadcasts that name no room reach this connection; ``True``.

    Memory:
        max_memory_per_connection: bytes in the ledger; ``None``, the default, for no limit.
        max_total_memory: bytes in the ledger of all connections; ``None``, the default, for no limit.
            Above it, connections are evicted (1013).
        memory_eviction_policy: which connection is evicted first: ``lru``, the default, ``fifo``, ``oldest`` or
            ``largest``.
        memory_check_interval: seconds between two estimates of user data, which may change in place; 60.

    Reconnect tokens:
        enable_reconnect: whether tokens are issued and accepted; ``True``.
        reconnect_token_ttl: how long a token is valid, a ``timedelta`` or a number of seconds; 1 hour.
        secret_key: the key that signs tokens: a text, or a list with the newest first. ``None``, the default,
            for a random key, which no other process knows. It appears in no ``repr`` and in no error.

    Work and reports:
        num_shards: parts of the registry, which are walked one at a time; 16.
        max_concurrent_broadcast: writes of a broadcast before other tasks get a turn; 1,000.
        max_concurrent_cleanup: connections closed at a time; 100.
        log_level: lowest level that is logged, in any case; ``INFO``.
        enable_metrics: whether ``statistics()`` has latencies; ``False``, because they cost time.
        drain: a `Drain`: how connections end when the process stops.
        hooks: `Hooks`: functions that are called with events.
        routes: an `Override` by path: an exact path, or a pattern in which ``*`` stands for any
            characters, including slashes. The first pattern that matches wins. The path does not include the
            root path, nor the paths of mounts around the middleware. If other spellings of the path match as
            well (the full path, a newline or a slash at its end), the guards of all of them must let it in.

    Raises:
        ValueError: a value is not allowed; the message names the option, the value and what is allowed.
    """

    heartbeat_interval: float = 30.0
    heartbeat_timeout: float = 60.0
    heartbeat_type: Accepts[HeartbeatType, HeartbeatType | str] = field(default=accepts(HeartbeatType.PING))
    max_connections: int | None = None
    max_message_size: int | None = MIB
    reconnect_token_ttl: Accepts[timedelta, timedelta | float] = field(default=accepts(timedelta(hours=1)))
    enable_reconnect: bool = True
    compression: Accepts[CompressionMode, CompressionMode | str] = field(default=accepts(CompressionMode.DEFLATE))
    log_level: str = "INFO"
    enable_metrics: bool = False
    num_shards: int = 16
    max_concurrent_cleanup: int = 100
    max_concurrent_broadcast: int = 1000
    max_memory_per_connection: int | None = None
    max_total_memory: int | None = None
    memory_eviction_policy: Accepts[MemoryEvictionPolicy, MemoryEvictionPolicy | str] = field(
        default=accepts(MemoryEvictionPolicy.LRU)
    )
    memory_check_interval: float = 60.0
    # The published fields end here: positional arguments mean these, in the order of the published page.
    compression_threshold: int = 1024
    secret_key: str | Sequence[str] | None = field(default=None, repr=False)
    allowed_origins: str | Sequence[str] = "same-host"
    trusted_proxies: Sequence[str] = ("127.0.0.1", "::1")
    client_address: ClientAddressOf | None = None
    max_connections_per_address: int | None = None
    max_connections_per_client: int | None = None
    duplicate_client: DuplicateClient = "replace"
    accept_timeout: float | None = 10.0
    idle_timeout: float | None = None
    max_connection_age: float | None = None
    inbound: Inbound = field(default_factory=Inbound)
    outbound: Outbound = field(default_factory=Outbound)
    rate_limit: RateLimit | None = None
    drain: Drain = field(default_factory=Drain)
    custom_heartbeat: HeartbeatMessage | Callable[[], HeartbeatMessage] | None = None
    authorize: Authorize | None = None
    broadcast: bool = True
    routes: Mapping[str, Override] = field(default_factory=dict)
    hooks: Hooks = field(default_factory=Hooks)

    _taken: ClassVar[bool] = False
    by_pattern: ClassVar[tuple[tuple[str, WebSocketConfig], ...]] = ()

    # Assigned and not defined here: to a type checker, a class that defines such a method has every attribute.
    __setattr__ = _set_checked
    __delattr__ = _delete

    def validate(self) -> None:
        """Check every option again, because a list or a dict in one may have changed.

        Raises:
            ValueError: a value is not allowed.
        """
        for name, check in CHECKS.items():
            check(name, getattr(self, name))

    def frozen(self) -> WebSocketConfig:
        """A checked and frozen copy for a manager; a frozen configuration returns itself.

        Setting an attribute of the copy raises ``dataclasses.FrozenInstanceError``. Later changes of the original, or
        inside its lists and dicts, do not reach the copy.

        Raises:
            ValueError: a value is not allowed.
        """
        if self._taken:
            return self
        taken = replace(self)
        # Into the dict, because setting an attribute would be checked, and is refused from here on.
        vars(taken).update(_taken=True, by_pattern=_merge(taken))
        return taken

    def for_path(self, path: str) -> WebSocketConfig:
        """The frozen configuration for connections of a path.

        A frozen configuration returns the same object for all paths of one `Override`, and keeps nothing for each
        path. Any other configuration is frozen for this call.

        Args:
            path: path of the request, without query string.
        """
        if not self._taken:
            return self.frozen().for_path(path)
        for pattern, config in self.by_pattern:
            if matches(pattern, path):
                return config
        return self

    @classmethod
    def from_env(cls, prefix: str = "WSSTAB_", environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """A configuration from environment variables.

        ``WSSTAB_HEARTBEAT_INTERVAL=25`` sets ``heartbeat_interval``, ``WSSTAB_OUTBOUND_MAX_BYTES=65536``
        sets a field of a group. Times are in seconds, flags are ``true`` or ``false`` (``1``, ``0``,
        ``yes``, ``no``, ``on``, ``off``), lists have commas, and an empty value or ``none`` is
        ``None`` where that is allowed. Functions and ``routes`` cannot be set in this way. Variables
        that Kubernetes sets for a service whose name begins with the prefix are ignored.

        Args:
            prefix: prefix of the variables.
            environ: the variables; ``None`` for ``os.environ``.
            overrides: options that win over the variables; a group wins as a whole.

        Raises:
            ValueError: a variable with the prefix names no option, or a value is not allowed.
        """
        found = read_environment(prefix, os.environ if environ is None else environ, CHECKS, GROUPS)
        return cls(**(found | overrides))


def _merge(config: WebSocketConfig) -> tuple[tuple[str, WebSocketConfig], ...]:
    # Keyed by identity, because an Override may hold unhashable values.
    merged = {
        id(override): replace(config, routes={}, **override.fields).frozen() for override in config.routes.values()
    }
    return tuple((pattern, merged[id(override)]) for pattern, override in config.routes.items())
