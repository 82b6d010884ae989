"""Departure: whether an error of ``send`` is a server's word that its peer has left.

ASGI promises an OSError for that (specification of WebSocket 2.4, "Send - send event"), and some servers raise a
RuntimeError. What stands between a server and us raises the same classes for reasons of its own: a middleware without
its context, a database that refuses. That is an error of the application.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import TracebackType

from ..types import Scope
from .observers import SERVERS, modules_of_class, package_of, reachable

__all__ = ["innermost", "is_departure", "module_of", "promises_an_error", "reaches_a_server"]

MIDDLEWARE = ("uvicorn.middleware.", "hypercorn.middleware.")
"""What servers have for applications speaks for no server."""
OURS = "wsstab"
GRANIAN_SAYS = "ASGI transport error"
"""What granian up to 2.8.3 raised as a plain RuntimeError, from no Python code at all."""
ERROR_SINCE = (2, 4)
"""The version of the specification that promises an error."""


def is_departure(error: BaseException, send: object) -> bool:
    """Whether a server says by this error that its peer has left, or that it closed by itself.

    Args:
        error: what came out of ``send``.
        send: the callable that raised it.
    """
    if package_of(type(error).__module__) in SERVERS:
        return True
    if not isinstance(error, (OSError, RuntimeError)):
        return False
    if str(error) == GRANIAN_SAYS or any(is_of_a_server(module) for module in modules_of(error.__traceback__)):
        return True
    # A send without Python code of its own (granian's) leaves ours as the last that is seen.
    raised_in = package_of(module_of(innermost(error.__traceback__)))
    return raised_in == OURS or (isinstance(error, OSError) and not reaches_a_server(send))


def promises_an_error(scope: Scope, send: object) -> bool:
    """Whether a ``send`` to a peer that has left raises, by the version of ASGI that the server speaks.

    Args:
        scope: of the connection.
        send: the server's, or what stands before it.
    """
    asgi = scope.get("asgi")
    if not asgi:
        # daphne says nothing of its version. What is no server at all is held to the newest.
        return not reaches_a_server(send)
    return is_new_enough(asgi.get("spec_version", "2.0"))


@functools.lru_cache(maxsize=16)
def is_new_enough(version: str) -> bool:
    """Whether a version of the specification promises the error; asked at each handshake."""
    major, _, minor = version.partition(".")
    return major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= ERROR_SINCE


def reaches_a_server(send: object) -> bool:
    """Whether one of the known servers stands somewhere behind ``send``: then only its own code speaks for it."""
    return any(is_of_a_server(module) for each in reachable(send) for module in modules_of_class(each))


def is_of_a_server(module: str) -> bool:
    """Whether a module is a server's own."""
    return package_of(module) in SERVERS and not module.startswith(MIDDLEWARE)


def modules_of(traceback: TracebackType | None) -> Iterator[str]:
    """The modules of all frames."""
    while traceback is not None:
        yield module_of(traceback)
        traceback = traceback.tb_next


def innermost(traceback: TracebackType | None) -> TracebackType | None:
    """Where it was raised."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def module_of(traceback: TracebackType | None) -> str:
    """The module of a frame."""
    return "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__", ""))
