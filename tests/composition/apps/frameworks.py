"""The small program written for other frameworks, in the style of each."""

from __future__ import annotations

from typing import Any

from wsstab import WebSocketStabilizer
from wsstab.types import ASGIApp

from .packages import BUILDERS
from .program import told, told_by
from .subject import Subject

__all__: list[str] = []


def wrapping(subject: Subject, app: ASGIApp) -> ASGIApp:
    """The application behind the subject's stabilizer, where it has one."""
    return app if subject.manager is None else WebSocketStabilizer(app, manager=subject.manager)


def build_quart(subject: Subject, place: str) -> ASGIApp:
    """Quart, as its documentation puts ASGI middleware around it."""
    import asyncio

    from quart import Quart, abort, request, websocket

    app = Quart("program")

    @app.get("/hello")
    async def hello() -> Any:
        return {"hello": request.path, "client": request.remote_addr}

    @app.websocket("/echo")
    async def echo() -> None:
        await websocket.accept(headers={"x-program": "echo"})
        with told(subject, "echo"):
            while True:
                await websocket.send(await websocket.receive())

    @app.websocket("/returns")
    async def returns() -> None:
        await websocket.send("last words")

    @app.websocket("/raises")
    async def raises() -> None:
        await websocket.accept()
        raise LookupError(websocket.query_string.decode())

    @app.websocket("/raises-late")
    async def raises_late() -> None:
        await websocket.accept()
        try:
            await websocket.receive()
        finally:
            open("/nonexistent/" + websocket.query_string.decode())  # noqa: ASYNC230, SIM115

    @app.websocket("/raises-early")
    async def raises_early() -> None:
        raise LookupError(websocket.query_string.decode())

    @app.websocket("/closes")
    async def closes() -> None:
        await websocket.accept()
        await websocket.close(4001, "as told")

    @app.websocket("/refuses")
    async def refuses() -> None:
        abort(403)

    @app.websocket("/pushes")
    async def pushes() -> None:
        await websocket.accept()
        with told(subject, "pushes"):
            for number in range(30):
                await websocket.send(str(number))
                await asyncio.sleep(0.01)

    @app.websocket("/room")
    async def room() -> None:
        await websocket.accept()
        own = websocket._get_current_object()
        subject.sockets.append(own)
        with told(subject, "room"):
            try:
                while True:
                    await websocket.receive()
            finally:
                subject.sockets.remove(own)

    @app.post("/shout")
    async def shout() -> Any:
        text = request.args["text"]
        return str(await subject.shout(text, lambda one: one.send(text))), {"Content-Type": "application/json"}

    app.asgi_app = wrapping(subject, app.asgi_app)  # type: ignore[arg-type, method-assign, assignment]
    return app  # type: ignore[return-value]


def build_litestar(subject: Subject, place: str) -> ASGIApp:
    """Litestar, with the stabilizer as its middleware, or around it."""
    import anyio
    from litestar import Litestar, Request, WebSocket, get, post, websocket
    from litestar.exceptions import PermissionDeniedException, WebSocketDisconnect
    from litestar.logging import LoggingConfig
    from litestar.middleware import DefineMiddleware

    @get("/hello")
    async def hello(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return {"hello": request.url.path, "client": request.client and request.client.host}

    @websocket("/echo")
    async def echo(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept(headers={"x-program": "echo"})
        with told(subject, "echo", WebSocketDisconnect):
            while True:
                event: Any = await socket.receive()
                if event["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(detail="", code=event["code"])
                if event.get("text") is not None:
                    await socket.send_text(event["text"])
                else:
                    await socket.send_bytes(event["bytes"])

    @websocket("/returns")
    async def returns(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.send_text("last words")

    @websocket("/raises")
    async def raises(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        raise LookupError(told_by(socket.scope))

    @websocket("/raises-late")
    async def raises_late(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        try:
            await socket.receive_text()
        finally:
            open("/nonexistent/" + told_by(socket.scope))  # noqa: ASYNC230, SIM115

    @websocket("/raises-early")
    async def raises_early(socket: WebSocket[Any, Any, Any]) -> None:
        raise LookupError(told_by(socket.scope))

    @websocket("/closes")
    async def closes(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        await socket.close(4001, "as told")

    @websocket("/refuses")
    async def refuses(socket: WebSocket[Any, Any, Any]) -> None:
        raise PermissionDeniedException("as told")

    @websocket("/pushes")
    async def pushes(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        with told(subject, "pushes", WebSocketDisconnect):
            for number in range(30):
                await socket.send_text(str(number))
                await anyio.sleep(0.01)

    @websocket("/room")
    async def room(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        subject.sockets.append(socket)
        with told(subject, "room", WebSocketDisconnect):
            try:
                while True:
                    await socket.receive_text()
            finally:
                subject.sockets.remove(socket)

    @post("/shout", status_code=200)
    async def shout(text: str) -> int:
        return await subject.shout(text, lambda one: one.send_text(text))

    handlers = [hello, echo, returns, raises, raises_late, raises_early, closes, refuses, pushes, room, shout]
    stabilizer: Any = WebSocketStabilizer
    ours = [DefineMiddleware(stabilizer, manager=subject.manager)] if subject.manager and place == "outside" else []
    logging = LoggingConfig(log_exceptions="always")
    app: Any = Litestar(handlers, middleware=ours, openapi_config=None, logging_config=logging)
    return wrapping(subject, app) if place == "inside" else app


def build_channels(subject: Subject, place: str) -> ASGIApp:
    """Django Channels, with the stabilizer around everything, or inside of what looks up the user's session."""
    from . import django_program

    websockets: ASGIApp = django_program.websockets(subject)
    if place == "outside":
        websockets = wrapping(subject, websockets)
    application = django_program.application(subject, websockets)
    return wrapping(subject, application) if place == "inside" else application


BUILDERS |= {"quart": build_quart, "litestar": build_litestar, "channels": build_channels}
