"""Handlers that end in every way there is."""

from __future__ import annotations

import anyio
from starlette.exceptions import HTTPException, WebSocketException
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from wsstab import ConnectionLimitExceededError, TokenExpiredError

__all__ = ["routes"]


class Failure(Exception):
    """A handler's own mistake, made on purpose."""


async def returns(websocket: WebSocket) -> None:
    """Accept and return."""
    await websocket.accept()


async def returns_late(websocket: WebSocket) -> None:
    """Send a megabyte and return before the peer can have read it."""
    await websocket.accept()
    await websocket.send_bytes(b"x" * 1_000_000)


async def raises(websocket: WebSocket) -> None:
    """Accept and fail."""
    await websocket.accept()
    raise Failure


async def raises_early(websocket: WebSocket) -> None:
    """Fail before accept."""
    raise Failure


async def returns_early(websocket: WebSocket) -> None:
    """Return before accept."""


async def raises_policy(websocket: WebSocket) -> None:
    """Raise Starlette's exception for a close, after accept."""
    await websocket.accept()
    raise WebSocketException(4321, "house rules")


async def raises_policy_early(websocket: WebSocket) -> None:
    """Raise Starlette's exception for a close, before accept."""
    raise WebSocketException(4321, "house rules")


async def raises_http(websocket: WebSocket) -> None:
    """Raise an HTTP error before accept."""
    raise HTTPException(418, "teapot")


async def denies(websocket: WebSocket) -> None:
    """Answer the handshake with an HTTP response."""
    await websocket.send_denial_response(PlainTextResponse("not today", 402, {"x-lab": "denied"}))


async def closes(websocket: WebSocket) -> None:
    """Close with the code and reason of the query string, then close again."""
    await websocket.accept()
    code, reason = int(websocket.query_params["code"]), websocket.query_params.get("reason", "")
    await websocket.send({"type": "websocket.close", "code": code, "reason": reason})
    await websocket.state.connection.close(4999, "a second close does nothing")
    websocket.state.notes.append("closed twice")


async def closes_early(websocket: WebSocket) -> None:
    """Close instead of accepting."""
    await websocket.close(4000, "no")


async def raises_ours(websocket: WebSocket) -> None:
    """Let an error of the package escape."""
    await websocket.accept()
    raise ConnectionLimitExceededError if websocket.query_params["which"] == "limit" else TokenExpiredError(1)


async def never_accepts(websocket: WebSocket) -> None:
    """Leave the peer waiting for the handshake."""
    await anyio.sleep(3600)


routes: list[BaseRoute] = [
    WebSocketRoute("/returns", returns),
    WebSocketRoute("/returns-late", returns_late),
    WebSocketRoute("/raises", raises),
    WebSocketRoute("/raises-early", raises_early),
    WebSocketRoute("/returns-early", returns_early),
    WebSocketRoute("/raises-policy", raises_policy),
    WebSocketRoute("/raises-policy-early", raises_policy_early),
    WebSocketRoute("/raises-http", raises_http),
    WebSocketRoute("/denies", denies),
    WebSocketRoute("/closes", closes),
    WebSocketRoute("/closes-early", closes_early),
    WebSocketRoute("/raises-ours", raises_ours),
    WebSocketRoute("/never-accepts", never_accepts),
]
