"""No request reaches a guarded endpoint unguarded: random routes, mounts, root paths, patterns and spellings.

Starlette's and FastAPI's own routing is the oracle: an endpoint notes that it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Host, Mount, Router, WebSocketRoute

from tests.support.knocking import knock
from wsstab import Override, WebSocketStabilizer
from wsstab.core.patterns import matches
from wsstab.types import ASGIApp, Receive, Scope, Send

PARAMETERS = re.compile(r"{(\w+)(?::\w+)?}")


async def nobody(scope: Scope) -> bool:
    """Refuse."""
    return False


GUARD = Override(authorize=nobody)


@dataclass
class Made:
    """One application: its endpoints note the template by which they were reached, and whether they are guarded."""

    reached: list[tuple[str, bool, dict[str, Any]]] = field(default_factory=list)
    accepted: list[tuple[str, bool, dict[str, Any]]] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)

    def route(self, template: str, path: str, guarded: bool) -> WebSocketRoute:
        """A route whose full template is ``template``."""

        async def endpoint(websocket: WebSocket) -> None:
            self.reached.append((template, guarded, dict(websocket.path_params)))
            await websocket.accept()
            self.accepted.append(self.reached[-1])

        self.templates.append(template)
        return WebSocketRoute(path, GUARD(endpoint) if guarded else endpoint)

    def routes(self, shape: Any, prefix: str = "") -> list[BaseRoute]:
        """The routes of a random shape."""
        return [self._one(each, prefix) for each in shape]

    def _one(self, shape: Any, prefix: str) -> BaseRoute:
        kind, path, inner = shape
        if kind == "route":
            return self.route(prefix + path, path, inner)
        routes = self.routes(inner, prefix + (path if kind != "host" else ""))
        if kind == "host":
            return Host("chat.example.com", Router(routes=routes))
        if kind == "starlette":
            return Mount(path, Starlette(routes=routes))
        if kind == "fastapi":
            return Mount(path, fastapi(routes, path))
        return Mount(path, routes=routes)


def fastapi(routes: list[BaseRoute], root_path: str = "") -> FastAPI:
    """FastAPI with a root path of its own, and its routes behind a router that is included."""
    app = FastAPI()
    app.root_path = root_path
    router = APIRouter()
    # FastAPI includes no router with an empty path.
    router.routes.extend(each for each in routes if getattr(each, "path", ""))
    app.include_router(router)
    app.router.routes.extend(each for each in routes if not getattr(each, "path", ""))
    return app


def rewriting(app: ASGIApp, old: str, new: str, copies: bool) -> ASGIApp:
    """Middleware that routes one path as another."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"] == old:
            scope = {**scope} if copies else scope
            scope["path"] = new
        await app(scope, receive, send)

    return middleware


WORDS = st.sampled_from(["a", "b", "v1", "7", "{t}", "{n:int}", "{p:path}", "{u:uuid}", "{f:float}"])


def numbered(words: list[str], level: str) -> str:
    """A path of words, whose parameters have names of their own."""
    path = "".join(f"/{word}" for word in words)
    count = iter(range(100))
    return re.sub(r"{\w", lambda found: f"{found[0]}{level}{next(count)}", path)


def paths(level: str, least: int) -> st.SearchStrategy[str]:
    """Paths of routes and mounts."""
    return st.lists(WORDS, min_size=least, max_size=2).map(lambda words: numbered(words, level))


LEAVES = st.tuples(st.just("route"), paths("r", 1) | st.just("/"), st.booleans())


