"""Every value is checked when the configuration is made; a value that would fail in use is refused there.

Each field of `WebSocketConfig` and of each group has a row of values that look right and are wrong. In the other
direction, unusual values that are accepted must work for a handshake, a message and a drain.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from tests.support.stage import Peer, echo, on_stage
from wsstab import (
    Drain,
    Hooks,
    Inbound,
    Outbound,
    Override,
    RateLimit,
    TokenExpiredError,
    WebSocketConfig,
    WebSocketStabilizer,
)
from wsstab.config.callables import fits, is_async, is_plain
from wsstab.config.config import CHECKS, PER_CONNECTION
from wsstab.events import ConnectionOpened
from wsstab.types import Scope

GROUPS: dict[str, type[Any]] = {
    "": WebSocketConfig,
    "inbound": Inbound,
    "outbound": Outbound,
    "rate_limit": RateLimit,
    "drain": Drain,
    "hooks": Hooks,
}
HUGE = 10**5000
"""Python refuses to convert an integer with so many digits to text, so a message cannot show it."""


class WithoutRepr:
    """An object whose ``repr`` raises, so that a message cannot show it."""

    def __repr__(self) -> str:
        raise RuntimeError("on purpose")


def plain(scope: Scope) -> bool:
    """A function that is not async."""
    return True


async def async_function(scope: Scope) -> bool:
    """A coroutine function with one argument."""
    return True


async def async_without_arguments() -> str:
    """A coroutine function without arguments."""
    return ""


async def async_with_two_arguments(scope: Scope, receive: object) -> bool:
    """A coroutine function with one argument too many."""
    return True


@functools.wraps(async_function)
def wrapper_of_async(*args: Any) -> Any:
    """A plain function that wraps an async one."""
    return async_function(*args)


def generator_function(*given: Any) -> Any:
    """A generator function: calling it runs none of its code."""
    yield


async def async_generator_function(*given: Any) -> Any:
    """An async generator function: calling it runs none of its code either."""
    yield


class PlainCall:
    """A callable object that is not async."""

    def __call__(self, scope: Scope) -> bool:
        return True


class AsyncCall:
    """A callable object whose ``__call__`` is async."""

    async def __call__(self, scope: Scope) -> bool:
        return True


TOO_LARGE = 2**53
COUNTS = [TOO_LARGE, sys.maxsize, 10**30, HUGE, True, 0, -1, 1.0, Decimal(1), "1", WithoutRepr()]
TIMES = [0, -1, 5e-324, float("nan"), float("inf"), 10**400, HUGE, True, Decimal(1), Fraction(1), "1", WithoutRepr()]
FLAGS = [0, 1, "true", None, WithoutRepr()]
WORDS = ["", " ping", "PING ", 1, None, WithoutRepr()]
SECRETS = ["", " ", [], [""], "\ud800", ["new", "\udcff"], b"key", WithoutRepr()]
HOOKS = [
    lambda: None,
    lambda event, other: None,
    async_without_arguments,
    async_with_two_arguments,
    generator_function,
    async_generator_function,
    "print",
    WithoutRepr(),
]

ORIGINS = [
    "https://example.com",
    "SAME-HOST",
    ["https://example.com/"],
    ["https://example.com", "https://example.com/chat?x=1"],
    ["https://user:word@example.com"],
    ["https://"],
    ["https://example.com:99999"],
    ["https:example.com"],
    ["example.com/"],
    [" example.com"],
    [".example.com"],
    ["*example.com"],
    ["exa mple.com"],
    ["example.com\n"],
    ["https://example.com\r\nSet-Cookie: a=b"],
    ["SAME-HOST"],
    ["null"],
    ["https://a.*.example.com"],
    ["x" * 400],
    ["\ud800"],
    [WithoutRepr()],
]
PROXIES = [
    ["10.0.0.1/8"],
    ["::1", "fd00::1/8"],
    ["10.0.0.0/33"],
    ["10.0.0"],
    ["10.0.0.256"],
    ["10.0.0.1:8080"],
    ["[::1]"],
    ["[::1]:443"],
    [" 10.0.0.1"],
    ["10.0.0.1\n"],
    ["localhost"],
    ["proxy.internal"],
    ["10.0.0.*"],
    ["unix:"],
    [""],
    ["\ud800"],
    "10.0.0.1",
    [5],
    [WithoutRepr()],
]

FAILS_WHEN_USED: dict[str, dict[str, list[Any]]] = {
    "": {
        "heartbeat_interval": TIMES,
        "heartbeat_timeout": TIMES,
        "heartbeat_type": WORDS,
        "max_connections": COUNTS,
        "max_message_size": COUNTS,
        "reconnect_token_ttl": [0, -1, 1e300, HUGE, float("nan"), True, "1h", WithoutRepr()],
        "enable_reconnect": FLAGS,
        "compression": WORDS,
        "log_level": ["", "LOUD", "INFO ", 20, None, WithoutRepr()],
        "enable_metrics": FLAGS,
        "num_shards": [*COUNTS, 65_537],
        "max_concurrent_cleanup": COUNTS,
        "max_concurrent_broadcast": COUNTS,
        "max_memory_per_connection": COUNTS,
        "max_total_memory": COUNTS,
        "memory_eviction_policy": WORDS,
        "memory_check_interval": TIMES,
        "compression_threshold": COUNTS,
        "secret_key": SECRETS,
        "allowed_origins": ORIGINS,
        "trusted_proxies": PROXIES,
        "client_address": [
            async_function,
            AsyncCall(),
            AsyncMock(),
            lambda: "",
            lambda scope, receive: "",
            "x-real-ip",
            WithoutRepr(),
        ],
        "max_connections_per_address": COUNTS,
        "max_connections_per_client": COUNTS,
        "duplicate_client": WORDS,
        "accept_timeout": TIMES,
        "idle_timeout": TIMES,
        "max_connection_age": TIMES,
        "inbound": [None, {}, Inbound, WithoutRepr()],
        "outbound": [None, {}, Outbound, WithoutRepr()],
        "rate_limit": [{}, 5, RateLimit, WithoutRepr()],
        "drain": [None, {}, Drain, 5, WithoutRepr()],
        "custom_heartbeat": [
            "\ud800",
            {"a": "\ud800"},
            {"a": {1}},
            plain,
            async_without_arguments,
            AsyncMock(),
            [1],
            5,
            WithoutRepr(),
        ],
        "authorize": [
            async_generator_function,
            plain,
            lambda scope: True,
            PlainCall(),
            async_without_arguments,
            async_with_two_arguments,
            functools.partial(plain),
            "ann",
            WithoutRepr(),
        ],
        "broadcast": FLAGS,
        "routes": [
            {"ws": Override()},
            {"": Override()},
            {"/ws": {}},
            {"/ws": Override},
            [],
            {b"/ws": Override()},
            WithoutRepr(),
        ],
        "hooks": [None, {}, Hooks, WithoutRepr()],
    },
    "inbound": {"max_messages": [*COUNTS, None], "max_bytes": [*COUNTS, None], "message_timeout": TIMES},
    "outbound": {
        "max_bytes": COUNTS,
        "max_messages": COUNTS,
        "send_timeout": [*TIMES, None],
        "policy": [*WORDS, "drop"],
    },
    "rate_limit": {
        "messages_per_second": [*TIMES, 1e308, None],
        "burst": COUNTS,
        "bytes_per_second": [*TIMES, 1e308],
        "action": [*WORDS, "kill"],
    },
    "drain": {
        "timeout": [-1, 5e-324, float("nan"), float("inf"), 10**400, HUGE, True, None, "1", WithoutRepr()],
        "batch_size": [*COUNTS, None],
        "interval": [-1, 5e-324, float("nan"), float("inf"), HUGE, False, None, "1", WithoutRepr()],
        "code": [1005, 1006, 1015, 999, 5000, HUGE, True, "1012", None, WithoutRepr()],
        "reason": ["x" * 124, "é" * 62, "\ud800", b"x", None, WithoutRepr()],
        "handle_signals": FLAGS,
        "endpoint_token": [*SECRETS, "line\r\nbreak", "two words", " key", "nul\0", "soft\xa0space", ["good", "bad\n"]],
    },
    "hooks": dict.fromkeys(Hooks.EVENTS, HOOKS),
}

CORRECTED: list[tuple[str, Any, str]] = [
    ("allowed_origins", ["https://example.com/"], "not 'https://example.com/', but 'https://example.com'"),
    ("allowed_origins", ["https://example.com/a?b#c"], "but 'https://example.com'"),
    ("allowed_origins", ["HTTPS://Example.com:8443/"], "but 'https://example.com:8443'"),
    ("allowed_origins", ["https://me:pw@example.com"], "but 'https://example.com'"),
    ("allowed_origins", [" example.com "], "but 'example.com'"),
    ("allowed_origins", [".example.com"], "but '*.example.com'"),
    ("allowed_origins", ["*example.com"], "but '*.example.com'"),
    ("allowed_origins", ["Same-Host"], "but 'same-host'"),
    ("allowed_origins", [" *"], "but '*'"),
    ("allowed_origins", "SAME-HOST", "did you mean 'same-host'?"),
    ("trusted_proxies", ["10.0.0.1/8"], "not '10.0.0.1/8', but '10.0.0.0/8'"),
    ("trusted_proxies", ["fd00::1/8"], "but 'fd00::/8'"),
    ("trusted_proxies", ["10.0.0.1:8080"], "but '10.0.0.1'"),
    ("trusted_proxies", ["[::1]:443"], "but '::1'"),
    ("trusted_proxies", ["[::1]"], "but '::1'"),
    ("trusted_proxies", [" 10.0.0.5 "], "but '10.0.0.5'"),
    ("trusted_proxies", [" *"], "but '*'"),
    ("authorize", plain, "it is not async; write async def"),
    ("authorize", async_with_two_arguments, "it cannot be called with one argument"),
    ("client_address", async_function, "it is async, and must not be"),
    ("max_message_size", TOO_LARGE, "9007199254740991 is the largest"),
]

FROM_ENV: list[tuple[str, str, str]] = [
    ("WSSTAB_ALLOWED_ORIGINS", "https://a.example,https://example.com/", "but 'https://example.com'"),
    ("WSSTAB_TRUSTED_PROXIES", "10.0.0.1/8", "but '10.0.0.0/8'"),
    ("WSSTAB_SECRET_KEY", "\udcff", "<not shown>"),
    ("WSSTAB_DRAIN_ENDPOINT_TOKEN", "two words", "<not shown>"),
    ("WSSTAB_CUSTOM_HEARTBEAT", "\udcff", "must be a str, bytes or dict"),
    ("WSSTAB_DRAIN_INTERVAL", "5e-324", "1e-09 is the smallest"),
    ("WSSTAB_RATE_LIMIT_MESSAGES_PER_SECOND", "1e308", "9.0072e+15 is the largest"),
    ("WSSTAB_MAX_CONNECTIONS", "9" * 30, "9007199254740991 is the largest"),
    ("WSSTAB_MAX_CONNECTIONS", "9" * 5000, "must be a whole number"),
]


def made(group: str, name: str, value: Any) -> WebSocketConfig:
    """A configuration with this value in this field."""
    given: dict[str, Any] = {name: value}
    if not group:
        return WebSocketConfig(**given)
    if group == "rate_limit":
        given = {"messages_per_second": 5, **given}
    options: dict[str, Any] = {group: GROUPS[group](**given)}
    return WebSocketConfig(**options)


ROWS = [
    pytest.param(group, name, value, id=f"{group or 'config'}-{name}-{place}")
    for group, fields in FAILS_WHEN_USED.items()
    for name, values in fields.items()
    for place, value in enumerate(values)
]


def test_every_field_has_a_row_of_values_to_refuse() -> None:
    """Whoever adds a field must think of its wrong values here."""
    fields = {group: {field.name for field in dataclasses.fields(kind)} for group, kind in GROUPS.items()}
    assert {group: set(rows) for group, rows in FAILS_WHEN_USED.items()} == fields
    assert all(values for rows in FAILS_WHEN_USED.values() for values in rows.values())


@pytest.mark.parametrize(("group", "name", "value"), ROWS)
def test_a_value_that_would_fail_when_used_is_refused_at_construction(group: str, name: str, value: Any) -> None:
    """The ``ValueError`` names the field, and shows the value as far as it can be shown."""
    prefix = f"{GROUPS[group].__name__}.{name}" if group else name
    with pytest.raises(ValueError) as caught:
        made(group, name, value)
    assert f"{prefix}=" in str(caught.value)
    assert "must be" in str(caught.value)
    assert len(str(caught.value)) < 1000
    str(caught.value).encode("utf-8", "backslashreplace")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(name, value, id=f"{name}-{place}")
        for name in PER_CONNECTION
        for place, value in enumerate(FAILS_WHEN_USED[""][name])
    ],
)
def test_an_override_refuses_the_same_values(name: str, value: Any) -> None:
    """It refuses them when it is made, and names the field of the `Override`."""
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"Override\.{name}="):
        Override(**given)


@pytest.mark.parametrize(("name", "value", "told"), CORRECTED)
def test_an_error_suggests_the_value_that_was_obviously_meant(name: str, value: Any, told: str) -> None:
    """A suggested value is accepted in turn."""
    with pytest.raises(ValueError) as caught:
        WebSocketConfig(**{name: value})
    assert told in str(caught.value)
    if "but '" in told:
        meant = told.split("but ")[1].strip("'")
        given: dict[str, Any] = {name: [meant]}
        assert getattr(WebSocketConfig(**given), name) == (meant,)


@pytest.mark.parametrize(("variable", "text", "told"), FROM_ENV)
def test_a_wrong_value_from_the_environment_is_refused(variable: str, text: str, told: str) -> None:
    """The error begins with the name of the variable."""
    with pytest.raises(ValueError) as caught:
        WebSocketConfig.from_env(environ={variable: text})
    assert str(caught.value).startswith(variable)
    assert told in str(caught.value)


ACCEPTED: list[tuple[str, Any]] = [
    ("authorize", async_function),
    ("authorize", wrapper_of_async),
    ("authorize", AsyncCall()),
    ("authorize", AsyncMock()),
    ("authorize", functools.partial(async_with_two_arguments, receive=None)),
    ("authorize", AsyncCall().__call__),
    ("client_address", plain),
    ("client_address", PlainCall()),
    ("client_address", MagicMock()),
    ("client_address", str),
    ("custom_heartbeat", dict),
    ("custom_heartbeat", lambda **more: "tick"),
    ("hooks", Hooks(on_connect=print, on_disconnect=AsyncMock(), on_limit_hit=MagicMock())),
    ("allowed_origins", ["same-host", "*", "example.com", "*.example.com", "https://example.com:8443", "[::1]:80"]),
    ("allowed_origins", ["chrome-extension://abc", "http://localhost:3000"]),
    ("trusted_proxies", ["*", "10.0.0.0/8", "10.0.0.0/255.0.0.0", "::1", "fd00::/8", "::ffff:10.0.0.0/104"]),
    ("num_shards", 65_536),
    ("max_message_size", TOO_LARGE - 1),
    ("max_concurrent_cleanup", TOO_LARGE - 1),
    ("max_concurrent_broadcast", TOO_LARGE - 1),
    ("max_total_memory", TOO_LARGE - 1),
    ("heartbeat_interval", 1e300),
    ("heartbeat_timeout", 1e-9),
    ("accept_timeout", 1e300),
    ("idle_timeout", 1e300),
    ("max_connection_age", 1e300),
    ("memory_check_interval", 1e300),
    ("memory_check_interval", 1e-9),
    ("reconnect_token_ttl", 86399999913600),
    ("reconnect_token_ttl", 1e-6),
    ("inbound", Inbound(TOO_LARGE - 1, TOO_LARGE - 1)),
    ("outbound", Outbound(TOO_LARGE - 1, TOO_LARGE - 1, 1e300, "latest")),
    ("rate_limit", RateLimit(2**53 - 1, bytes_per_second=2**53 - 1)),
    ("rate_limit", RateLimit(1e-9, burst=1, bytes_per_second=1e-9, action="drop")),
    ("drain", Drain(timeout=1e300, interval=1e-9, batch_size=TOO_LARGE - 1, code=4999)),
    ("drain", Drain(timeout=0, interval=0)),
    ("secret_key", ["nou\0veau", "ключ"]),
]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("name", "value"), ACCEPTED)
async def test_an_accepted_value_works_from_handshake_to_drain(name: str, value: Any) -> None:
    """The test also makes and validates a token, and broadcasts."""
    async with on_stage(echo, **{name: value}) as stage:
        peer = await stage.open("/ws", headers=[(b"host", b"example.com"), (b"origin", b"https://example.com")])
        if ("websocket.accept" in peer.kinds) and name != "inbound":
            peer.says("hello")
        stage.manager.statistics()
        # This lifetime becomes one millisecond: the token may have expired before it is validated.
        with contextlib.suppress(*[TokenExpiredError] * (value == 1e-6)):
            await stage.manager.validate_reconnect_token(stage.manager.generate_reconnect_token("ann"))
        await stage.manager.broadcast("all")
        await stage.manager.disconnect_all()
        await peer.over()
        await stage.manager.drain()
    assert stage.manager.get_connection_count() == 0


@pytest.mark.parametrize(
    ("function", "arguments", "answer"),
    [
        (plain, 1, True),
        (plain, 0, False),
        (async_with_two_arguments, 1, False),
        (print, 5, True),
        (str, 1, True),
        (async_function, 2, False),
    ],
)
def test_a_function_fits_when_it_accepts_this_many_arguments(
    function: Callable[..., Any], arguments: int, answer: bool
) -> None:
    """Signatures that cannot be inspected count as fitting."""
    assert fits(function, arguments) is answer


def test_a_callable_with_a_broken_signature_counts_as_fitting() -> None:
    """It may still be callable."""

    class Broken:
        __signature__ = "none"

        def __call__(self) -> None:
            """Nothing."""

    assert fits(Broken(), 1)


@pytest.mark.parametrize(
    ("function", "asynchronous", "synchronous"),
    [
        (plain, False, True),
        (async_function, True, False),
        (wrapper_of_async, False, False),
        (AsyncCall(), True, False),
        (PlainCall(), False, True),
        (AsyncMock(), True, False),
        (MagicMock(), False, False),
        (print, False, False),
        (PlainCall, False, False),
        (functools.partial(async_function), True, False),
    ],
)
def test_a_function_is_reported_as_async_or_plain_only_when_that_is_certain(
    function: Callable[..., Any], asynchronous: bool, synchronous: bool
) -> None:
    """Where it cannot be known, both answers are false."""
    assert (is_async(function), is_plain(function)) == (asynchronous, synchronous)


def test_positional_arguments_have_the_order_of_the_published_page() -> None:
    """The page belongs to fastapi-websocket-stabilizer; its order holds for all of its fields."""
    page = (
        *("heartbeat_interval", "heartbeat_timeout", "heartbeat_type", "max_connections", "max_message_size"),
        *("reconnect_token_ttl", "enable_reconnect", "compression", "log_level", "enable_metrics", "num_shards"),
        *("max_concurrent_cleanup", "max_concurrent_broadcast", "max_memory_per_connection", "max_total_memory"),
        *("memory_eviction_policy", "memory_check_interval"),
    )
    assert [field.name for field in dataclasses.fields(WebSocketConfig)][: len(page)] == list(page)
    config = WebSocketConfig(30.0, 60.0, "ping", None, 1048576, 3600, True, "none", "DEBUG")
    assert (str(config.compression), config.log_level) == ("none", "DEBUG")


POSITIVE = [name for name, check in CHECKS.items() if check.positive]


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -1, -0.5])
def test_numbers_of_zero_or_less_are_refused_with_the_published_message(name: str, value: float) -> None:
    """Tests that were written for fastapi-websocket-stabilizer go on passing."""
    words = "must be positive or None: " if name == "max_connections" else "must be positive: "
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"^{name} {words}"):
        WebSocketConfig(**given)


def test_unknown_choices_are_refused_with_the_published_messages() -> None:
    """The fields that fastapi-websocket-stabilizer requires to be positive are all among the checked ones."""
    with pytest.raises(ValueError, match="log_level must be a valid logging level"):
        WebSocketConfig(log_level="LOUD")
    with pytest.raises(ValueError, match="memory_eviction_policy must be one of"):
        WebSocketConfig(memory_eviction_policy="mru")
    assert {
        "max_total_memory",
        "max_memory_per_connection",
        "max_concurrent_cleanup",
        "max_concurrent_broadcast",
    } < set(POSITIVE)


@pytest.mark.parametrize(
    "keys",
    [
        {"manager_key": ""},
        {"connection_key": 5},
        {"manager_key": "connection"},
        {"manager_key": "wsstab.server"},
        {"connection_key": WithoutRepr()},
    ],
)
def test_state_keys_on_which_each_request_would_fail_are_refused(keys: dict[str, Any]) -> None:
    """They are refused when the middleware is made."""
    with pytest.raises(
        ValueError, match=f"{'connection_key' if keys.get('manager_key') == 'connection' else next(iter(keys))}="
    ):
        WebSocketStabilizer(echo, **keys)  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_callback_that_cannot_take_an_event_is_refused() -> None:
    """``on()`` refuses it, as `Hooks` does."""
    async with on_stage(echo) as stage:
        with pytest.raises(TypeError, match="one argument"):
            stage.manager.on(ConnectionOpened, lambda: None)
        assert isinstance(await stage.open(), Peer)
