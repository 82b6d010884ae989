"""Bare Starlette: what people write without a library."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from . import command
from .around import around

members: set[WebSocket] = set()
rooms: dict[str, set[WebSocket]] = defaultdict(set)
GATHER = os.environ.get("WAY") == "gather"


async def broadcast(payload: str, count: int, room: str | None) -> None:
    """Send each message to each member."""
    audience = members if room is None else rooms[room]
    for _ in range(count):
        if GATHER:
            await asyncio.gather(*(websocket.send_text(payload) for websocket in audience))
        else:
            for websocket in audience:
                await websocket.send_text(payload)


async def member(websocket: WebSocket) -> None:
    """Serve a client that gets broadcasts."""
    await websocket.accept()
    joined = [members, *(rooms[room] for room in websocket.query_params.get("rooms", "").split(",") if room)]
    for group in joined:
        group.add(websocket)
    try:
        while True:
            await command(await websocket.receive_text(), broadcast, websocket.send_text)
    except WebSocketDisconnect:
        pass
    finally:
        for group in joined:
            group.discard(websocket)


async def echo(websocket: WebSocket) -> None:
    """Send back what comes."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def hello(request: Request) -> PlainTextResponse:
    """Answer an HTTP request."""
    return PlainTextResponse("hello")


app = around(Starlette(routes=[WebSocketRoute("/", member), WebSocketRoute("/echo", echo), Route("/", hello)]))
