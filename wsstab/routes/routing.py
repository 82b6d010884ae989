"""Routing: decides which options and which guards apply to a request, however its path is spelled.

A path has several spellings: Starlette routes by the part behind the root path and ignores one trailing newline;
servers may or may not put the root path in front; a convertor reads ``007`` as 7. A pattern of ``routes`` applies to
each spelling. If spellings lead to different Overrides, the guards of all of them apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..config import Override, WebSocketConfig
from ..config.marks import Overrides, any_marked, overrides_of
from ..core.patterns import matches, meets
from ..types import Scope
from .route_map import RouteMap, relative
from .terms import Terms

__all__ = ["Entrance", "Routing"]

NO_ROOT = [""]
ODD_ENDS = ("", "\n", "/")
"""Last characters of a path that has other spellings."""
SAME_HOST = WebSocketConfig().allowed_origins
MOST_COMBINED = 1000
"""Most combinations of a configuration with Overrides of endpoints that are kept."""
MOST_COMPARED = 10_000
"""Most pairs of a pattern and a route that are compared at the start."""
MOST_SHOWN = 10
"""Most paths that one warning names."""


class Vote(NamedTuple):
    """The options to which one spelling of a path leads."""

    override: Override | None
    config: WebSocketConfig
    terms: Terms


class Routing:
    """The options of an application by route.

    Args:
        config: the configuration of the manager.
        app: the application.
    """

    def __init__(self, config: WebSocketConfig, app: object) -> None:
        self.config = config
        self.plain = Terms.of(config)
        self.map = RouteMap(app, list(config.routes))
        self._table = [
            (pattern, Vote(config.routes[pattern], merged, Terms.of(merged))) for pattern, merged in config.by_pattern
        ]
        self._base = Vote(None, config, self.plain)
        self._combined: dict[tuple[int, ...], tuple[WebSocketConfig, Overrides, WebSocketConfig]] = {}

    @property
    def silent(self) -> bool:
        """Whether this stabilizer has no guards for requests that another stabilizer has let in."""
        config = self.config
        return not self._table and config.authorize is None and config.allowed_origins == SAME_HOST

    def entrance(self, scope: Scope) -> Entrance | None:
        """The request in its present state; ``None`` if `plain` applies to every request.

        Args:
            scope: the scope of the handshake.
        """
        return Entrance(self, scope) if self._table or any_marked() else None

    def votes(self, scope: Scope, roots: Sequence[str]) -> tuple[list[Vote], Overrides]:
        """The votes of all spellings of a path, and the Overrides of the endpoint.

        The first vote is that of the spelling by which the application routes.

        Args:
            scope: the scope of the handshake.
            roots: possible root paths; the first one is that by which the application routes.
        """
        path = scope.get("path", "")
        first = relative(path, roots[0]) if roots[0] else path
        found = [self._vote(first) or self._base]
        tidy = "//" not in path and (path[-1:] not in ODD_ENDS or path == "/")
        # Starlette misplaces a mount when the path does not begin with the root path.
        placed = tidy and (not roots[0] or 0 < len(first) < len(path))
        # Resolving runs the application's own routes, so it is left out where it can add neither a spelling nor an
        # Override.
        where = None if placed and not self._resolves() else self.map.resolve(scope, roots[0])
        if where is None and not roots[0] and tidy:
            return found, ()
        also = {path, *(relative(path, root) for root in roots[1:])}
        if where is not None:
            also.add(where.path)
        if not tidy or not first:
            also.update(spellings([first, *also]))
        # Sorted, because a set of texts has another order in every process.
        others = (self._vote(each) for each in sorted(also, key=lambda each: (len(each), each)) if each != first)
        found.extend(vote for vote in others if vote is not None)
        return found, () if where is None else overrides_of(where.endpoint)

    def _resolves(self) -> bool:
        return (any_marked() and self.map.marked) or (bool(self._table) and not self.map.literal)

    def _vote(self, path: str) -> Vote | None:
        for pattern, vote in self._table:
            if matches(pattern, path):
                return vote
        return None

    def terms(self, votes: Sequence[Vote], marks: Overrides, inner: bool = False) -> Terms:
        """Combine several votes with the Overrides of the endpoint.

        Args:
            votes: the votes of the spellings.
            marks: the Overrides of the endpoint, the outermost first.
            inner: whether another stabilizer has let the request in; then ``allowed_origins`` acts only if it differs
                from the default.
        """
        if len(votes) == 1 and not marks and not inner:
            return votes[0].terms
        # The options come from the first spelling that a pattern names; of the guards, all apply.
        chosen = next((vote for vote in votes if vote.override is not None), votes[0])
        with_origins = [vote for vote in votes if not inner or _sets_origins(vote)]
        origins = _guard_values("allowed_origins", with_origins, marks)
        authorize = _guard_values("authorize", votes, marks)
        return Terms(self._merged(chosen.config, marks), tuple(origins), tuple(authorize))

    def _merged(self, config: WebSocketConfig, marks: Overrides) -> WebSocketConfig:
        if not marks:
            return config
        key = (id(config), *map(id, marks))
        known = self._combined.get(key)
        if known is None:
            # The outermost last, so that it wins.
            fields = {name: value for mark in reversed(marks) for name, value in mark.fields.items()}
            if len(self._combined) >= MOST_COMBINED:
                self._combined.clear()
            # Keep the objects whose ids form the key: an id may be reused once its object is gone.
            known = self._combined[key] = (config, marks, replace(config, routes={}, **fields).frozen())
        return known[2]

    def tell_of_unmatched(self, warn: Callable[..., None]) -> None:
        """Warn of each pattern that can never act.

        Args:
            warn: called with a key, a format string and the arguments of that string.
        """
        for pattern, templates in self.unmatched():
            shown = ", ".join(templates[:MOST_SHOWN]) or "none"
            if len(templates) > MOST_SHOWN:
                shown += f", and {len(templates) - MOST_SHOWN} more"
            line = "! routes: %r matches no WebSocket route of the application; there are: %s (without the root path)"
            warn(f"routes {pattern}", line, pattern, shown)

    def unmatched(self) -> Iterator[tuple[str, list[str]]]:
        """Patterns that match no WebSocket route, each with all route paths; empty if the routes are unknown."""
        templates = self.map.templates() if self._table else None
        if templates is None or len(templates) * len(self._table) > MOST_COMPARED:
            return
        root = self.map.root_path
        for pattern, _ in self._table:
            if not any(meets(pattern, each) or (root and meets(pattern, root + each)) for each in templates):
                yield pattern, templates


class Entrance:
    """One request as one stabilizer sees it, before and after the layers between stabilizer and endpoint.

    Args:
        routing: the routing of the stabilizer.
        scope: the scope of the handshake.
        inner: whether another stabilizer has let the request in.
    """

    __slots__ = ("_inner", "_marks", "_mounted", "_path", "_root", "_roots", "_routing", "_votes", "scope")

    def __init__(self, routing: Routing, scope: Scope, inner: bool = False) -> None:
        self.scope = scope
        self._routing = routing
        self._inner = inner
        self._path = scope.get("path", "")
        self._root = scope.get("root_path") or ""
        self._mounted = "app_root_path" in scope
        self._roots = roots_of(scope, routing.map.root_path)
        self._votes, self._marks = routing.votes(scope, self._roots)

    def terms(self) -> Terms:
        """The terms, as far as they are known before the request is routed."""
        return self._routing.terms(self._votes, self._marks, self._inner)

    def terms_behind(self, noted: Overrides) -> Terms:
        """The terms for the endpoint that was reached.

        Args:
            noted: the Overrides of endpoints that were entered.
        """
        reached = overrides_of(self.scope.get("endpoint"))
        marks = (*noted, *(each for each in reached if each not in noted))
        return self._routing.terms(self._votes_behind(), marks, self._inner)

    def _votes_behind(self) -> list[Vote]:
        """The votes, including those of a path that a layer in between has put in place of the original one."""
        scope = self.scope
        now = self._root
        if not self._mounted:
            # The first mount changes the root path, and keeps the original one as ``app_root_path``.
            now = scope.get("app_root_path", scope.get("root_path") or "")
        if scope.get("path", "") == self._path and (now == self._root or now in self._roots):
            return self._votes
        more, _ = self._routing.votes({**scope, "path_params": {}}, [now, *self._roots])
        return [*more, *self._votes]


def roots_of(scope: Scope, own: str) -> list[str]:
    """Possible root paths: the application's own, which replaces the scope's; the scope's; the outermost."""
    root, outermost = scope.get("root_path"), scope.get("app_root_path")
    if not (own or root or outermost):
        return NO_ROOT
    roots = [each for each in (own, root, outermost) if each]
    roots += [each.rstrip("/") for each in roots if each.endswith("/")]
    return list(dict.fromkeys(roots))


