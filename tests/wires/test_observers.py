"""Callables between the server and us: known observers, strangers, and objects that break when they are inspected."""

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
    """The ``send`` that a server passes to the application."""


async def server_receive() -> Event:
    """The ``receive`` that a server passes to the application."""
    return {"type": "websocket.connect"}


def sessions(app: ASGIApp) -> ASGIApp:
    """The session middleware of Starlette."""
    return SessionMiddleware(app, secret_key="of the tests")


def exceptions(app: ASGIApp) -> ASGIApp:
    """The exception handler that Starlette puts around each route."""
    from starlette._exception_handler import wrap_app_handling_exceptions

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        await wrap_app_handling_exceptions(app, WebSocket(scope, receive, send))(scope, receive, send)

    return wrapped


def datadog(app: ASGIApp) -> ASGIApp:
    """The middleware of ddtrace, imported only when it is used, because it inspects the whole process."""
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
    """The callables that an application gets inside of these middlewares, the outermost first."""
    given: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        given.extend((receive, send))

    for each in reversed(around):
        app = each(app)  # type: ignore[assignment]
    await app(dict(SCOPE), server_receive, server_send)
    return given[0], given[1]


@pytest.fixture
def anyio_backend() -> str:
    """These middlewares support only asyncio."""
    return "asyncio"


@pytest.mark.parametrize("around", AROUND, ids=lambda around: around.__name__)
async def test_each_observer_of_the_table_is_looked_through(around: Callable[[ASGIApp], ASGIApp]) -> None:
    """With the installed versions, the callables that they wrap are found."""
    receive, send = await inside(around)
    assert send is not server_send
    assert look_through(send) is server_send
    assert look_through(receive) is server_receive


async def test_nested_observers_are_all_looked_through() -> None:
    """All of the above are nested here."""
    receive, send = await inside(*AROUND)
    assert look_through(send) is server_send
    assert look_through(receive) is server_receive


async def test_sentry_around_each_middleware_is_looked_through() -> None:
    """Sentry's Starlette integration wraps every middleware of an application, ours among them."""
    from sentry_sdk.integrations.starlette import StarletteIntegration, _enable_span_for_middleware

    given: list[Any] = []

    class Middleware:
        """A middleware of an application."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            """Record the callables."""
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


def test_a_method_is_looked_through_to_the_send_that_its_object_holds() -> None:
    """The sessions of Channels are like this; without the expected attribute, the search ends at the method."""
    from channels.sessions import InstanceSessionWrapper

    session = object.__new__(InstanceSessionWrapper)
    assert look_through(session.send) == session.send
    session.real_send = server_send
    assert look_through(session.send) is server_send


async def test_litestar_is_looked_through() -> None:
    """Its exception middleware is outside of every other one."""
    from litestar import Litestar
    from litestar.middleware._internal.exceptions.middleware import ExceptionHandlerMiddleware

    sends: list[Send] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sends.append(send)

    outer: Any = ExceptionHandlerMiddleware(app, None)  # type: ignore[arg-type]
    await outer({**SCOPE, "state": {}, "litestar_app": Litestar([])}, server_receive, server_send)
    assert [look_through(send) for send in sends] == [server_send]
    assert sends != [server_send]


async def test_looking_through_stops_at_an_unknown_wrapper() -> None:
    """An unknown wrapper may change messages; only the observers between it and us are looked through."""

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


def like_opentelemetry(inner: Any) -> Any:
    """A function that looks like OpenTelemetry's, around something."""
    namespace: dict[str, Any] = {"__name__": "opentelemetry.instrumentation.asgi"}
    exec("async def otel_send(event): pass", namespace)
    function = namespace["otel_send"]
    if inner is not None:
        function.__wrapped__ = inner
    return function


def test_an_observer_that_holds_no_callable_where_expected_is_not_looked_through() -> None:
    """Another version may hold it elsewhere; the search ends there without an error."""
    for inner in (None, "text", 3):
        send = like_opentelemetry(inner)
        assert look_through(send) is send


def test_looking_through_ends_in_a_circle_and_after_many_observers() -> None:
    """An observer may wrap itself, and the depth is limited."""
    send = like_opentelemetry(server_send)
    send.__wrapped__ = send
    assert look_through(send) is send
    for _ in range(DEEPEST + 5):
        send = like_opentelemetry(send)
    assert isinstance(look_through(send), FunctionType)


