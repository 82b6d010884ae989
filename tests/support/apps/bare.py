"""A bare ASGI application that probes the receive and send it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from wsstab.types import Receive, Scope, Send

__all__ = ["app"]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Dispatch by path."""
    if scope["type"] == "websocket":
        await PROBES[scope["path"]](scope, receive, send)


async def accept(receive: Receive, send: Send) -> None:
    """Answer the handshake."""
    await receive()
    await send({"type": "websocket.accept"})


async def receive_again(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive up to the disconnect, then twice more; send twice after that."""
    await accept(receive, send)
    event = await receive()
    while event["type"] != "websocket.disconnect":
        event = await receive()
    outcomes = [await outcome(receive), await outcome(receive)]
    outcomes += [await outcome(lambda: send({"type": "websocket.send", "text": "late"})) for _ in range(2)]
    scope["state"]["notes"].append([event["type"], *outcomes])


async def send_after_gone(scope: Scope, receive: Receive, send: Send) -> None:
    """Never receive; wait for the end, then send twice."""
    await accept(receive, send)
    await scope["state"]["connection"].closed
    late = {"type": "websocket.send", "text": "late"}
    scope["state"]["notes"].append([await outcome(lambda: send(late)) for _ in range(2)])


async def send_before_told(scope: Scope, receive: Receive, send: Send) -> None:
    """Send one message after the peer has left but before the handler was told, then receive."""
    await accept(receive, send)
    while scope["state"]["connection"]._peer.open:
        await anyio.sleep(0.01)
    sent = await outcome(lambda: send({"type": "websocket.send", "text": "welcome"}))
    scope["state"]["notes"].append([sent, (await receive())["type"]])


async def send_on(scope: Scope, receive: Receive, send: Send) -> None:
    """Never receive; send until that fails."""
    await accept(receive, send)
    sent: dict[str, Any] = {}
    while "error" not in sent:
        await anyio.sleep(0.01)
        sent = await outcome(lambda: send({"type": "websocket.send", "text": "more"}))
    scope["state"]["notes"].append(sent)


async def receive_late(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive nothing until the peer has sent and left, then everything."""
    await accept(receive, send)
    await scope["state"]["connection"].closed
    events = [await receive()]
    while events[-1]["type"] != "websocket.disconnect":
        events.append(await receive())
    scope["state"]["notes"].append([event.get("text") or event.get("code") for event in events])


async def receive_cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive with a timeout that often expires; nothing may be lost."""
    await accept(receive, send)
    while True:
        try:
            with anyio.fail_after(0.005):
                event = await receive()
        except TimeoutError:
            continue
        if event["type"] == "websocket.disconnect":
            return
        await send({"type": "websocket.send", "text": event["text"]})


async def outcome(call: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    """The outcome of a call: its result, or the class of its error and whether that is an ``OSError``."""
    try:
        with anyio.fail_after(2):
            result = await call()
    except TimeoutError:
        return {"hung": True}
    except Exception as error:
        return {"error": type(error).__name__, "os_error": isinstance(error, OSError)}
    return {"result": str(result)}


PROBES = {
    "/receive-again": receive_again,
    "/send-after-gone": send_after_gone,
    "/send-before-told": send_before_told,
    "/send-on": send_on,
    "/receive-late": receive_late,
    "/receive-cancelled": receive_cancelled,
}
