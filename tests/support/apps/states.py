"""Handlers that stay in one state of reading, on bare ASGI."""

from __future__ import annotations

import anyio

from tests.support.apps.bare import accept
from wsstab.types import Receive, Scope, Send

__all__ = ["app"]


async def reading(receive: Receive) -> None:
    """Receive everything."""
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the state that the path names; a note says that the handler has learnt of the end."""
    await accept(receive, send)
    connection, state = scope["state"]["connection"], scope["path"].rpartition("/")[2]
    if state == "reading":
        await reading(receive)
    elif state == "paused":
        await receive()
        await connection.closed
    elif state == "late":
        await receive()
        await anyio.sleep(1)
        await reading(receive)
    elif state == "detached":
        await connection.closed
    elif state == "closing":
        await receive()
        await send({"type": "websocket.close", "code": 4000})
        await connection.closed
    scope["state"]["notes"].append(connection.statistics().messages_received)
