"""Observers: a table of known wrappers between us and the server that a wire may bypass.

Tracing and error reporting wrap ``send`` and ``receive`` around the whole application. A wrapper that hides the
server's own callables disables all features that plain ASGI lacks: pings, abort, joined broadcasts. An observer in the
table does not change messages, so a wire may write past it; the handshake, a refusal and the close still go through it.

A wrapper that is not in the table is not bypassed, because it may change messages. The log names it.

A function is identified by the module in its globals and by the name in its code: ``functools.wraps`` replaces
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
"""The most observers nested around each other that are looked through."""
WIDEST = 256
"""The most objects inspected to find the server behind a callable."""
HIGHEST = 100
"""The most stack frames inspected to find out whether a test client is calling."""
MISSING = object()
"""Marks a missing attribute."""

F = TypeVar("F")


@dataclass(frozen=True)
class Observer:
    """Functions of one package that pass each message on as it is.

    Args:
        package: the package that contains the functions.
        module: the module that defines them.
        functions: the name in the code of each, and where it holds the callable that it wraps: a free variable,
            ``__wrapped__``, or, for a method, an attribute of its object.
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
    # A method, which holds the callable in an attribute of its object. Sessions are saved when an HTTP response starts.
    Observer("channels", "channels.sessions", (("send", "real_send"),)),
    # ``--log-level trace``.
    Observer("uvicorn", "uvicorn.middleware.message_logger", (("inner_send", "send"), ("inner_receive", "receive"))),
)
"""All known observers."""

INNER = {(observer.module, function): inner for observer in OBSERVERS for function, inner in observer.functions}

SERVERS = ("uvicorn", "hypercorn", "daphne", "granian")
"""The protocol libraries of servers are not listed: a middleware may use one as a client of another server."""
TESTS = ("starlette.testclient", "httpx_ws.", "asgiref.testing", "channels.testing", "async_asgi_testclient.")
"""Modules, and beginnings of modules, of clients that call an application in their own process."""
PIPES = ("anyio.streams.memory", "asyncio.queues", "queue")
"""Modules of the queues and streams through which test clients pass messages."""


@dataclass(frozen=True)
class Stranger:
    """A ``send`` that belongs neither to a known server nor to an observer in the table.

    Args:
        module: the module it comes from.
        function: its name in that module.
        server: the name of the server behind it; ``""`` (the default) if not known.
        is_server: whether it is that server's own ``send``, of an unknown version.
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
    """The ``send`` or ``receive`` behind all observers of the table; the argument itself if there are none."""
    seen: Any = function
    for _ in range(DEEPEST):
        # Exact types: `isinstance` would ask the object for its class, and a proxy outside its context raises then.
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
    """Identify a ``send`` that no wire has recognised."""
    hidden = look_through(send)
    module, function = name_of(hidden)
    server = server_behind(hidden)
    if server is None:
        return Stranger(module, function, is_test=_is_test(scope, hidden))
    name = _package(server)
    is_server = owner_of(hidden) is server or (type(hidden) is partial and any(each is server for each in hidden.args))
    return Stranger(module, function, name, is_server, ping_interval=_ping_interval(name, server))


def server_behind(send: object) -> Any:
    """The server's object for this connection, behind any wrapper; ``None`` if it is not found.

    Use it only to identify the server or to be told of its stop, because wrappers in between may change messages.
    """
    for each in reachable(send):
        if _package(each):
            return each
    return None


def _inner(function: FunctionType | MethodType, name: str) -> Callable[..., Any] | None:
    """The callable that an observer wraps; ``None`` if this version of the observer holds it elsewhere."""
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
    """A callable and all objects reachable from it, the nearest first.

    These may be anyone's objects, and access to their attributes, even ``__class__``, may raise anything, as with a
    proxy outside its context. Check their type with `type`, not with `isinstance`.
    """
    waiting, known = deque([start]), {id(start)}
    while waiting:
        each = waiting.popleft()
        yield each
        for held in _held(each):
            # By identity, because these objects may define any equality; bounded, because a wrapper may lead to
            # everything.
            if id(held) not in known and len(known) < WIDEST:
                known.add(id(held))
                waiting.append(held)


def _held(thing: Any) -> list[Any]:
    """The objects that a callable, or a holder of callables, refers to and that may lead to the server."""
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
        # The object may be anyone's; if its attribute access raises, this path leads nowhere.
        return default


def _attributes(thing: object) -> dict[str, Any]:
    found = _attribute(thing, "__dict__")
    return found if type(found) is dict else {}


def _package(thing: object) -> str:
    """The name of the server if this is its object for a connection; ``""`` otherwise."""
    if issubclass(type(thing), (FunctionType, partial)):
        return ""
    for name in map(package_of, modules_of_class(thing)):
        if name in SERVERS and _attribute(thing, ATTRIBUTE_OF[name], MISSING) is not MISSING:
            return name
    return ""


def modules_of_class(thing: object) -> Iterator[str]:
    """The modules of an object's class and of its base classes."""
    for base in type(thing).__mro__:
        module = _attribute(base, "__module__")
        if type(module) is str:
            yield module


def package_of(module: str) -> str:
    """The top-level package of a module."""
    return module.partition(".")[0]


ATTRIBUTE_OF = {"uvicorn": "transport", "hypercorn": "app_send", "daphne": "serverAccept", "granian": "send"}
"""The attribute that tells a server's object for a connection from the server's middleware, which lacks it."""


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
            # Other software passes messages through such objects as well.
            return scope.get("client") is None or _called_from_a_test()
    return False


def _called_from_a_test() -> bool:
    # Not inspect.stack(), which reads the source files of all frames.
    frame = sys._getframe()
    for _ in range(HIGHEST):
        if str(frame.f_globals.get("__name__")).startswith(TESTS):
            return True
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def name_of(function: Any) -> tuple[str, str]:
    """The module and the name of a callable, as far as they can be found."""
    while type(function) is partial:
        function = function.func
    if type(function) is FunctionType:
        return str(function.__globals__.get("__name__")), function.__code__.co_name
    owner = _attribute(function, "__self__")
    kind = type(function) if owner is None else type(owner)
    name = _attribute(function, "__name__")
    return str(kind.__module__), f"{kind.__qualname__}.{name}" if isinstance(name, str) else kind.__qualname__
