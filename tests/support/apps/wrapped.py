"""Puts a stabilizer around an application, with a view inside for the tests."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from tests.support.settings import stabilizer_options
from wsstab import WebSocketConfig, WebSocketConnectionManager, WebSocketStabilizer
from wsstab.types import ASGIApp, Receive, Scope, Send

__all__ = ["wrap"]


def wrap(inner: ASGIApp) -> ASGIApp:
    """The application behind a stabilizer; ``/-/count`` reports its connections, ``/-/shout`` broadcasts.

    Args:
        inner: an application that knows nothing of the stabilizer.
    """
    manager = WebSocketConnectionManager(WebSocketConfig(**stabilizer_options()))
    stabilized = WebSocketStabilizer(inner, manager=manager)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/-/"):
            await stabilized(scope, receive, send)
            return
        if Request(scope).url.path == "/-/shout":
            await manager.broadcast("to all")
        counted = manager.statistics()
        answer = {"connections": counted.connections, "heartbeats": counted.heartbeats_sent}
        await JSONResponse(answer)(scope, receive, send)

    return app
