"""websockets: its own server, ``broadcast()``."""

from __future__ import annotations

import os
from collections import defaultdict
from urllib.parse import parse_qs, urlsplit

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from . import command

members: set[ServerConnection] = set()
rooms: dict[str, set[ServerConnection]] = defaultdict(set)


async def send_all(payload: str, count: int, room: str | None) -> None:
    """Send each message to each member."""
    for _ in range(count):
        broadcast(members if room is None else rooms[room], payload)


async def handle(connection: ServerConnection) -> None:
    """Serve one WebSocket."""
    assert connection.request is not None
    url = urlsplit(connection.request.path)
    if url.path == "/echo":
        async for message in connection:
            await connection.send(message)
        return
    names = parse_qs(url.query).get("rooms", [""])[0].split(",")
    joined = [members, *(rooms[name] for name in names if name)]
    for group in joined:
        group.add(connection)
    try:
        async for message in connection:
            await command(str(message), send_all, connection.send)
    finally:
        for group in joined:
            group.discard(connection)


async def main() -> None:
    """Serve until killed."""
    compression = "deflate" if os.environ.get("COMPRESSION") == "deflate" else None
    async with serve(
        handle, "127.0.0.1", int(os.environ["PORT"]), ping_interval=None, compression=compression, backlog=4096
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
