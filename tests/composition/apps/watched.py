"""An application inside of middleware that notes all events that pass: a real observer, or unknown middleware.

``{"around": "opentelemetry"}`` is OpenTelemetry with a hook for what the application sends, and with the header that it
adds to answers; ``{"around": "unknown"}`` changes messages; two more withhold an accept, and fail at a close.
"""

from __future__ import annotations

import json
import os
from typing import Any

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.propagators import TraceResponsePropagator, set_global_response_propagator
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.support.apps.silent import flood
from wsstab import Outbound, Override, WebSocketStabilizer
from wsstab.types import ASGIApp, Event, Receive, Scope, Send

__all__ = ["app"]

OPTIONS: dict[str, Any] = json.loads(os.environ["WSSTAB_TEST_OPTIONS"])

seen: list[list[Any]] = []


def note(event: Event, path: str) -> None:
    """Note an event that passes."""
    if path.startswith("/ws/"):
        seen.append([path.removeprefix("/ws/"), event["type"], event.get("code"), event.get("reason")])


async def echo(websocket: WebSocket) -> None:
    """Send back what comes, and close on the message ``close``."""
    await websocket.accept(headers=[(b"x-handler", b"here")])
    async for text in websocket.iter_text():
        if text == "close":
            await websocket.close(4001, "as told")
            return
        await websocket.send_text(text)


async def refuse(websocket: WebSocket) -> None:
    """Refuse everybody."""
    await websocket.close(4003, "not you")


async def note_flood(websocket: WebSocket) -> None:
    """Fill the pipe of a peer."""
    websocket.state.notes = []
    await flood(websocket)


async def shout(request: Request) -> JSONResponse:
    """Broadcast some messages at once."""
    for number in range(20):
        await request.state.manager.broadcast(f"to all {number}")
    return JSONResponse("said")


async def look(request: Request) -> JSONResponse:
    """Answer with what was seen, and with the wires of the open connections."""
    manager = request.state.manager
    return JSONResponse({"seen": seen, "wires": [type(each._peer.wire).__name__ for each in manager.connections()]})


inner = Starlette(
    routes=[
        Route("/-/health", look),
        Route("/-/look", look),
        Route("/-/shout", shout, methods=["POST"]),
        WebSocketRoute("/ws/echo", echo),
        WebSocketRoute("/ws/refuse", refuse),
        WebSocketRoute("/ws/flood", note_flood),
        WebSocketRoute("/ws/full", echo),
    ]
)
inner.add_middleware(
    WebSocketStabilizer,
    heartbeat_interval=0.1,
    heartbeat_timeout=5.0,
    routes={"/ws/full": Override(allowed_origins=["https://nowhere.example"])},
    outbound=Outbound(send_timeout=0.3),
)


def opentelemetry(app: ASGIApp) -> ASGIApp:
    """OpenTelemetry's middleware, as its documentation says to use it."""
    set_global_response_propagator(TraceResponsePropagator())  # type: ignore[no-untyped-call]

    def hook(span: Any, scope: Scope, message: Event) -> None:
        note(message, scope["path"])

    return OpenTelemetryMiddleware(app, tracer_provider=TracerProvider(), client_response_hook=hook)


def unknown(app: ASGIApp) -> ASGIApp:
    """A custom middleware that changes messages."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def change(event: Event) -> None:
            note(event, scope["path"])
            if event["type"] == "websocket.accept":
                MutableHeaders(raw=event.setdefault("headers", [])).append("x-around", "here")
            if event["type"] == "websocket.send":
                event = {**event, "text": event["text"].upper()}
            await send(event)

        await app(scope, receive, change if scope["type"] == "websocket" else send)

    return middleware


def keeping(app: ASGIApp) -> ASGIApp:
    """A custom middleware that lets no accept pass."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def keep(event: Event) -> None:
            if event["type"] != "websocket.accept":
                await send(event)

        await app(scope, receive, keep)

    return middleware


def failing(app: ASGIApp) -> ASGIApp:
    """A custom middleware that fails at a close."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        async def fail(event: Event) -> None:
            if event["type"] == "websocket.close":
                raise LookupError("no context here")
            await send(event)

        await app(scope, receive, fail)

    return middleware


AROUND = {"opentelemetry": opentelemetry, "unknown": unknown, "keeping": keeping, "failing": failing}

app: ASGIApp = AROUND[OPTIONS["around"]](inner)
