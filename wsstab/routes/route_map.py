"""Route map: the routes of an application, as Starlette and FastAPI keep them.

It tells where a request leads, and which paths exist. Only Starlette routes are read: an application of another kind
has no map.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import Any, NamedTuple

from starlette.routing import Host, Match, Mount, Router

from ..config.marks import overrides_of
from ..core.patterns import PARAMETER, meets
from ..types import Scope

try:
    from starlette._utils import get_route_path
except ImportError:  # pragma: no cover

    def get_route_path(scope: Scope) -> str:
        """What Starlette 0.40 to 1.10 computes."""
        path: str = scope["path"]
        root_path = scope.get("root_path", "")
        inside = root_path and path.startswith(root_path) and path[len(root_path) :][:1] in ("", "/")
        return path[len(root_path) :] if inside else path


__all__ = ["Destination", "RouteMap", "relative"]

logger = logging.getLogger("wsstab")

DEEPEST = 50
"""Most layers of middleware that are searched for one application."""
MOST_COMPARED = 10_000
"""Most pairs of a pattern and a route that are compared when the routes have changed."""
PLAIN = {"", "str", "path"}
"""Convertors under which each value has a single spelling."""
REST = "/{rest:path}"
"""Stands for the paths below a place whose routes cannot be read."""


class Destination(NamedTuple):
    """Where a request leads.

    Args:
        endpoint: as in ``scope["endpoint"]``.
        path: the template of its route with the values of the parameters, as the convertors write them.
    """

    endpoint: object
    path: str


@dataclass
class Level:
    """One application and its routes; ``known`` is ``False`` if they cannot be read, or not all of them."""

    root_path: str = ""
    stops: list[Stop] = field(default_factory=list)
    known: bool = True


@dataclass
class Stop:
    """One route, and the level of the application behind it, if any."""

    route: Any
    level: Level | None = None


class RouteMap:
    """The routes of an application.

    Args:
        app: the application, or middleware around it.
        patterns: the patterns of the option ``routes``.
    """

    def __init__(self, app: object, patterns: Sequence[str] = ()) -> None:
        self._app = app
        self._patterns = patterns
        self._lists: list[tuple[Any, list[Any]]] = []
        self._known = False
        self._level = Level()
        self._marked = self._literal = False

    @property
    def root_path(self) -> str:
        """The root path with which the application replaces that of the scope; only FastAPI does so."""
        self._renew()
        return self._level.root_path

    @property
    def marked(self) -> bool:
        """Whether any endpoint has an Override."""
        self._renew()
        return self._marked

    @property
    def literal(self) -> bool:
        """Whether no pattern names a path that has other spellings, apart from root path, newline and slashes."""
        self._renew()
        return self._literal

    def resolve(self, scope: Scope, root_path: str) -> Destination | None:
        """The endpoint that a WebSocket reaches; ``None`` if it reaches none, or if that is unknown.

        Args:
            scope: the scope of the handshake; it is not changed.
            root_path: used in place of the root path of the scope.
        """
        self._renew()
        try:
            return _resolve(self._level, {**scope, "root_path": root_path})
        except Exception:
            # Routes and convertors of the application may raise; the error will show when the request is routed.
            logger.debug("the route of %r could not be resolved", scope.get("path"), exc_info=True)
            return None

    def templates(self) -> list[str] | None:
        """The paths of all WebSocket routes; ``None`` if the routes cannot be read."""
        self._renew()
        return list(_templates(self._level, "")) if self._level.known else None

    def _renew(self) -> None:
        """Read the routes again if any were added, removed or replaced."""
        # Every handshake runs this code, so it uses no generator, and compares by identity: Starlette's own comparison
        # of two routes looks at their paths, endpoints and methods.
        for routes, before in self._lists:
            if len(routes) != len(before) or not all(map(is_, routes, before)):
                break
        else:
            if self._known:
                return
        self._known = True
        lists: list[Any] = []
        self._level = _level(self._app, lists, ())
        # Copies, to find out at the next handshake whether the application has changed its lists.
        self._lists = [(routes, list(routes)) for routes in lists]
        stops = list(_stops(self._level))
        self._marked = any(overrides_of(each) for stop in stops for each in _endpoints(stop.route))
        inner = [stop.level for stop in stops if stop.level is not None]
        self._literal = not any(level.root_path for level in inner) and not self._converts()

    def _converts(self) -> bool:
        odd = [each for each in _templates(self._level, "") if not PLAIN.issuperset(PARAMETER.findall(each))]
        # With too many pairs to compare, every request is resolved instead.
        if len(odd) * len(self._patterns) > MOST_COMPARED:
            return True
        return any(meets(pattern, each) for pattern in self._patterns for each in odd)


def relative(path: str, root_path: str) -> str:
    """The path by which Starlette routes."""
    return get_route_path({"path": path, "root_path": root_path})


def _level(app: object, lists: list[Any], outer: tuple[int, ...]) -> Level:
    """The application behind layers of middleware, and its routes."""
    for _ in range(DEEPEST):
        routes = getattr(app, "routes", None)
        if isinstance(routes, list):
            return _level_of(app, routes, lists, outer)
        app = app.func if isinstance(app, functools.partial) else getattr(app, "app", None)
        if app is None:
            break
    return Level(known=False)


def _level_of(app: object, routes: list[Any], lists: list[Any], outer: tuple[int, ...]) -> Level:
    router = app if isinstance(app, Router) else getattr(app, "router", None)
    # An application may be mounted in itself, and its map would have no end.
    if not isinstance(router, Router) or id(routes) in outer:
        return Level(known=False)
    root_path = getattr(app, "root_path", "")
    level = Level(root_path if isinstance(root_path, str) else "")
    lists.append(routes)
    inside = (*outer, id(routes))
    level.stops = [Stop(each, _behind(each, lists, inside)) for route in routes for each in _expanded(route, lists)]
    level.known = _is_not_found(router)
    return level


def _is_not_found(router: Router) -> bool:
    # A router with another default may answer paths that match none of its routes.
    return getattr(router.default, "__func__", None) in (Router.not_found, getattr(type(router), "not_found", None))


def _behind(route: Any, lists: list[Any], outer: tuple[int, ...]) -> Level | None:
    """The application behind a Mount or a Host."""
    return _level(route.app, lists, outer) if isinstance(route, (Mount, Host)) else None


def _expanded(route: Any, lists: list[Any]) -> list[Any]:
    """The routes behind one entry of a list: FastAPI keeps an included router as a single entry."""
    contexts = getattr(route, "effective_route_contexts", None)
    if contexts is None:
        return [route]
    _note_included(route, lists)
    return [each.starlette_route for each in contexts() if each.starlette_route is not None]


def _note_included(route: Any, lists: list[Any]) -> None:
    routes = getattr(getattr(route, "original_router", None), "routes", ())
    lists.append(routes)
    for each in routes:
        if hasattr(each, "effective_route_contexts"):
            _note_included(each, lists)


def _stops(level: Level) -> Iterator[Stop]:
    for stop in level.stops:
        yield stop
        if stop.level is not None:
            yield from _stops(stop.level)


def _endpoints(route: Any) -> Iterator[object]:
    yield getattr(route, "endpoint", None)
    yield getattr(route, "app", None)


def _resolve(level: Level, scope: Scope) -> Destination | None:
    path = ""
    while True:
        if level.root_path:
            scope["root_path"] = level.root_path
        for stop in level.stops:
            match, child = stop.route.matches(scope)
            if match is Match.FULL:
                break
        else:
            return None
        scope.update(child)
        if hasattr(stop.route, "path_format"):
            path += _written(stop, scope["path_params"])
        if stop.level is None:
            return Destination(scope.get("endpoint"), path)
        # The application behind it cannot be read, and takes the rest of the path.
        if not stop.level.known and not stop.level.stops:
            return Destination(scope.get("endpoint"), path + get_route_path(scope))
        level = stop.level


def _written(stop: Stop, parameters: Any) -> str:
    """The path of a route with the values of its parameters."""
    text: str = stop.route.path_format
    if stop.level is not None:
        # Starlette appends this parameter to the path of a Mount; the routes of the next level write what it stands
        # for.
        text = text.removesuffix("/{path}")
    for name, convertor in stop.route.param_convertors.items():
        if "{" + name + "}" in text:
            text = text.replace("{" + name + "}", convertor.to_string(parameters[name]))
    return text


def _templates(level: Level, prefix: str) -> Iterator[str]:
    for stop in level.stops:
        route = stop.route
        path = getattr(route, "path", "")
        if stop.level is not None:
            yield from _templates(stop.level, prefix + path) if stop.level.known else (prefix + path + REST,)
        elif _takes_websockets(route):
            yield prefix + path
    if not level.known:
        yield prefix + REST


def _takes_websockets(route: Any) -> bool:
    # Routes for HTTP have methods, even those that take any; routes for WebSockets have none.
    return not hasattr(route, "methods")
