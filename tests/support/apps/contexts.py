"""A middleware outside of the stabilizer that notes in which context it is called."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.support.settings import stabilizer_options
from wsstab import WebSocketStabilizer
from wsstab.types import ASGIApp, Event, Receive, Scope, Send

__all__ = ["app"]

user: ContextVar[str] = ContextVar("user", default="nobody")
seen: list[list[str]] = []


class Outside:
    """Keeps its user in a context variable, and notes the variable whenever it is called."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def note_and_send(event: Event) -> None:
            seen.append([event["type"], str(event.get("text") or "")[:20], user.get()])
            await send(event)

        async def receive_and_note() -> Event:
            event = await receive()
            seen.append([event["type"], str(event.get("text") or "")[:20], user.get()])
            return event

        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        token = user.set(scope["path"].strip("/"))
        try:
            await self.app(scope, receive_and_note, note_and_send)
        finally:
            user.reset(token)


async def echo(websocket: WebSocket) -> None:
    """Answer, and send a message to everybody."""
    await websocket.accept()
    await websocket.state.manager.connect(websocket.path_params["name"], websocket)
    async for text in websocket.iter_text():
        await websocket.send_text(text)
        await websocket.state.manager.broadcast("for all")


async def deaf(websocket: WebSocket) -> None:
    """Receive nothing, so that the stabilizer reads ahead."""
    await websocket.accept()
    await websocket.state.manager.connect("deaf", websocket)
    await websocket.state.connection.closed


async def push(request: Request) -> JSONResponse:
    """Send to everybody and to one client, and close that one."""
    manager, name = request.state.manager, request.path_params["name"]
    await manager.broadcast("from a request")
    await manager.send_to_client(name, "direct")
    await manager.disconnect(name)
    return JSONResponse({})


async def tell(request: Request) -> JSONResponse:
    """Answer with what was seen."""
    return JSONResponse(seen)


app = Outside(
    WebSocketStabilizer(
        Starlette(
            routes=[
                WebSocketRoute("/deaf", deaf),
                WebSocketRoute("/{name}", echo),
                Route("/push/{name}", push),
                Route("/seen", tell),
            ]
        ),
        **stabilizer_options(),
    )
)
