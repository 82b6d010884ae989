"""Who stands around a server: known observers, strangers, and callables of every odd kind."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
import sentry_sdk
import wrapt
from asgi_correlation_id import CorrelationIdMiddleware
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.websockets import WebSocket
from uvicorn.middleware.message_logger import MessageLoggerMiddleware

from tests.support.odd import LocalProxy
from wsstab.types import ASGIApp, Event, Receive, Scope, Send
from wsstab.wires import wire_for
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.base import owner_of
from wsstab.wires.observers import DEEPEST, OBSERVERS, look_through, server_behind, stranger

pytestmark = pytest.mark.anyio

SCOPE: Scope = {
    "type": "websocket",
    "path": "/ws",
    "raw_path": b"/ws",
    "query_string": b"",
    "root_path": "",
    "headers": [],
    "client": ("192.0.2.1", 5),
    "server": ("127.0.0.1", 80),
    "scheme": "ws",
    "subprotocols": [],
    "http_version": "1.1",
}


async def server_send(event: Event) -> None:
    """What a server passes to the application."""


async def server_receive() -> Event:
    """The same."""
    return {"type": "websocket.connect"}


def sessions(app: ASGIApp) -> ASGIApp:
    """Starlette's."""
    return SessionMiddleware(app, secret_key="of the tests")


def exceptions(app: ASGIApp) -> ASGIApp:
    """Starlette's, around each route."""
    from starlette._exception_handler import wrap_app_handling_exceptions

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await wrap_app_handling_exceptions(app, WebSocket(scope, receive, send))(scope, receive, send)

    return wrapped


def datadog(app: ASGIApp) -> ASGIApp:
    """ddtrace's, which is imported here: it looks at the whole process."""
    from ddtrace.contrib.asgi import TraceMiddleware
    from ddtrace.trace import tracer

    tracer.enabled = False
    wrapped: ASGIApp = TraceMiddleware(app)  # type: ignore[no-untyped-call]
    return wrapped


AROUND: list[Callable[[ASGIApp], ASGIApp]] = [
    OpenTelemetryMiddleware,
    SentryAsgiMiddleware,
    CorrelationIdMiddleware,
    MessageLoggerMiddleware,  # type: ignore[list-item]
    sessions,
    exceptions,
    datadog,
]


async def inside(*around: Callable[[ASGIApp], ASGIApp]) -> tuple[Receive, Send]:
    """What an application is given that stands inside of these, the outermost first."""
    given: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given.extend((receive, send))

    for each in reversed(around):
        app = each(app)  # type: ignore[assignment]
    await app(dict(SCOPE), server_receive, server_send)
    return given[0], given[1]


@pytest.fixture
def anyio_backend() -> str:
    """These know asyncio alone."""
    return "asyncio"


@pytest.mark.parametrize("around", AROUND, ids=lambda around: around.__name__)
async def test_each_package_of_the_table_is_looked_through(around: Callable[[ASGIApp], ASGIApp]) -> None:
    """As it is installed here: what it wraps is found again."""
    receive, send = await inside(around)
    assert send is not server_send
    assert look_through(send) is server_send
    assert look_through(receive) is server_receive


async def test_all_of_them_one_around_the_other_are_looked_through() -> None:
    """In whatever number."""
    receive, send = await inside(*AROUND)
    assert look_through(send) is server_send
    assert look_through(receive) is server_receive


async def test_sentry_around_each_middleware_is_looked_through() -> None:
    """Its Starlette integration wraps every middleware of an application, ours among them."""
    from sentry_sdk.integrations.starlette import StarletteIntegration, _enable_span_for_middleware

    given: list[Any] = []

    class Middleware:
        """Some middleware of an application."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Note what it is given."""
            given.extend((receive, send))

    with sentry_sdk.new_scope():
        client = sentry_sdk.Client(
            integrations=[StarletteIntegration(middleware_spans=True)], default_integrations=False
        )
        with sentry_sdk.isolation_scope() as scope:
            scope.set_client(client)
            await _enable_span_for_middleware(Middleware)()(dict(SCOPE), server_receive, server_send)
        client.close()
    assert [each.__name__ for each in given] == ["_sentry_receive", "_sentry_send"]
    assert [look_through(each) for each in given] == [server_receive, server_send]


def test_a_method_is_looked_through_to_what_its_object_holds() -> None:
    """Channels' sessions; one that holds it elsewhere is not."""
    from channels.sessions import InstanceSessionWrapper

    session = object.__new__(InstanceSessionWrapper)
    assert look_through(session.send) == session.send
    session.real_send = server_send
    assert look_through(session.send) is server_send


async def test_litestar_is_looked_through() -> None:
    """Its middleware for exceptions, which stands outside of every other."""
    from litestar import Litestar
    from litestar.middleware._internal.exceptions.middleware import ExceptionHandlerMiddleware

    sends: list[Send] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sends.append(send)

    outer: Any = ExceptionHandlerMiddleware(app, None)  # type: ignore[arg-type]
    await outer({**SCOPE, "state": {}, "litestar_app": Litestar([])}, server_receive, server_send)
    assert [look_through(send) for send in sends] == [server_send]
    assert sends != [server_send]