def test_a_proxy_around_an_observer_is_not_looked_through() -> None:
    """It shows the globals and the code of the observer, but may change messages."""
    seen: list[Any] = []

    def change(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(args)

    proxy = wrapt.FunctionWrapper(like_opentelemetry(server_send), change)
    assert proxy.__code__.co_name == "otel_send"
    assert look_through(proxy) is proxy


class Hostile:
    """An object that raises for every attribute."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    async def __call__(self, event: Event) -> None:
        """Take an event."""


class Holder:
    """A middleware whose ``send`` is a method."""

    def __init__(self, send: Any) -> None:
        self._send = send

    async def send(self, event: Event) -> None:
        """Pass the event on."""
        await self._send(event)


@pytest.mark.parametrize(
    "unusual",
    [Hostile(), None, 3, print, Holder, functools.partial(print, 1), SimpleNamespace()],
    ids=["hostile", "none", "number", "built-in", "class", "partial", "namespace"],
)
def test_unusual_callables_do_not_break_the_inspection(unusual: Any) -> None:
    """None of the functions that inspect a ``send`` raises."""
    assert look_through(unusual) is unusual
    assert server_behind(unusual) is None
    assert stranger(SCOPE, unusual).server == ""


@pytest.mark.parametrize("of", ["closure", "holder", "argument"])
def test_a_broken_proxy_inside_a_middleware_does_not_hide_the_server(of: str) -> None:
    """The server beside it is still found."""
    unusual: Any = LocalProxy()
    send = Protocol().send

    async def closed(event: Event) -> None:
        await (unusual or send)(event)

    holder = Holder(send)
    holder.unusual = unusual  # type: ignore[attr-defined]
    ways: dict[str, Any] = {
        "closure": closed,
        "holder": holder.send,
        "argument": functools.partial(print, unusual, send),
    }
    assert stranger(SCOPE, ways[of]).server == "uvicorn"


class Protocol:
    """A double of uvicorn's protocol object."""

    __module__ = "uvicorn.protocols.websockets.some_impl"
    transport = None
    ping_interval = 20.0

    async def send(self, event: Event) -> None:
        """Send an event."""


def closure(send: Any) -> Any:
    """A middleware whose ``send`` is a closure."""

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
def test_the_server_behind_an_unknown_wrapper_is_found(around: Callable[[Any], Any]) -> None:
    """The log can then name it, and its ping interval is known."""
    protocol = Protocol()
    send = around(protocol.send)
    assert server_behind(send) is protocol
    found = stranger(SCOPE, send)
    assert (found.server, found.is_server, found.ping_interval) == ("uvicorn", False, 20.0)


def test_a_proxy_around_the_send_of_a_server_is_not_taken_for_the_server() -> None:
    """It has the server's ``__self__``, but may change messages."""
    proxy = wrapt.FunctionWrapper(Protocol().send, lambda wrapped, instance, args, kwargs: wrapped(*args))
    assert isinstance(proxy.__self__, Protocol)
    assert owner_of(proxy) is None
    assert type(wire_for(SCOPE, server_receive, proxy)) is AsgiWire


def test_the_send_of_an_unknown_server_version_is_known_as_the_servers_own() -> None:
    """No wire exists for it, but no wrapper hides it either."""
    assert stranger(SCOPE, Protocol().send).is_server


def test_a_send_through_a_queue_is_a_test_client_only_without_a_client_address() -> None:
    """Middleware that passes messages through a queue hides its server like any other wrapper."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    assert not stranger(SCOPE, closure(queue.put)).is_test
    assert stranger({"type": "websocket", "path": "/"}, closure(queue.put)).is_test


@pytest.mark.parametrize("module", ["starlette.testclient", "httpx_ws.transport", "somebody.else"])
def test_a_test_client_that_calls_through_a_queue_is_recognised_by_the_call_stack(module: str) -> None:
    """It may claim an address, which a server always has, too."""
    namespace: dict[str, Any] = {"__name__": module}
    exec("def call(function, *arguments): return function(*arguments)", namespace)
    queue: asyncio.Queue[Any] = asyncio.Queue()
    assert namespace["call"](stranger, SCOPE, closure(queue.put)).is_test is (module != "somebody.else")


def test_every_function_in_the_table_exists_in_its_package() -> None:
    """The names are looked up in the source; a framework that is not installed is left out."""
    for observer in OBSERVERS:
        if observer.module.endswith(".starlite"):
            continue
        spec = importlib.util.find_spec(observer.module)
        assert spec is not None
        source = Path(str(spec.origin)).read_text()
        for function, _ in observer.functions:
            assert f"async def {function}(" in source
