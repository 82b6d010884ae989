"""Who may stand between us and the server: a table of observers through which a wire looks.

Tracing and error reporting wrap ``send`` and ``receive`` around the whole application. What hides the server's own
takes away all that plain ASGI has not: pings, abort, joined broadcasts. An observer in the table does not change
messages, so a wire may write past it; the handshake, a refusal and the close still go through it.

Nothing that is not in the table is looked through, for it may change messages. It is named in the log.

A function is known by its module, as its globals say, and by the name in its code: ``functools.wraps`` replaces
``__module__`` and ``__name__``. Tried with opentelemetry-instrumentation-asgi 0.66b2, sentry-sdk 2.75, ddtrace 4.16,
asgi-correlation-id 5.0.1, Starlette 1.7 to 1.10, Litestar 2.25, Channels 4.3 and uvicorn 0.54.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar

from ..types import Scope, Send
from .base import owner_of

__all__ = [
    "OBSERVERS",
    "SERVERS",
    "Observer",
    "Stranger",
    "look_through",
    "modules_of_class",
    "name_of",
    "package_of",
    "reachable",
    "server_behind",
    "stranger",
]

WRAPPED = "__wrapped__"
DEEPEST = 32
"""Observers that may stand one around the other."""
WIDEST = 256
"""Objects that are looked at to find out which server is behind something."""
HIGHEST = 100
"""Callers that are looked at to find out whether this is a test."""
MISSING = object()
"""No attribute of that name."""

F = TypeVar("F")


@dataclass(frozen=True)
class Observer:
    """Functions of one package that pass each message on as it is.

    Args:
        package: whose they are.
        module: where they are defined.
        functions: by the name in their code, and where each holds the callable that it stands around: a free
            variable, ``__wrapped__``, or of a method an attribute of its object.
    """

    package: str
    module: str
    functions: tuple[tuple[str, str], ...]


SENTRY = (("_sentry_send", "send"), ("_sentry_receive", "receive"))

OBSERVERS = (
    Observer(
        "opentelemetry-instrumentation-asgi",
        "opentelemetry.instrumentation.asgi",
        (("otel_send", WRAPPED), ("otel_receive", WRAPPED)),
    ),
    Observer("sentry-sdk", "sentry_sdk.integrations.asgi", (("_sentry_wrapped_send", "send"),)),
    # With its Starlette integration each middleware is wrapped, ours among them.
    Observer("sentry-sdk", "sentry_sdk.integrations.starlette", SENTRY),
    Observer("sentry-sdk", "sentry_sdk.integrations.starlite", SENTRY),
    Observer("sentry-sdk", "sentry_sdk.integrations.litestar", SENTRY),
    Observer(
        "ddtrace",
        "ddtrace.contrib.internal.asgi.middleware",
        (("wrapped_send", WRAPPED), ("wrapped_receive", WRAPPED)),
    ),
    Observer("asgi-correlation-id", "asgi_correlation_id.middleware", (("handle_outgoing_request", "send"),)),
    Observer("starlette", "starlette.middleware.sessions", (("send_wrapper", "send"),)),
    Observer("starlette", "starlette._exception_handler", (("sender", "send"),)),
    Observer(
        "litestar", "litestar.middleware._internal.exceptions.middleware", (("capture_response_started", "send"),)
    ),
    # A method: it holds the callable in an attribute of its object. Sessions are saved when an HTTP response starts.
    Observer("channels", "channels.sessions", (("send", "real_send"),)),
    # ``--log-level trace``.
    Observer("uvicorn", "uvicorn.middleware.message_logger", (("inner_send", "send"), ("inner_receive", "receive"))),
)
"""All that are known."""

INNER = {(observer.module, function): inner for observer in OBSERVERS for function, inner in observer.functions}

SERVERS = ("uvicorn", "hypercorn", "daphne", "granian")
"""Not the libraries to which they leave the protocol: a middleware may be the client of another server by the same."""
TESTS = ("starlette.testclient", "httpx_ws.", "asgiref.testing", "channels.testing", "async_asgi_testclient.")
"""Modules, and beginnings of modules, of clients that call an application in their own process."""
PIPES = ("anyio.streams.memory", "asyncio.queues", "queue")
"""What they pass messages through."""


@dataclass(frozen=True)
class Stranger:
    """Something that is no server of those that are known, nor in the table.

    Args:
        module: where it is from.
        function: its name there.
        server: the name of the server behind it; ``""`` where that cannot be told.
        is_server: whether it is that server's own, of a version that is not known.
        is_test: whether the peer is a test client in this process.
        ping_interval: seconds between the pings that the server sends by itself; ``None`` for none, or not known.
    """

    module: str
    function: str
    server: str = ""
    is_server: bool = False
    is_test: bool = False
    ping_interval: float | None = None


def look_through(function: F) -> F:
    """The ``send`` or ``receive`` that stands behind all observers of the table; the same where there are none."""
    seen: Any = function
    for _ in range(DEEPEST):
        written = seen.__func__ if type(seen) is MethodType else seen
        if type(written) is not FunctionType:
            break
        name = INNER.get((str(written.__globals__.get("__name__")), written.__code__.co_name))
        inner = None if name is None else _inner(seen, name)
        if inner is None:
            break
        seen = inner
    result: F = seen
    return result


def stranger(scope: Scope, send: Send) -> Stranger:
    """Who it is whose ``send`` no wire has recognised."""
    hidden = look_through(send)
    module, function = name_of(hidden)
    server = server_behind(hidden)
    if server is None:
        return Stranger(module, function, is_test=_is_test(scope, hidden))
    name = _package(server)
    is_server = owner_of(hidden) is server or (type(hidden) is partial and any(each is server for each in hidden.args))
    return Stranger(module, function, name, is_server, ping_interval=_ping_interval(name, server))


def server_behind(send: object) -> Any:
    """The server's object of this connection, whatever stands between; ``None`` where it is not found.

    Only to say which server it is, or to hear from it: what stands between may change messages.
    """
    for each in reachable(send):
        if _package(each):
            return each
    return None


def _inner(function: FunctionType | MethodType, name: str) -> Callable[..., Any] | None:
    """What an observer stands around; ``None`` where its version has that elsewhere."""
    if isinstance(function, MethodType):
        found = _attributes(function.__self__).get(name)
        return found if callable(found) else None
    found = function.__dict__.get(WRAPPED) if name == WRAPPED else _free_variables(function).get(name)
    return found if callable(found) else None


def _free_variables(function: FunctionType) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            variables[name] = cell.cell_contents
        except ValueError:
            # Not assigned yet.
            continue
    return variables


def reachable(start: object) -> Iterator[object]:
    """A callable, what it holds, and what that holds, the nearest first.

    Among them may be anybody's objects, whose attributes raise what they like, ``__class__`` too, as those of a proxy
    without its context do: ask for their type by `type`, not by `isinstance`.
    """
    waiting, known = deque([start]), {id(start)}
    while waiting:
        each = waiting.popleft()
        yield each
        for held in _held(each):
            if id(held) not in known and len(known) < WIDEST:
                known.add(id(held))
                waiting.append(held)


def _held(thing: Any) -> list[Any]:
    """What leads on from something that calls, or that holds what calls."""
    if type(thing) is FunctionType:
        return [value for value in (thing.__dict__.get(WRAPPED), *_free_variables(thing).values()) if callable(value)]
    if issubclass(type(thing), partial):
        arguments = _attribute(thing, "args")
        return [_attribute(thing, "func"), *(arguments if type(arguments) is tuple else ())]
    if type(thing) is MethodType:
        return [thing.__self__, thing.__func__]
    owner = _attribute(thing, "__self__")
    if owner is not None:
        return [owner]
    values = [*_attributes(thing).values(), _attribute(thing, WRAPPED)]
    return [value for value in values if callable(value) and not issubclass(type(value), type)]


def _attribute(thing: object, name: str, default: Any = None) -> Any:
    try:
        return getattr(thing, name, default)
    except Exception:
        # Somebody's own attribute access; whatever it raises, it leads nowhere.
        return default


def _attributes(thing: object) -> dict[str, Any]:
    found = _attribute(thing, "__dict__")
    return found if type(found) is dict else {}


def _package(thing: object) -> str:
    """The server whose object of a connection this is; ``""`` for none."""
    if issubclass(type(thing), (FunctionType, partial)):
        return ""
    for name in map(package_of, modules_of_class(thing)):
        if name in SERVERS and _attribute(thing, ATTRIBUTE_OF[name], MISSING) is not MISSING:
            return name
    return ""


def modules_of_class(thing: object) -> Iterator[str]:
    """The modules of the class of something, and of what that is derived from."""
    for base in type(thing).__mro__:
        module = _attribute(base, "__module__")
        if type(module) is str:
            yield module


def package_of(module: str) -> str:
    """The package at the top."""
    return module.partition(".")[0]


ATTRIBUTE_OF = {"uvicorn": "transport", "hypercorn": "app_send", "daphne": "serverAccept", "granian": "send"}
"""What an object of a connection has, and a server's middleware, which may stand outside too, has not."""


