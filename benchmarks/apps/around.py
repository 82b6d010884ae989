"""Middleware around an application: the variable ``AROUND`` names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

__all__ = ["around"]


def around(app: Any) -> Any:
    """The application inside of the middleware that the environment names."""
    return AROUND[os.environ.get("AROUND", "")](app)


def unknown(app: Any) -> Any:
    """Middleware that wsstab does not know, and that only passes events on."""

    async def middleware(scope: Any, receive: Any, send: Any) -> None:
        async def pass_on(event: Any) -> None:
            await send(event)

        await app(scope, receive, pass_on)

    return middleware


def opentelemetry(app: Any) -> Any:
    """OpenTelemetry, whose spans end and go nowhere."""
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    from opentelemetry.sdk.trace import TracerProvider

    return OpenTelemetryMiddleware(app, tracer_provider=TracerProvider())


def sentry(app: Any) -> Any:
    """Sentry, which samples everything and sends nothing."""
    import sentry_sdk
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware

    sentry_sdk.init(default_integrations=False, traces_sample_rate=1.0, transport=lambda envelope: None)
    return SentryAsgiMiddleware(app)


AROUND: dict[str, Callable[[Any], Any]] = {
    "": lambda app: app,
    "unknown": unknown,
    "opentelemetry": opentelemetry,
    "sentry": sentry,
}
