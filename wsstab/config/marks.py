"""Marks: endpoints that have an `Override` of their own.

An endpoint is marked in two ways. It has the Override as an attribute, which is found by resolving the route of a
request. And it announces itself when it is entered, which works even if middleware has rewritten the path or copied
the scope.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import FunctionType
from typing import Any, Protocol, TypeVar

from ..types import PEER_KEY

__all__ = ["Overrides", "Watch", "any_marked", "mark", "overrides_of", "watch"]

logger = logging.getLogger("wsstab")

ATTRIBUTE = "__wsstab_overrides__"
RUNS = ("__call__", "dispatch")
"""Methods that run an instance: ``__call__`` if it is shared, ``dispatch`` if it is Starlette's `WebSocketEndpoint`."""


class Mark(Protocol):
    """The mark of an endpoint: the interface of `wsstab.Override`, which is built on this module."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """The given options, with their checked values."""


Overrides = tuple[Mark, ...]
EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])


class Watch(Protocol):
    """An observer that is notified of the endpoints that a WebSocket reaches."""

    def note(self, overrides: Overrides) -> None:
        """Note that an endpoint with these Overrides is about to run."""

    async def let_in(self, overrides: Overrides) -> bool:
        """Whether an endpoint with these Overrides may run; a refused peer has been answered."""


watch: ContextVar[Watch | None] = ContextVar("wsstab_watch", default=None)
"""The watch of the WebSocket whose handler runs this code."""

_told: set[str] = set()
_marked: list[bool] = []


def any_marked() -> bool:
    """Whether any endpoint of this process has an Override."""
    return bool(_marked)


def overrides_of(endpoint: object) -> Overrides:
    """The Overrides of an endpoint, the outermost first."""
    while isinstance(endpoint, functools.partial):
        own = getattr(endpoint, ATTRIBUTE, ())
        if own:
            return tuple(own)
        endpoint = endpoint.func
    return tuple(getattr(endpoint, ATTRIBUTE, ()))


def mark(endpoint: EndpointT, override: Mark) -> EndpointT:
    """Give an endpoint an Override.

    Args:
        endpoint: a function, a class, or an instance that is called.
        override: the options for its connections.

    Returns:
        The endpoint to route to: a wrapper of an async function, anything else unchanged.

    Raises:
        TypeError: the endpoint cannot be called, or takes no attributes.
    """
    if not callable(endpoint):
        raise TypeError(f"{override!r} applies to an endpoint, which is a function or a class, not to {endpoint!r}")
    overrides = (override, *overrides_of(endpoint))
    _marked[:] = [True]
    if isinstance(endpoint, type):
        setattr(endpoint, ATTRIBUTE, overrides)
        _announce(endpoint, overrides)
        return endpoint
    if not inspect.iscoroutinefunction(endpoint):
        _put(endpoint, overrides)
        _guard_instance(endpoint, overrides)
        return endpoint
    # The function itself gets the attribute too, because the decorator of the route may be below this one, and then
    # routes to the function and not to the wrapper.
    inner: Any = endpoint
    while inner is not None:
        with suppress(AttributeError):
            setattr(inner, ATTRIBUTE, overrides)
        inner = getattr(inner, "__wrapped__", None)
    guarded: EndpointT = _guarded(endpoint, overrides)
    return guarded


def _put(endpoint: object, overrides: Overrides) -> None:
    try:
        setattr(endpoint, ATTRIBUTE, overrides)
    except AttributeError:
        raise TypeError(f"an Override cannot apply to {endpoint!r}, which takes no attributes") from None


def _guard_instance(endpoint: Any, overrides: Overrides) -> None:
    """Have this one instance announce itself when it is called; other instances of its class are not affected."""
    kind: Any = type(endpoint)
    run = getattr(kind, "__call__", None)  # noqa: B004
    if not inspect.iscoroutinefunction(run) or isinstance(endpoint, functools.partial):
        return

    # Python looks up ``__call__`` on the class, so an attribute of the instance would have no effect.
    class Guarded(kind):  # type: ignore[misc]
        __slots__ = ()
        __call__ = _guarded(run, overrides)

    Guarded.__name__, Guarded.__qualname__, Guarded.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    with suppress(TypeError):
        # An instance of a class that is not written in Python keeps its class. Resolving the route still finds its
        # mark.
        endpoint.__class__ = Guarded


def _guarded(endpoint: Any, overrides: Overrides) -> Any:
    # A local name, because the function gets the globals of the endpoint, in which ours do not exist.
    may_run = _may_run

    async def guarded(*arguments: Any, **more: Any) -> Any:
        if not await may_run(overrides, endpoint, (*arguments, *more.values())):
            return None
        return await endpoint(*arguments, **more)

    # FastAPI before 0.119 looks up annotations in the globals of the function that it is given, not of the function
    # that this one wraps.
    names = _globals_of(endpoint)
    made = FunctionType(guarded.__code__, names, guarded.__name__, None, guarded.__closure__)
    setattr(functools.update_wrapper(made, endpoint), ATTRIBUTE, overrides)
    return made


def _globals_of(endpoint: Any) -> dict[str, Any]:
    inner = inspect.unwrap(endpoint)
    while isinstance(inner, functools.partial):
        inner = inner.func
    found = getattr(inner, "__globals__", None)
    return found if isinstance(found, dict) else globals()


async def _may_run(overrides: Overrides, endpoint: object, arguments: Iterable[object]) -> bool:
    peer = None
    watching = watch.get()
    if watching is None:
        peer = _peer_in(arguments)
        watching = None if peer is None else peer.second_look
    if watching is not None:
        return await watching.let_in(overrides)
    if peer is not None and peer.closing.close is not None:
        # The call of this peer has ended, and its guards can no longer be asked.
        return False
    _tell(endpoint)
    return True


def _peer_in(arguments: Iterable[object]) -> Any:
    """The peer to which the arguments of an endpoint lead; ``None`` if they lead to none.

    A caller that runs the application in a task without our context still passes the scope.
    """
    for each in arguments:
        try:
            scope = each if issubclass(type(each), Mapping) else getattr(each, "scope", None)
            found = scope.get(PEER_KEY) if issubclass(type(scope), Mapping) else None  # type: ignore[union-attr]
        except Exception:
            # Attribute access of application objects may raise anything.
            continue
        if found is not None:
            return found
    return None


def _announce(kind: type[Any], overrides: Overrides) -> None:
    """Have instances announce that they are about to run: at creation for one WebSocket, and at each call."""
    made = kind.__init__

    @functools.wraps(made)
    def init(self: Any, *arguments: Any, **more: Any) -> None:
        watching = watch.get()
        if watching is None and (peer := _peer_in((*arguments, *more.values()))) is not None:
            watching = peer.second_look
        if watching is not None:
            watching.note(overrides)
        # ``object.__init__`` refuses arguments once a class overrides ``__init__``.
        if made is object.__init__:
            made(self)
        else:
            made(self, *arguments, **more)

    kind.__init__ = init
    for name in RUNS:
        method = getattr(kind, name, None)
        if inspect.iscoroutinefunction(method):
            setattr(kind, name, _guarded(method, overrides))


def _tell(endpoint: object) -> None:
    name = f"{getattr(endpoint, '__module__', '')}.{getattr(endpoint, '__qualname__', '')}"
    if name not in _told and len(_told) < 100:
        _told.add(name)
        logger.warning("! the Override of %s does nothing: no WebSocketStabilizer stands around the application", name)
