"""A plain ASGI driver: one handshake and its answer, with neither a server nor a test client between."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio

from wsstab.types import ASGIApp, Event

__all__ = ["Answer", "knock", "scope_of"]


class Answer(NamedTuple):
    """What an application answered to a handshake: the status, 101 for an accept, and the reason of a refusal."""

    status: int
    reason: str = ""


def scope_of(path: str, root_path: str = "", **headers: str) -> dict[str, Any]:
    """The scope of a handshake; underscores in the names of headers are hyphens."""
    named = {"host": "chat.example.com"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "subprotocols": [],
        "client": ("203.0.113.7", 50000),
        "server": ("127.0.0.1", 8000),
        "extensions": {"websocket.http.response": {}},
        "state": {},
    }


async def knock(app: ASGIApp, path: str, root_path: str = "", **headers: str) -> Answer:
    """Ask an application for a WebSocket, and leave when it has answered."""
    told = iter([{"type": "websocket.connect"}])
    said: list[Event] = []
    answered = anyio.Event()

    async def receive() -> Event:
        event = next(told, None)
        if event is None:
            await answered.wait()
            return {"type": "websocket.disconnect", "code": 1001}
        return event

    async def send(event: Event) -> None:
        said.append(event)
        answered.set()

    await app(scope_of(path, root_path, **headers), receive, send)
    return answer_of(said)


def answer_of(said: list[Event]) -> Answer:
    """The answer that these events amount to."""
    kinds = [event["type"] for event in said]
    if "websocket.accept" in kinds:
        return Answer(101)
    if "websocket.http.response.start" in kinds:
        body = b"".join(event.get("body", b"") for event in said)
        return Answer(said[0]["status"], body.decode().strip())
    return Answer(403) if "websocket.close" in kinds else Answer(0)
