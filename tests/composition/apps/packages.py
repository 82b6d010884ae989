"""How each package is put around the program, as its own documentation says to do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from wsstab import WebSocketStabilizer
from wsstab.types import ASGIApp

from .program import make_program
from .subject import Subject

__all__ = ["BUILDERS", "SPANS"]

Builder = Callable[[Subject, str], ASGIApp]
Add = Callable[[FastAPI], None]

BUILDERS: dict[str, Builder] = {}
"""What makes the application of a composition, by its name."""

span_sources: list[Callable[[], list[Any]]] = []


def SPANS() -> list[Any]:
    """What whoever traces in this process has finished since the last call."""
    return [span for source in span_sources for span in source()]


def nothing() -> None:
    """A program among packages that have no context."""


def middleware(name: str, seen: Callable[[], Any] = nothing) -> Callable[[Add], Add]:
    """Register a composition whose package is user middleware of Starlette and FastAPI.

    Args:
        name: of the composition.
        seen: what a handler sees of its context.
    """

    def register(add: Add) -> Add:
        def build(subject: Subject, place: str) -> ASGIApp:
            api = make_program(subject, seen)
            if place in ("inside", "both"):
                add(api)
            if subject.manager is not None:
                api.add_middleware(WebSocketStabilizer, manager=subject.manager)
            if place in ("outside", "both"):
                add(api)
            return api

        BUILDERS[name] = build
        return add

    return register


def instrumentation(name: str, seen: Callable[[], Any] = nothing) -> Callable[[Add], Add]:
    """Register a composition whose package stands outside of all user middleware.

    Inside of us it stands where the stabilizer is put around the whole application.

    Args:
        name: of the composition.
        seen: what a handler sees of its context.
    """

    def register(add: Add) -> Add:
        def build(subject: Subject, place: str) -> ASGIApp:
            api = make_program(subject, seen)
            add(api)
            if subject.manager is None:
                return api
            if place == "inside":
                return WebSocketStabilizer(api, manager=subject.manager)
            api.add_middleware(WebSocketStabilizer, manager=subject.manager)
            return api

        BUILDERS[name] = build
        return add

    return register


@middleware("alone")
def alone(api: FastAPI) -> None:
    """Nothing: what these tests ask must hold of the program by itself."""


@middleware("sessions")
def sessions(api: FastAPI) -> None:
    """Starlette's, which wraps ``send`` to set its cookie."""
    from starlette.middleware.sessions import SessionMiddleware

    api.add_middleware(SessionMiddleware, secret_key="of the tests")


@middleware("base-http")
def base_http(api: FastAPI) -> None:
    """Starlette's, which lets WebSockets pass."""
    from starlette.middleware.base import BaseHTTPMiddleware

    async def dispatch(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-base-http"] = "was here"
        return response

    api.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)


@middleware("cors")
def cors(api: FastAPI) -> None:
    """Starlette's."""
    from starlette.middleware.cors import CORSMiddleware

    api.add_middleware(CORSMiddleware, allow_origins=["https://example.org"])


@middleware("gzip")
def gzip(api: FastAPI) -> None:
    """Starlette's."""
    from starlette.middleware.gzip import GZipMiddleware

    api.add_middleware(GZipMiddleware, minimum_size=1)


@middleware("trusted-host")
def trusted_host(api: FastAPI) -> None:
    """Starlette's, which answers a WebSocket too."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    api.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])


def proxy_fix(name: str, mode: Any) -> None:
    """Register hypercorn's, which copies the scope deeply, and so cannot stand inside of a Starlette application."""

    def around(app: ASGIApp) -> ASGIApp:
        from hypercorn.middleware import ProxyFixMiddleware

        return ProxyFixMiddleware(app, mode=mode, trusted_hops=1)  # type: ignore[arg-type, return-value]

    def build(subject: Subject, place: str) -> ASGIApp:
        app: ASGIApp = make_program(subject, nothing)
        if place in ("inside", "both"):
            app = around(app)
        if subject.manager is not None:
            app = WebSocketStabilizer(app, manager=subject.manager)
        return around(app) if place in ("outside", "both") else app

    BUILDERS[name] = build


proxy_fix("proxy-fix-legacy", "legacy")
proxy_fix("proxy-fix-modern", "modern")


def request_id() -> Any:
    """What starlette-context holds for this request."""
    from starlette_context import context

    return context.data if context.exists() else None


@middleware("starlette-context", request_id)
def starlette_context(api: FastAPI) -> None:
    """Whose plugins read a context variable at each ``send``."""
    from starlette_context import plugins
    from starlette_context.middleware import RawContextMiddleware

    api.add_middleware(RawContextMiddleware, plugins=[plugins.RequestIdPlugin(), plugins.CorrelationIdPlugin()])


def correlation() -> Any:
    """The id of this request."""
    from asgi_correlation_id import correlation_id

    return correlation_id.get()


@middleware("correlation-id", correlation)
def correlation_id(api: FastAPI) -> None:
    """Which reads a context variable at each response."""
    from asgi_correlation_id import CorrelationIdMiddleware

    api.add_middleware(CorrelationIdMiddleware)