async def test_a_stranger_ends_the_look() -> None:
    """What it wraps may not be what it passes on; observers around it are looked through up to it."""

    def shouting(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            async def shout(event: Event) -> None:
                await send({**event, "text": "!"})

            await app(scope, receive, shout)

        return wrapped

    _, send = await inside(OpenTelemetryMiddleware, shouting, SentryAsgiMiddleware)
    found: Any = look_through(send)
    assert found.__code__.co_name == "shout"
    assert (stranger(SCOPE, send).module, stranger(SCOPE, send).function) == (__name__, "shout")


def known(inner: Any) -> Any:
    """A function that says it is of OpenTelemetry, around something."""
    namespace: dict[str, Any] = {"__name__": "opentelemetry.instrumentation.asgi"}
    exec("async def otel_send(event): pass", namespace)
    function = namespace["otel_send"]
    if inner is not None:
        function.__wrapped__ = inner
    return function


def test_a_version_that_holds_it_elsewhere_is_not_looked_through() -> None:
    """Rather than to fail, or to go on with something that cannot be called."""
    for inner in (None, "text", 3):
        send = known(inner)
        assert look_through(send) is send


def test_a_circle_of_observers_comes_to_an_end() -> None:
    """It wraps itself; and more than anybody has are not followed for ever."""
    send = known(server_send)
    send.__wrapped__ = send
    assert look_through(send) is send
    for _ in range(DEEPEST + 5):
        send = known(send)
    assert isinstance(look_through(send), FunctionType)


def test_what_only_looks_like_an_observer_is_a_stranger() -> None:
    """A proxy around one has its globals and its code, and does what it likes."""
    seen: list[Any] = []

    def change(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(args)

    proxy = wrapt.FunctionWrapper(known(server_send), change)
    assert proxy.__code__.co_name == "otel_send"
    assert look_through(proxy) is proxy


class Hostile:
    """Raises whatever it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    async def __call__(self, event: Event) -> None:
        """Take an event."""


class Holder:
    """Middleware whose ``send`` is a method."""

    def __init__(self, send: Any) -> None:
        self._send = send

    async def send(self, event: Event) -> None:
        """Pass it on."""
        await self._send(event)


@pytest.mark.parametrize(
    "odd",
    [Hostile(), None, 3, print, Holder, functools.partial(print, 1), SimpleNamespace()],
    ids=["hostile", "none", "number", "built-in", "class", "partial", "namespace"],
)
def test_odd_callables_are_survived(odd: Any) -> None:
    """By all who look."""
    assert look_through(odd) is odd
    assert server_behind(odd) is None
    assert stranger(SCOPE, odd).server == ""


@pytest.mark.parametrize("of", ["closure", "holder", "argument"])
def test_odd_objects_inside_of_a_middleware_are_survived(of: str) -> None:
    """And what stands beside them is found."""
    odd: Any = LocalProxy()
    send = Protocol().send

    async def closed(event: Event) -> None:
        await (odd or send)(event)

    holder = Holder(send)
    holder.odd = odd  # type: ignore[attr-defined]
    ways: dict[str, Any] = {"closure": closed, "holder": holder.send, "argument": functools.partial(print, odd, send)}
    assert stranger(SCOPE, ways[of]).server == "uvicorn"


class Protocol:
    """As uvicorn's."""

    __module__ = "uvicorn.protocols.websockets.some_impl"
    transport = None
    ping_interval = 20.0

    async def send(self, event: Event) -> None:
        """Send an event."""


def closure(send: Any) -> Any:
    """Middleware as a closure."""

    async def wrapper(event: Event) -> None:
        await send(event)

    return wrapper


@pytest.mark.parametrize(
    "around",
    [
        closure,
        lambda send: Holder(send).send,
        lambda send: functools.partial(Holder(send).send),
        lambda send: functools.partial(print, send),
        lambda send: wrapt.FunctionWrapper(send, print),
        lambda send: closure(Holder(closure(send)).send),
    ],
    ids=["closure", "method", "partial", "argument", "proxy", "several"],
)
def test_the_server_behind_a_stranger_is_found(around: Callable[[Any], Any]) -> None:
    """To say which one it is, and how it pings by itself."""
    protocol = Protocol()
    send = around(protocol.send)
    assert server_behind(send) is protocol
    found = stranger(SCOPE, send)
    assert (found.server, found.is_server, found.ping_interval) == ("uvicorn", False, 20.0)


def test_a_proxy_around_a_server_is_not_taken_for_it() -> None:
    """It has the server's ``__self__``, and does what it likes with messages."""
    proxy = wrapt.FunctionWrapper(Protocol().send, lambda wrapped, instance, args, kwargs: wrapped(*args))
    assert isinstance(proxy.__self__, Protocol)
    assert owner_of(proxy) is None
    assert type(wire_for(SCOPE, server_receive, proxy)) is AsgiWire


def test_a_server_of_an_unknown_version_is_no_stranger() -> None:
    """Its own ``send``, for which there is no wire."""
    assert stranger(SCOPE, Protocol().send).is_server


def test_a_pipe_is_a_test_only_in_a_test() -> None:
    """Middleware that passes messages through a queue hides its server as well as any other."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    assert not stranger(SCOPE, closure(queue.put)).is_test
    assert stranger({"type": "websocket", "path": "/"}, closure(queue.put)).is_test


def test_every_row_of_the_table_is_a_function_of_its_package() -> None:
    """Whose name its code still has; those of frameworks that are not installed are left out."""
    for observer in OBSERVERS:
        if observer.module.endswith(".starlite"):
            continue
        spec = importlib.util.find_spec(observer.module)
        assert spec is not None
        source = Path(str(spec.origin)).read_text()
        for function, _ in observer.functions:
            assert f"async def {function}(" in source
