"""How each package is put around the program, as its own documentation says to do it."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from fastapi import FastAPI

from wsstab import WebSocketStabilizer
from wsstab.types import ASGIApp, Event, Receive, Scope, Send

from .program import make_program
from .subject import Subject

__all__ = ["BUILDERS", "PROCESS", "SPANS"]

PROCESS: str = json.loads(os.environ.get("WSSTAB_TEST_OPTIONS", "{}")).get("process", "")
"""Which compositions this process has."""

Builder = Callable[[Subject, str], ASGIApp]
Add = Callable[[FastAPI], None]

BUILDERS: dict[str, Builder] = {}
"""The functions that build the applications of the compositions, by name."""

span_sources: list[Callable[[], list[Any]]] = []


def SPANS() -> list[Any]:
    """The spans that were finished in this process since the last call."""
    return [span for source in span_sources for span in source()]


def nothing() -> None:
    """What a handler sees of a package that has no context."""


def middleware(name: str, seen: Callable[[], Any] = nothing) -> Callable[[Add], Add]:
    """Register a composition whose package is user middleware of Starlette and FastAPI.

    Args:
        name: the name of the composition.
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

    To get it inside, the stabilizer is put around the whole application.

    Args:
        name: the name of the composition.
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


def around(name: str, wrap: Callable[[ASGIApp], ASGIApp], seen: Callable[[], Any] = nothing) -> None:
    """Register a composition whose package is put around a whole application.

    Args:
        name: the name of the composition.
        wrap: the function that puts it around an application.
        seen: what a handler sees of its context.
    """

    def build(subject: Subject, place: str) -> ASGIApp:
        app: ASGIApp = make_program(subject, seen)
        if place in ("inside", "both"):
            app = wrap(app)
        if subject.manager is not None:
            app = WebSocketStabilizer(app, manager=subject.manager)
        return wrap(app) if place in ("outside", "both") else app

    BUILDERS[name] = build


@middleware("alone")
def alone(api: FastAPI) -> None:
    """No package: what these tests check must hold for the program by itself."""


@middleware("sessions")
def sessions(api: FastAPI) -> None:
    """Starlette's middleware, which wraps ``send`` to set its cookie."""
    from starlette.middleware.sessions import SessionMiddleware

    api.add_middleware(SessionMiddleware, secret_key="of the tests")


@middleware("base-http")
def base_http(api: FastAPI) -> None:
    """Starlette's middleware, which lets WebSockets pass."""
    from starlette.middleware.base import BaseHTTPMiddleware

    async def dispatch(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-base-http"] = "was here"
        return response

    api.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)


@middleware("cors")
def cors(api: FastAPI) -> None:
    """Starlette's middleware."""
    from starlette.middleware.cors import CORSMiddleware

    api.add_middleware(CORSMiddleware, allow_origins=["https://example.org"])


@middleware("gzip")
def gzip(api: FastAPI) -> None:
    """Starlette's middleware."""
    from starlette.middleware.gzip import GZipMiddleware

    api.add_middleware(GZipMiddleware, minimum_size=1)


@middleware("trusted-host")
def trusted_host(api: FastAPI) -> None:
    """Starlette's middleware, which answers a WebSocket too."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    api.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])


def proxy_fix(name: str, mode: Any) -> None:
    """Register hypercorn's, which copies the scope deeply and so must stand outside of a Starlette application."""

    def wrap(app: ASGIApp) -> ASGIApp:
        from hypercorn.middleware import ProxyFixMiddleware

        return ProxyFixMiddleware(app, mode=mode, trusted_hops=1)  # type: ignore[arg-type, return-value]

    around(name, wrap)


proxy_fix("proxy-fix-legacy", "legacy")
proxy_fix("proxy-fix-modern", "modern")


def request_id() -> Any:
    """What starlette-context holds for this request."""
    from starlette_context import context

    return context.data if context.exists() else None


@middleware("starlette-context", request_id)
def starlette_context(api: FastAPI) -> None:
    """starlette-context, whose plugins read a context variable at each ``send``."""
    from starlette_context import plugins
    from starlette_context.middleware import RawContextMiddleware

    api.add_middleware(RawContextMiddleware, plugins=[plugins.RequestIdPlugin(), plugins.CorrelationIdPlugin()])


def correlation() -> Any:
    """The id of this request."""
    from asgi_correlation_id import correlation_id

    return correlation_id.get()


@middleware("correlation-id", correlation)
def correlation_id(api: FastAPI) -> None:
    """asgi-correlation-id, which reads a context variable at each response."""
    from asgi_correlation_id import CorrelationIdMiddleware

    api.add_middleware(CorrelationIdMiddleware)


user: ContextVar[str] = ContextVar("user", default="nobody")


