"""Departure: whether an error of ``send`` is a server's way to report that its peer has left.

ASGI promises an OSError for that (specification of WebSocket 2.4, "Send - send event"), and some servers raise a
RuntimeError. Code between a server and us may raise the same classes for its own reasons: a middleware without its
context, a database that refuses a connection. Such an error belongs to the application.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import TracebackType

from ..types import Scope
from .observers import SERVERS, modules_of_class, package_of, reachable

__all__ = ["innermost", "is_departure", "module_of", "promises_an_error", "reaches_a_server"]

MIDDLEWARE = ("uvicorn.middleware.", "hypercorn.middleware.")
"""Modules that servers ship for applications; an error from them does not come from the server."""
OURS = "wsstab"
GRANIAN_SAYS = "ASGI transport error"
"""Text of the plain RuntimeError that granian up to 2.8.3 raised without any Python frame of its own."""
ERROR_SINCE = (2, 4)
"""The first version of the specification that promises an error."""


def is_departure(error: BaseException, send: object) -> bool:
    """Whether this error is the server's report that its peer has left or that the server closed by itself.

    Args:
        error: the error that ``send`` raised.
        send: the callable that raised it.
    """
    if package_of(type(error).__module__) in SERVERS:
        return True
    if not isinstance(error, (OSError, RuntimeError)):
        return False
    if str(error) == GRANIAN_SAYS or any(is_of_a_server(module) for module in modules_of(error.__traceback__)):
        return True
    # If send has no Python code (granian's), the innermost frame of the traceback is one of ours. And where no known
    # server is behind send, an OSError is believed, because the specification promises one.
    raised_in = package_of(module_of(innermost(error.__traceback__)))
    return raised_in == OURS or (isinstance(error, OSError) and not reaches_a_server(send))


def promises_an_error(scope: Scope, send: object) -> bool:
    """Whether a ``send`` to a peer that has left raises, by the version of ASGI that the server speaks.

    Args:
        scope: the scope of the connection.
        send: the ``send`` of the server, or of code in front of it.
    """
    asgi = scope.get("asgi")
    if not asgi:
        # daphne does not report its version. A send that reaches no known server is held to the newest version.
        return not reaches_a_server(send)
    return is_new_enough(asgi.get("spec_version", "2.0"))


@functools.lru_cache(maxsize=16)
def is_new_enough(version: str) -> bool:
    """Whether a version of the specification promises the error; asked at each handshake."""
    major, _, minor = version.partition(".")
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= ERROR_SINCE


def reaches_a_server(send: object) -> bool:
    """Whether a known server is somewhere behind ``send``; then only errors from its own code come from the server."""
    return any(is_of_a_server(module) for each in reachable(send) for module in modules_of_class(each))


def is_of_a_server(module: str) -> bool:
    """Whether a module belongs to a server itself."""
    return package_of(module) in SERVERS and not module.startswith(MIDDLEWARE)


def modules_of(traceback: TracebackType | None) -> Iterator[str]:
    """The modules of all frames of a traceback."""
    while traceback is not None:
        yield module_of(traceback)
        traceback = traceback.tb_next


def innermost(traceback: TracebackType | None) -> TracebackType | None:
    """The innermost entry of a traceback, where the error was raised."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def module_of(traceback: TracebackType | None) -> str:
    """The module of a frame."""
    return "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__", ""))
