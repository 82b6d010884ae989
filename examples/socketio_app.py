"""A python-socketio application, wrapped: Socket.IO inside, limits and backpressure outside.

Start it with ``python -m examples.socketio_app`` (it needs ``pip install python-socketio``); then
``python -m examples.socketio_app hello`` in another terminal, or any Socket.IO client (that one needs
``pip install aiohttp``).

Socket.IO is a protocol of its own, so nothing of ours is ever written into it: heartbeats are ping
frames, and a broadcast of the manager leaves these sockets out.
"""

from __future__ import annotations

from typing import Any

import socketio

from wsstab import RateLimit, WebSocketStabilizer

server = socketio.AsyncServer(async_mode="asgi")


@server.event  # type: ignore[untyped-decorator, unused-ignore]
async def shout(sid: str, text: str) -> str:
    """Repeat it to everybody, louder; the return value is the acknowledgement."""
    await server.emit("heard", {"from": sid, "text": text.upper()})
    return "told"


app = WebSocketStabilizer(
    socketio.ASGIApp(server),
    max_connections=10_000,
    max_message_size=128 * 1024,
    rate_limit=RateLimit(messages_per_second=20, burst=40),
)


async def say(text: str, url: str = "http://127.0.0.1:8000") -> Any:
    """Be a client for one message.

    Args:
        text: what to shout.
        url: where the server is.

    Returns:
        The server's acknowledgement.
    """
    async with socketio.AsyncSimpleClient() as client:
        await client.connect(url, transports=["websocket"])
        return await client.call("shout", text)


if __name__ == "__main__":
    import asyncio
    import sys

    import uvicorn

    if len(sys.argv) > 1:
        print(asyncio.run(say(" ".join(sys.argv[1:]))))
    else:
        uvicorn.run(app, port=8000)