def spellings(paths: Iterable[str]) -> Iterator[str]:
    """Other spellings of paths: without a trailing newline, with single slashes, without a trailing slash."""
    for path in paths:
        yield path or "/"
        cut = path[:-1] if path.endswith("\n") else path
        yield cut
        # One replacement is not enough: it makes two slashes of three.
        while "//" in cut:
            cut = cut.replace("//", "/")
        yield cut
        yield cut.rstrip("/") or "/"


def _guard_values(name: str, votes: Sequence[Vote], marks: Overrides) -> list[Any]:
    """All values of a guard that apply. Those of the endpoint replace the manager's, but not those of a pattern."""
    own = [mark.fields[name] for mark in marks if name in mark.fields]
    named = [vote for vote in votes if not own or (vote.override is not None and name in vote.override.fields)]
    held: list[Any] = []
    for value in [*(getattr(vote.config, name) for vote in named), *own]:
        # Compared and not hashed, because a callable may be unhashable.
        if value is not None and value not in held:
            held.append(value)
    return held


def _sets_origins(vote: Vote) -> bool:
    """Whether the options of this vote say which pages may connect, instead of leaving that to the default."""
    named = vote.override is not None and "allowed_origins" in vote.override.fields
    return named or vote.config.allowed_origins != SAME_HOST