def changes_messages(app: ASGIApp) -> ASGIApp:
    """A custom middleware that puts the value of a context variable into messages."""

    async def changes(scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(event: Event) -> None:
            if event["type"] == "websocket.send" and (event.get("text") or "").startswith("for "):
                event = {**event, "text": f"{event['text']}{user.get()}"}
            await send(event)

        token = user.set("ann")
        try:
            await app(scope, receive, tell)
        finally:
            user.reset(token)

    return changes


around("changes-messages", changes_messages, user.get)


def rebuilds_scope(app: ASGIApp) -> ASGIApp:
    """A custom middleware that passes on only those keys of the scope that the specification names."""
    names = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path")
    more = ("headers", "client", "server", "subprotocols", "extensions")

    async def rebuilds(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
        else:
            await app({name: scope[name] for name in (*names, *more) if name in scope}, receive, send)

    return rebuilds


around("rebuilds-scope", rebuilds_scope)


def copies_scope(app: ASGIApp) -> ASGIApp:
    """A custom middleware that makes copies of the scope, also a deep one."""

    async def copies(scope: Scope, receive: Receive, send: Send) -> None:
        copy.copy(scope), copy.deepcopy(scope)
        await app(scope, receive, send)

    return copies


around("copies-scope", copies_scope)


def span_is_open() -> Any:
    """Whether a span of OpenTelemetry is open here."""
    from opentelemetry import trace

    return trace.get_current_span().get_span_context().is_valid


@lru_cache
def provider_of_opentelemetry() -> Any:
    """A provider of tracers that keeps finished spans."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def finished() -> list[Any]:
        spans = exporter.get_finished_spans()
        exporter.clear()
        return [
            {"name": span.name, "trace": hex(span.context.trace_id), "root": span.parent is None}
            for span in spans
            if span.context
        ]

    span_sources.append(finished)
    return provider


@instrumentation("opentelemetry-fastapi", span_is_open)
def opentelemetry_fastapi(api: FastAPI) -> None:
    """OpenTelemetry's instrumentation of FastAPI, outside of all user middleware."""
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(api, tracer_provider=provider_of_opentelemetry())


def opentelemetry_asgi(app: ASGIApp) -> ASGIApp:
    """OpenTelemetry's middleware for any ASGI application."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    return OpenTelemetryMiddleware(app, tracer_provider=provider_of_opentelemetry())


around("opentelemetry-asgi", opentelemetry_asgi, span_is_open)


def sentry_span_is_open() -> Any:
    """Whether a span of Sentry is open here."""
    import sentry_sdk

    return sentry_sdk.get_current_span() is not None


def start_sentry(**integrations: Any) -> None:
    """Let Sentry patch this process, once, and keep what it would send."""
    import sentry_sdk
    from sentry_sdk.integrations.fastapi import FastApiIntegration
    from sentry_sdk.integrations.starlette import StarletteIntegration
    from sentry_sdk.transport import Transport

    if sentry_sdk.is_initialized():
        return
    sent: list[Any] = []

    class Keep(Transport):
        """Keeps what it should send."""

        def capture_envelope(self, envelope: Any) -> None:
            for item in envelope.items:
                payload = item.payload.json or {}
                if item.type == "transaction":
                    trace = payload["contexts"]["trace"]["trace_id"]
                    sent.append({"name": payload["transaction"], "trace": trace, "root": True})
                    sent.extend({"name": span["op"], "trace": trace, "root": False} for span in payload["spans"])
                elif item.type == "event":
                    sent.append({"name": payload["exception"]["values"][-1]["value"], "trace": "error", "root": False})

    def finished() -> list[Any]:
        spans = list(sent)
        sent.clear()
        return spans

    chosen = [StarletteIntegration(**integrations), FastApiIntegration(**integrations)]
    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", traces_sample_rate=1.0, transport=Keep, integrations=chosen)
    span_sources.append(finished)


@instrumentation("sentry", sentry_span_is_open)
def sentry(api: FastAPI) -> None:
    """sentry-sdk, which patches Starlette and FastAPI."""
    start_sentry()


@instrumentation("sentry-middleware-spans", sentry_span_is_open)
def sentry_middleware_spans(api: FastAPI) -> None:
    """The same, with a span around each call of each user middleware, such as the stabilizer."""
    start_sentry(middleware_spans=True)


def ddtrace_span_is_open() -> Any:
    """Whether a span of Datadog is open here."""
    from ddtrace.trace import tracer

    return tracer.current_span() is not None


@lru_cache
def start_ddtrace() -> None:
    """Let ddtrace patch this process, and keep the spans, which no agent is there to take."""
    os.environ |= {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false", "DD_REMOTE_CONFIGURATION_ENABLED": "false"}
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer

    kept: list[Any] = []

    class Keep(TraceFilter):
        """Takes every trace and passes none on."""

        def process_trace(self, trace: Any) -> None:
            names = [{"name": span.name, "trace": hex(span.trace_id), "root": not span.parent_id} for span in trace]
            kept.extend(names)

    def finished() -> list[Any]:
        spans = list(kept)
        kept.clear()
        return spans

    tracer.configure(trace_processors=[Keep()])
    patch(fastapi=True, starlette=True, raise_errors=True)
    span_sources.append(finished)


@instrumentation("ddtrace", ddtrace_span_is_open)
def ddtrace(api: FastAPI) -> None:
    """ddtrace, which patches FastAPI."""


if PROCESS == "ddtrace":
    start_ddtrace()
