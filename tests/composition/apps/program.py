"""The small program that runs bare and wrapped: FastAPI, and a handler for each question.

It knows nothing of the stabilizer but one thing: a broadcast goes through the manager where there is
one, and through a loop of sends where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

from .subject import Subject

__all__ = ["make_program"]

Seen = Callable[[], Any]


def make_program(subject: Subject, seen: Seen) -> FastAPI:
    """The program.

    Args:
        subject: notes how the handlers ended, and keeps the sockets of the room.
        seen: what a handler sees of its context.
    """
    api = FastAPI()

    @api.get("/hello")
    async def hello(request: Request) -> Any:
        return {"hello": request.url.path, "client": request.client and request.client.host, "seen": seen()}

    @api.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept(headers=[(b"x-program", b"echo")])
        with told(subject, "echo"):
            while True:
                event = await websocket.receive()
                if event["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(event.get("code", 1005), event.get("reason"))
                await websocket.send({**event, "type": "websocket.send"})

    @api.websocket("/context")
    async def context(websocket: WebSocket) -> None:
        await websocket.accept()
        with told(subject, "context"):
            await websocket.send_json({"seen": seen()})
            async for _ in websocket.iter_text():
                await websocket.send_json({"seen": seen()})

    @api.websocket("/returns")
    async def returns(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("last words")

    @api.websocket("/raises")
    async def raises(websocket: WebSocket) -> None:
        await websocket.accept()
        raise LookupError(told_by(websocket.scope))

    @api.websocket("/raises-late")
    async def raises_late(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        finally:
            open("/nonexistent/" + told_by(websocket.scope))  # noqa: ASYNC230, SIM115

    @api.websocket("/raises-early")
    async def raises_early(websocket: WebSocket) -> None:
        raise LookupError(told_by(websocket.scope))

    @api.websocket("/closes")
    async def closes(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4001, "as told")

    @api.websocket("/refuses")
    async def refuses(websocket: WebSocket) -> None:
        await websocket.close(4003, "as told")

    @api.websocket("/pushes")
    async def pushes(websocket: WebSocket) -> None:
        await websocket.accept()
        with told(subject, "pushes"):
            for number in range(30):
                await websocket.send_text(str(number))
                await anyio.sleep(0.01)

    @api.websocket("/room")
    async def room(websocket: WebSocket) -> None:
        await websocket.accept()
        subject.sockets.append(websocket)
        with told(subject, "room"):
            try:
                async for _ in websocket.iter_text():
                    pass
            finally:
                subject.sockets.remove(websocket)

    @api.post("/shout")
    async def shout(text: str) -> int:
        return await subject.shout(text, lambda websocket: websocket.send_text(text))

    return api


def told_by(scope: Any) -> str:
    """The words that an error is to have, from the query string."""
    return str(scope["query_string"].decode())


@contextmanager
def told(subject: Subject, handler: str, gone: type[Exception] = WebSocketDisconnect) -> Iterator[None]:
    """Note how a handler ended; what it raised propagates, except for the disconnect itself.

    Args:
        subject: keeps the note.
        handler: the name of the handler.
        gone: the exception by which the framework reports that the peer has left.
    """
    try:
        yield
    except gone as error:
        subject.notes.append([handler, type(error).__name__, getattr(error, "code", None)])
    except BaseException as error:
        subject.notes.append([handler, type(error).__name__, None])
        raise
    else:
        subject.notes.append([handler, "returned", None])
