"""An application whose lifespan fails later, and one that two servers in one process serve."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from wsstab import WebSocketStabilizer

__all__ = ["crashing", "serve_twice"]


async def echo(websocket: WebSocket) -> None:
    """Send everything back."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@asynccontextmanager
async def failing(app: Starlette) -> AsyncIterator[None]:
    """A lifespan with a background task that fails after startup."""

    async def fail() -> None:
        await anyio.sleep(0.5)
        print("the job fails", flush=True)
        raise RuntimeError("boom-job")

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        yield


routes = [WebSocketRoute("/echo", echo)]
crashing = WebSocketStabilizer(Starlette(routes=routes, lifespan=failing))
steady = WebSocketStabilizer(Starlette(routes=routes))


async def serve_twice() -> None:
    """Serve one application with two servers; each line on standard input stops one, and its end stops both."""
    loop = asyncio.get_running_loop()
    stops = [asyncio.Event(), asyncio.Event()]
    servings, ports = zip(*[await serve(stop) for stop in stops], strict=True)
    print(*ports, flush=True)
    for stop, serving in zip(stops, servings, strict=True):
        await loop.run_in_executor(None, sys.stdin.readline)
        stop.set()
        await serving
        print("stopped", flush=True)


async def serve(stop: asyncio.Event) -> tuple[asyncio.Future[Any], int]:
    """Start a uvicorn server; its end, to be awaited, and its port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(steady, port=0, log_level="warning"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True
        await serving

    return asyncio.ensure_future(end()), server.servers[0].sockets[0].getsockname()[1]


if __name__ == "__main__":
    asyncio.run(serve_twice())