def around(level: str, inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mounts and hosts around routes."""
    kinds = st.sampled_from(["mount", "host", "starlette", "fastapi"])
    return st.tuples(kinds, paths(level, 0), st.lists(inner, min_size=1, max_size=3))


SHAPES = st.lists(LEAVES | around("m", LEAVES | around("k", LEAVES)), min_size=1, max_size=4)
ROOTS = st.sampled_from(["", "", "/a", "/v1", "/a/b", "/", "/a/", "/v1/v1"])
TEXTS = st.sampled_from(["a", "b", "v1", "7", "007", "", "x\n", "7.0", "7.00", "7" * 32, "77777777-" + "7" * 24])
REQUESTS = st.lists(
    st.tuples(st.lists(TEXTS, min_size=1, max_size=5), st.sampled_from(["", "\n", "/", "\n\n", "/\n"]), st.booleans()),
    min_size=1,
    max_size=12,
)
STACKS = st.sampled_from(["outside", "inside", "cors", "fastapi", "fastapi inside"])


def application(made: Made, shape: Any, root: str, stack: str, patterns: list[str]) -> ASGIApp:
    """It, with the stabilizer where the stack says."""
    routes, options = made.routes(shape), dict.fromkeys(patterns, GUARD)
    if stack == "inside":
        return Starlette(routes=routes, middleware=[Middleware(WebSocketStabilizer, routes=options)])
    if stack.startswith("fastapi"):
        app = fastapi(routes, root)
        if stack == "fastapi":
            return WebSocketStabilizer(app, routes=options)
        app.add_middleware(WebSocketStabilizer, routes=options)
        return app
    inner: Any = Starlette(routes=routes)
    return WebSocketStabilizer(CORSMiddleware(inner) if stack == "cors" else inner, routes=options)


def requests_of(root: str, chosen: list[tuple[list[str], str, bool]], made: Made) -> Iterator[str]:
    """Random paths, and those of the routes; with the root path in front and without."""
    for words, end, prefixed in chosen:
        yield (root if prefixed else "") + "".join(f"/{word}" for word in words) + end
    for template in made.templates:
        path = PARAMETERS.sub("7", template)
        yield from (path, f"{path}\n", f"/{path}", f"{root}{path}", f"{root}{path}\n")


def named(template: str, parameters: dict[str, Any]) -> str:
    """The path of an endpoint, with the values that it got."""
    return PARAMETERS.sub(lambda found: str(parameters[found[1]]), template)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(SHAPES, ROOTS, STACKS, st.lists(st.integers(0, 20), max_size=3), REQUESTS)
@example([("mount", "/v1", [("route", "/v1/a", False)])], "", "outside", [0], [(["v1", "a"], "\n", False)])
@example([("mount", "/v1", [("route", "/v1/a", False)])], "/a", "outside", [0], [(["v1", "a"], "", False)])
@example([("fastapi", "/a", [("route", "/a/b", False)])], "", "cors", [0], [(["a", "b"], "", False)])
@example([("route", "/b/{n:int}", False)], "", "inside", [0], [(["b", "007"], "", False)])
@example([("route", "/a", False)], "/", "inside", [0], [(["", "a"], "", False)])
def test_no_request_reaches_a_guarded_endpoint(
    shape: Any, root: str, stack: str, picked: list[int], chosen: list[tuple[list[str], str, bool]]
) -> None:
    """By its path or by its own Override. What nothing guards is reached as it is without the middleware."""
    templates = Made()
    templates.routes(shape)
    patterns = [PARAMETERS.sub("7", templates.templates[each % len(templates.templates)]) for each in picked]
    made, bare = Made(), Made()
    app = application(made, shape, root, stack, patterns)
    unguarded = (
        Starlette(routes=bare.routes(shape)) if not stack.startswith("fastapi") else fastapi(bare.routes(shape), root)
    )

    async def check() -> None:
        for path in requests_of(root, chosen, templates):
            made.reached.clear()
            bare.reached.clear()
            await knock(app, path, root)
            for template, guarded, parameters in made.reached:
                assert not guarded, (path, template)
                assert not [each for each in patterns if matches(each, named(template, parameters))], (path, template)
            await knock(unguarded, path, root)
            if not patterns and bare.reached and not bare.reached[0][1]:
                assert made.reached == bare.reached, path

    anyio.run(check)


@pytest.mark.parametrize("copies", [True, False])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(SHAPES)
def test_a_rewritten_path_does_not_bypass_a_guard(copies: bool, shape: Any) -> None:
    """Rewritten in the scope or in a copy of it; by path, only where it is not a copy, and then before the accept."""
    templates = Made()
    templates.routes(shape)
    targets = [PARAMETERS.sub("7", each) for each in templates.templates]

    async def check(target: str, patterns: list[str]) -> None:
        made = Made()
        inner: ASGIApp = Starlette(routes=made.routes(shape))
        app = WebSocketStabilizer(rewriting(inner, "/public", target, copies), routes=dict.fromkeys(patterns, GUARD))
        await knock(app, "/public")
        assert not any(guarded for _, guarded, _ in made.reached), target
        for template, _, parameters in made.accepted:
            assert not [each for each in patterns if matches(each, named(template, parameters))], (target, template)

    for target in targets:
        anyio.run(check, target, [])
        if not copies:
            anyio.run(check, target, [target])
