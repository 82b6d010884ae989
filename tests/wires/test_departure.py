"""Departure: whether an error of ``send`` is the server's report that its peer has left."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import FunctionType
from typing import Any

import pytest
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import ConnectionClosedError

from tests.support.odd import LocalProxy
from wsstab.types import Event
from wsstab.wires.departure import is_departure, promises_an_error, reaches_a_server
from wsstab.wires.observers import WIDEST

Failing = Callable[[Event], Awaitable[None]]


class Uvicorn:
    """A double of the protocol object of a server."""

    async def send(self, event: Event) -> None:
        """The ``send`` of the server."""


Uvicorn.__module__ = "uvicorn.protocols.websockets.websockets_sansio_impl"


def raising(error: Exception, module: str = "some.middleware") -> Failing:
    """A ``send`` of this module that raises this error."""

    async def send(event: Event) -> None:
        raise error

    return FunctionType(send.__code__, {"__name__": module}, "send", None, send.__closure__)


def wrapping(inner: Any) -> Failing:
    """The ``send`` of a middleware, which calls another one."""

    async def send(event: Event) -> None:
        await inner(event)

    return send


def error_of(send: Failing) -> Exception:
    """The error that ``send`` raises, with its traceback."""
    try:
        send({}).__await__().send(None)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("error", [RuntimeError("context"), LookupError("user"), ConnectionRefusedError(), OSError()])
def test_an_error_of_middleware_around_a_server_is_no_departure(error: Exception) -> None:
    """Whatever the class of the error: the server did not raise it."""
    send = raising(error)
    send.__wrapped__ = Uvicorn().send  # type: ignore[attr-defined]
    assert not is_departure(error_of(send), send)


@pytest.mark.parametrize("module", ["uvicorn.protocols.websockets.wsproto_impl", "hypercorn.protocol.ws_stream"])
@pytest.mark.parametrize("error", [RuntimeError("after close"), ConnectionResetError()])
def test_an_error_from_server_code_is_a_departure(module: str, error: Exception) -> None:
    """However many middlewares are between the server and us."""
    send = wrapping(wrapping(raising(error, module)))
    assert is_departure(error_of(send), send)


def test_an_error_class_of_a_server_is_a_departure_wherever_raised() -> None:
    """A middleware may raise it again."""
    send = raising(ClientDisconnected())
    assert is_departure(error_of(send), send)


@pytest.mark.parametrize("module", ["websockets.legacy.protocol", "uvicorn.middleware.proxy_headers"])
def test_an_error_from_a_library_that_servers_use_is_no_departure(module: str) -> None:
    """A middleware may itself be the client of another server."""
    send = raising(ConnectionClosedError(None, None), module)
    send.__wrapped__ = Uvicorn().send  # type: ignore[attr-defined]
    assert not is_departure(error_of(send), send)


def test_a_keyerror_in_server_code_is_no_departure() -> None:
    """The server raises it for an event that it cannot read."""
    send = raising(KeyError("type"), "uvicorn.protocols.websockets.wsproto_impl")
    assert not is_departure(error_of(send), send)


def test_an_oserror_of_an_unknown_server_is_a_departure() -> None:
    """ASGI promises an ``OSError``; a ``RuntimeError`` means nothing there."""
    for error, says in ((OSError("gone"), True), (RuntimeError("gone"), False)):
        send = raising(error)
        assert is_departure(error_of(send), send) is says


def test_the_runtimeerror_of_granian_is_recognised_by_its_text() -> None:
    """It is raised outside of Python code, so its traceback shows no frame of granian."""
    send = raising(RuntimeError("ASGI transport error"))
    assert is_departure(error_of(send), send)


def test_a_server_is_found_behind_closures_methods_and_partials() -> None:
    """The search ends even if a callable wraps itself."""
    server = Uvicorn()
    assert reaches_a_server(server.send)
    assert reaches_a_server(wrapping(functools.partial(wrapping(server.send), {})))
    assert not reaches_a_server(raising(OSError()))
    circle = wrapping(None)
    circle.__wrapped__ = circle  # type: ignore[attr-defined]
    assert not reaches_a_server(circle)


def test_the_search_for_a_server_ends_after_a_number_of_layers() -> None:
    """A server behind more layers counts as not found."""
    send: Any = Uvicorn().send
    for _ in range(WIDEST):
        send = wrapping(send)
    assert not reaches_a_server(send)


def nested(inner: Any) -> Failing:
    """A method whose function is a closure over another ``send``."""

    class Middleware:
        async def send(self, event: Event) -> None:
            await inner(event)

    return Middleware().send


@pytest.mark.parametrize("around", [wrapping, nested, functools.partial(functools.partial, print, 1), lambda it: it])
def test_a_context_proxy_outside_its_context_does_not_break_the_search(around: Callable[[Any], Any]) -> None:
    """It raises for every attribute, even its class; the error of the application must stay what it was."""
    send = around(LocalProxy())
    assert not reaches_a_server(send)
    assert promises_an_error({}, send)
    error = ConnectionRefusedError("the database")
    assert is_departure(error, send)
    failing = raising(error)
    failing.__wrapped__ = functools.partial(print, LocalProxy(), Uvicorn().send)  # type: ignore[attr-defined]
    assert not is_departure(error_of(failing), failing)


def test_a_server_is_found_behind_a_method_that_is_a_closure() -> None:
    """The method's function refers to the server in a cell."""
    assert reaches_a_server(nested(Uvicorn().send))


@pytest.mark.parametrize(
    ("asgi", "promised"),
    [
        ({"spec_version": "2.4"}, True),
        ({"spec_version": "2.10"}, True),
        ({"spec_version": "3.0"}, True),
        ({"spec_version": "2.3"}, False),
        ({"version": "3.0"}, False),
        ({"spec_version": "two"}, False),
    ],
)
def test_the_version_of_asgi_says_whether_an_error_is_promised(asgi: dict[str, str], promised: bool) -> None:
    """Version 2.4 and later promise one; a server that gives no version is held to 2.0."""
    assert promises_an_error({"asgi": asgi}, Uvicorn().send) is promised


def test_without_asgi_in_the_scope_only_unknown_servers_promise_an_error() -> None:
    """daphne gives no version; a ``send`` that reaches no server is held to the newest one."""
    assert not promises_an_error({}, Uvicorn().send)
    assert promises_an_error({}, raising(OSError()))
