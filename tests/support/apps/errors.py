"""Handlers that fail in every way, and a middleware outside of the stabilizer whose send fails."""

from __future__ import annotations

import anyio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosedError

from tests.support import settings
from wsstab import WebSocketStabilizer
from wsstab.types import ASGIApp, Event, Receive, Scope, Send

__all__ = ["app"]

FAILURES: dict[str, Exception] = {
    "runtime": RuntimeError("boom-runtime"),
    "lookup": LookupError("boom-lookup"),
    "refused": ConnectionRefusedError("boom-refused"),
    "timeout": TimeoutError("boom-timeout"),
    "upstream": ConnectionClosedError(None, None),
    "file": FileNotFoundError("boom-file"),
    "pipe": BrokenPipeError("boom-pipe"),
}
chatters: dict[str, WebSocket] = {}


class Outside:
    """Raises the error that the path names when the message is ``fail``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope.get("path", "").rpartition("/")[2]

        async def send_or_fail(event: Event) -> None:
            if event["type"] == "websocket.send" and event.get("text") == "fail":
                raise FAILURES[kind]
            await send(event)

        outside = scope["type"] == "websocket" and kind in FAILURES and "/outside/" in scope["path"]
        await self.app(scope, receive, send_or_fail if outside else send)


async def echo(websocket: WebSocket) -> None:
    """Send back what comes."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def tell_all(websocket: WebSocket) -> None:
    """Broadcast what comes."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.state.manager.broadcast(text)


async def fails_at_the_end(websocket: WebSocket) -> None:
    """Fail while cleaning up."""
    try:
        await echo(websocket)
    finally:
        raise FAILURES[websocket.path_params["kind"]]


async def reader_and_writer(websocket: WebSocket) -> None:
    """One task for each direction, in a group."""
    await websocket.accept()

    async def write() -> None:
        while True:
            await websocket.send_text("tick")
            await anyio.sleep(0.01)

    async def read() -> None:
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            if websocket.path_params["kind"] == "mixed":
                raise KeyError("boom-mixed") from None
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        group.start_soon(read)


async def chat(websocket: WebSocket) -> None:
    """The chat of FastAPI's tutorial: the handler of a message sends it to everybody."""
    await websocket.accept()
    name = websocket.path_params["name"]
    chatters[name] = websocket
    try:
        async for text in websocket.iter_text():
            for each in list(chatters.values()):
                await each.send_text(f"{name}: {text}")
    finally:
        if name != "ghost":
            del chatters[name]


async def relay(scope: Scope, receive: Receive, send: Send) -> None:
    """Bare ASGI: send each message to everybody who has ever connected."""
    await receive()
    await send({"type": "websocket.accept"})
    sends.append(send)
    while (event := await receive())["type"] != "websocket.disconnect":
        for each in list(sends):
            await each({"type": "websocket.send", "text": event["text"]})


async def answers_late(websocket: WebSocket) -> None:
    """Answer each message only after its peer has left, and print how the disconnect arrived."""
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
            await websocket.state.connection.closed
            await websocket.send_text("too late")
            await websocket.send_text("and again")
    except WebSocketDisconnect as gone:
        print(f"disconnected by {'send' if gone.__context__ else 'receive'}", flush=True)


async def never_comes_back(websocket: WebSocket) -> None:
    """Receive once, then send for ever."""
    await websocket.accept()
    await websocket.receive_text()
    while True:
        await websocket.send_text("tick")
        await anyio.sleep(0.1)


async def mistyped(websocket: WebSocket) -> None:
    """Put a client that is not connected into a room."""
    await websocket.accept()
    await websocket.state.manager.join("nobody", "lobby")


sends: list[Send] = []
routes = Starlette(
    routes=[
        WebSocketRoute("/outside/{kind}", echo),
        WebSocketRoute("/broadcast/outside/{kind}", tell_all),
        WebSocketRoute("/end/{kind}", fails_at_the_end),
        WebSocketRoute("/group/{kind}", reader_and_writer),
        WebSocketRoute("/chat/{name}", chat),
        WebSocketRoute("/late", answers_late),
        WebSocketRoute("/never", never_comes_back),
        WebSocketRoute("/mistyped", mistyped),
    ]
)


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    """Dispatch by path: the relay is not part of the Starlette application."""
    await (relay if scope.get("path") == "/relay" else routes)(scope, receive, send)


app = Outside(WebSocketStabilizer(inner, **settings.stabilizer_options()))
