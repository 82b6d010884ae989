"""Whether an error of ``send`` is a server's word that its peer has left."""

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
    """Stands for the protocol object of a server."""

    async def send(self, event: Event) -> None:
        """As a server's."""


Uvicorn.__module__ = "uvicorn.protocols.websockets.websockets_sansio_impl"


def raising(error: Exception, module: str = "some.middleware") -> Failing:
    """A ``send`` of this module that raises."""

    async def send(event: Event) -> None:
        raise error

    return FunctionType(send.__code__, {"__name__": module}, "send", None, send.__closure__)


def wrapping(inner: Any) -> Failing:
    """A ``send`` of somebody who calls another."""

    async def send(event: Event) -> None:
        await inner(event)

    return send


def error_of(send: Failing) -> Exception:
    """What it raises, with its traceback."""
    try:
        send({}).__await__().send(None)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("error", [RuntimeError("context"), LookupError("user"), ConnectionRefusedError(), OSError()])
def test_what_a_middleware_over_a_server_raises_says_nothing_of_the_peer(error: Exception) -> None:
    """Whatever class it is of."""
    send = raising(error)
    send.__wrapped__ = Uvicorn().send  # type: ignore[attr-defined]
    assert not is_departure(error_of(send), send)


@pytest.mark.parametrize("module", ["uvicorn.protocols.websockets.wsproto_impl", "hypercorn.protocol.ws_stream"])
@pytest.mark.parametrize("error", [RuntimeError("after close"), ConnectionResetError()])
def test_what_a_server_raises_does(module: str, error: Exception) -> None:
    """However many stand before it."""
    send = wrapping(wrapping(raising(error, module)))
    assert is_departure(error_of(send), send)


def test_the_class_of_a_server_does_wherever_it_was_raised() -> None:
    """A middleware may raise it again."""
    send = raising(ClientDisconnected())
    assert is_departure(error_of(send), send)


@pytest.mark.parametrize("module", ["websockets.legacy.protocol", "uvicorn.middleware.proxy_headers"])
def test_a_library_that_servers_use_is_no_server(module: str) -> None:
    """A middleware may be the client of another server."""
    send = raising(ConnectionClosedError(None, None), module)
    send.__wrapped__ = Uvicorn().send  # type: ignore[attr-defined]
    assert not is_departure(error_of(send), send)


def test_a_keyerror_in_a_server_is_a_mistake() -> None:
    """An event that it cannot read."""
    send = raising(KeyError("type"), "uvicorn.protocols.websockets.wsproto_impl")
    assert not is_departure(error_of(send), send)


def test_an_unknown_server_says_it_by_an_oserror_as_asgi_has_it() -> None:
    """But not by a RuntimeError."""
    for error, says in ((OSError("gone"), True), (RuntimeError("gone"), False)):
        send = raising(error)
        assert is_departure(error_of(send), send) is says


def test_granian_s_own_word_is_known_through_a_middleware() -> None:
    """It comes from no Python code."""
    send = raising(RuntimeError("ASGI transport error"))
    assert is_departure(error_of(send), send)


def test_a_server_is_found_behind_closures_methods_and_partials() -> None:
    """And a circle of them ends."""
    server = Uvicorn()
    assert reaches_a_server(server.send)
    assert reaches_a_server(wrapping(functools.partial(wrapping(server.send), {})))
    assert not reaches_a_server(raising(OSError()))
    circle = wrapping(None)
    circle.__wrapped__ = circle  # type: ignore[attr-defined]
    assert not reaches_a_server(circle)


def test_it_is_not_looked_for_without_end() -> None:
    """Past so many layers it counts as not there."""
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
def test_somebodys_proxy_without_its_context_is_survived(around: Callable[[Any], Any]) -> None:
    """Nothing of it can be asked, not even its class; the error of the application stays what it was."""
    send = around(LocalProxy())
    assert not reaches_a_server(send)
    assert promises_an_error({}, send)
    error = ConnectionRefusedError("the database")
    assert is_departure(error, send)
    failing = raising(error)
    failing.__wrapped__ = functools.partial(print, LocalProxy(), Uvicorn().send)  # type: ignore[attr-defined]
    assert not is_departure(error_of(failing), failing)


def test_a_server_is_found_behind_a_method_that_is_a_closure() -> None:
    """As behind the function."""
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
    """Since 2.4; a server that does not say is held to 2.0."""
    assert promises_an_error({"asgi": asgi}, Uvicorn().send) is promised


def test_without_a_version_a_known_server_promises_nothing() -> None:
    """daphne says none; what is no server is held to the newest."""
    assert not promises_an_error({}, Uvicorn().send)
    assert promises_an_error({}, raising(OSError()))
