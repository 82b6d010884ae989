"""The demo: a chat with rooms, private messages, and who is online.

Start it with ``make demo``, or with ``uvicorn examples.chat:app`` and a look at http://127.0.0.1:8000.

What is not here is the point: no pong handling, no clean-up of dead peers, no try/finally, no list of
sockets, no shutdown code. The stabilizer does that. What is here is a chat: what a browser may say
(the models that derive from `Said`), what it is told, and a function for each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Literal

import anyio
from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from wsstab import (
    CloseCode,
    ConnectionClosed,
    Drain,
    RateLimit,
    WebSocketConfig,
    WebSocketConnectionManager,
    WebSocketStabilizer,
)

STATIC = Path(__file__).parent / "static"
ROOMS = ("lobby", "questions", "random")
"""Rooms that stay when their last member leaves."""
EVERYONE = "everyone"
"""The room of all who have said who they are; a chat room called ``x`` is ``#x`` to the manager."""
MOST_ROOMS = 100
KEPT_MESSAGES = 50
PULSE = 5.0
"""Seconds between two signs of life for the browser, which cannot see the pings."""

Name = Annotated[str, Field(pattern=r"^\w[\w .'-]{0,23}$")]
Room = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,23}$")]
Text = Annotated[str, Field(min_length=1, max_length=4000)]
Id = Annotated[str, Field(min_length=8, max_length=64)]

manager = WebSocketConnectionManager(
    WebSocketConfig(
        heartbeat_interval=5,
        heartbeat_timeout=10,
        max_connections=1_000,
        max_message_size=64 * 1024,
        rate_limit=RateLimit(messages_per_second=20, burst=60, action="delay"),
        drain=Drain(timeout=10),
    )
)
history: dict[str, deque[Message]] = {room: deque(maxlen=KEPT_MESSAGES) for room in ROOMS}


class Hello(BaseModel):
    """The first message of a socket. The key tells a returning browser from somebody else's."""

    type: Literal["hello"]
    name: Name
    key: Id
    rooms: list[Room] = Field(default=["lobby"], max_length=MOST_ROOMS)


class Say(BaseModel):
    """Something for a room. The browser chooses the id, so that it can send it again after a drop."""

    type: Literal["say"]
    id: Id
    room: Room
    text: Text


class Whisper(BaseModel):
    """Something for one person."""

    type: Literal["whisper"]
    id: Id
    to: Name
    text: Text


class Join(BaseModel):
    """Enter a room, or make it."""

    type: Literal["join"]
    room: Room


class Leave(BaseModel):
    """Leave a room."""

    type: Literal["leave"]
    room: Room


class Typing(BaseModel):
    """Somebody is writing."""

    type: Literal["typing"]
    room: Room


class Presence(BaseModel):
    """The tab went to the background, or came back."""

    type: Literal["presence"]
    away: bool


Said = Annotated[Say | Whisper | Join | Leave | Typing | Presence, Field(discriminator="type")]
said: TypeAdapter[Said] = TypeAdapter(Said)


class Message(BaseModel):
    """What a browser is told about one message; ``to`` is ``#room`` or ``@person``."""

    type: Literal["message"] = "message"
    id: str
    sender: str
    to: str
    text: str
    at: float
    delivered: bool = True


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Send pulses while the application runs."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_pulses)
        yield
        tasks.cancel_scope.cancel()