def _ping_interval(server: str, thing: Any) -> float | None:
    if server == "hypercorn":
        found = _attribute(_attribute(thing, "config"), "websocket_ping_interval")
    else:
        found = _attribute(_attribute(thing, "server") if server == "daphne" else thing, "ping_interval")
    return found if isinstance(found, int | float) and found > 0 else None


def _is_test(scope: Scope, send: object) -> bool:
    for each in reachable(send):
        module = str(_attribute(type(each), "__module__"))
        if module.startswith(TESTS):
            return True
        if module in PIPES:
            # Others pass messages through such as well.
            return scope.get("client") is None or _called_from_a_test()
    return False


def _called_from_a_test() -> bool:
    frame = sys._getframe()
    for _ in range(HIGHEST):
        if str(frame.f_globals.get("__name__")).startswith(TESTS):
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def name_of(function: Any) -> tuple[str, str]:
    """The module and the name of something that is called, as well as they can be told."""
    while type(function) is partial:
        function = function.func
    if type(function) is FunctionType:
        return str(function.__globals__.get("__name__")), function.__code__.co_name
    owner = _attribute(function, "__self__")
    kind = type(function) if owner is None else type(owner)
    name = _attribute(function, "__name__")
    return str(kind.__module__), f"{kind.__qualname__}.{name}" if isinstance(name, str) else kind.__qualname__
