"""picows (Cython): a send for each listener."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from . import command

members: set[WSTransport] = set()
rooms: dict[str, set[WSTransport]] = defaultdict(set)
tasks: set[asyncio.Task[None]] = set()


async def send_all(payload: str, count: int, room: str | None) -> None:
    """Send each message to each member."""
    data = payload.encode()
    for _ in range(count):
        for transport in members if room is None else rooms[room]:
            transport.send(WSMsgType.TEXT, data)


class Member(WSListener):
    """A client that gets broadcasts."""

    def __init__(self, joined: list[set[WSTransport]]) -> None:
        super().__init__()
        self.joined = joined

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Join the groups."""
        for group in self.joined:
            group.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave the groups."""
        for group in self.joined:
            group.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a command."""
        if frame.msg_type != WSMsgType.TEXT:
            return

        async def answer(text: str) -> None:
            transport.send(WSMsgType.TEXT, text.encode())

        task = asyncio.ensure_future(command(frame.get_payload_as_utf8_text(), send_all, answer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


class Echo(WSListener):
    """Sends back what comes."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Send back a message."""
        if frame.msg_type == WSMsgType.TEXT:
            transport.send(WSMsgType.TEXT, frame.get_payload_as_bytes())


def listener(request: WSUpgradeRequest) -> Any:
    """The listener for one handshake."""
    url = urlsplit(request.path.decode())
    if url.path == "/echo":
        return Echo()
    names = parse_qs(url.query).get("rooms", [""])[0].split(",")
    return Member([members, *(rooms[name] for name in names if name)])


async def main() -> None:
    """Serve until killed."""
    server = await ws_create_server(listener, "127.0.0.1", int(os.environ["PORT"]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