app = FastAPI(title="wsstab chat", lifespan=lifespan)
app.add_middleware(WebSocketStabilizer, manager=manager)
app.mount("/static", StaticFiles(directory=STATIC), name="static")


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page, which may load nothing from anywhere else."""
    policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
    return FileResponse(STATIC / "index.html", headers=headers)


@app.websocket("/ws")
async def chat(websocket: WebSocket) -> None:
    """Serve one browser."""
    await websocket.accept()
    try:
        hello = Hello.model_validate_json(await websocket.receive_text())
        if somebody_else_is(hello):
            await websocket.close(CloseCode.DUPLICATE_CLIENT, "this name is taken")
            return
        await manager.connect(hello.name, websocket, metadata={"key": hello.key})
        await welcome(hello)
        async for text in websocket.iter_text():
            await answer(hello.name, said.validate_json(text))
    except ValidationError:
        await websocket.close(CloseCode.UNSUPPORTED_DATA, "not a message of this chat")


def somebody_else_is(hello: Hello) -> bool:
    """Whether the name is in use, and not by the same browser."""
    holder = manager.get_connection(hello.name)
    return holder is not None and holder.metadata.get("key") != hello.key


async def welcome(hello: Hello) -> None:
    """Put somebody who is new, or comes back, into their rooms."""
    await manager.join(hello.name, EVERYONE)
    await manager.send_to_client(hello.name, {"type": "welcome", "name": hello.name})
    for room in hello.rooms:
        await enter(hello.name, room)
    await send_roster()


async def answer(name: str, message: Said) -> None:
    """Do what somebody asked for."""
    match message:
        case Say():
            await say(name, message)
        case Whisper():
            await whisper(name, message)
        case Join():
            await enter(name, message.room)
            await send_roster()
        case Leave():
            await manager.leave(name, f"#{message.room}")
            await send_roster()
        case Typing():
            notice = {"type": "typing", "room": message.room, "name": name}
            await manager.broadcast(notice, room=f"#{message.room}", exclude_client=name)
        case Presence():
            await manager.set_user_data(name, "away", message.away)
            await send_roster()


async def say(name: str, message: Say) -> None:
    """Send to a room, once: a message that comes again after a reconnect is recognised by its id."""
    room = f"#{message.room}"
    if name not in manager.get_room_members(room):
        return
    kept = history.setdefault(message.room, deque(maxlen=KEPT_MESSAGES))
    known = next((told for told in kept if told.id == message.id), None)
    if known is not None:
        await manager.send_to_client(name, known)
        return
    told = Message(id=message.id, sender=name, to=room, text=message.text, at=time.time())
    kept.append(told)
    await manager.broadcast(told, room=room)


async def whisper(name: str, message: Whisper) -> None:
    """Send to one person, and tell the sender whether it arrived."""
    told = Message(id=message.id, sender=name, to=f"@{message.to}", text=message.text, at=time.time())
    told.delivered = name == message.to or await manager.send_to_client(message.to, told)
    await manager.send_to_client(name, told)


async def enter(name: str, room: str) -> None:
    """Join a room and read what was said there lately."""
    if room not in history and len(history) >= MOST_ROOMS:
        return
    kept = history.setdefault(room, deque(maxlen=KEPT_MESSAGES))
    await manager.join(name, f"#{room}")
    await manager.send_to_client(name, {"type": "history", "messages": [told.model_dump() for told in kept]})


@manager.on(ConnectionClosed)
async def forget(_: ConnectionClosed) -> None:
    """Somebody left, or vanished: forget empty rooms and tell the others."""
    for room in set(history) - set(ROOMS):
        if not manager.get_room_members(f"#{room}"):
            del history[room]
    await send_roster()


async def send_roster() -> None:
    """Tell everyone who is here, and who is where. Under pressure only the newest roster counts."""
    people = [{"name": name, "away": is_away(name)} for name in sorted(manager.get_room_members(EVERYONE))]
    rooms = [{"name": room, "members": sorted(manager.get_room_members(f"#{room}"))} for room in history]
    await manager.broadcast({"type": "roster", "people": people, "rooms": rooms}, room=EVERYONE, key="roster")


def is_away(name: str) -> bool:
    """Whether a person's tab is in the background."""
    connection = manager.get_connection(name)
    return connection is not None and bool(connection.user_data.get("away"))


async def send_pulses() -> None:
    """Tell every browser its round-trip time; a browser that hears nothing for long knows that the line is dead."""
    while True:
        await anyio.sleep(PULSE)
        for connection in manager.connections():
            latency = None if connection.latency is None else round(connection.latency * 1000, 1)
            await connection.send({"type": "pulse", "latency": latency}, key="pulse")


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, port=8000)
