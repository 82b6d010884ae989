"""A real uvicorn in a thread of this process, which runs an application of the test.

The application uses the wire directly, without the rest of the package. The test sees each call of it as
a `Call`, and runs its own steps on the event loop of the server.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import uvicorn

from tests.support.peer import Peer
from tests.support.waiting import eventually
from wsstab.core.frames import Block, Outgoing
from wsstab.types import ASGIApp, Event, Receive, Scope, Send
from wsstab.wires import wire_for

__all__ = ["OFFER", "Call", "House", "house_of", "listen"]

OFFER = "permessage-deflate; client_max_window_bits"
"""The extension that a browser offers."""


class Call:
    """One call of the application.

    Attributes:
        scope: the scope of the connection.
        wire: the wire that the package chooses for it.
        protocol: the server's protocol object.
        events: events that the handler received after the connect.
        pongs: payloads of the reported pongs.
        error: the error that the handler raised.
        over: whether the handler has returned.
        step: an event that the test sets, for handlers that wait for it.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.wire: Any = wire_for(scope, receive, send)
        self.wire.on_pong = self._hear
        self.protocol: Any = getattr(self.wire, "protocol", None)
        self.events: list[Event] = []
        self.pongs: list[bytes] = []
        self.error: Exception | None = None
        self.over = False
        self.step = asyncio.Event()

    @property
    def texts(self) -> list[str]:
        """The texts that the handler received."""
        return [str(event["text"]) for event in self.events if event["type"] == "websocket.receive"]

    @property
    def end(self) -> tuple[int, str]:
        """Code and reason of the disconnect that the handler received."""
        (event,) = eventually(lambda: [each for each in self.events if "code" in each])
        return event["code"], event.get("reason") or ""

    async def hear(self) -> Event:
        """Receive one event and record it."""
        event: Event = await self.wire.receive()
        self.events.append(event)
        return event

    async def accept(self) -> None:
        """Complete the handshake."""
        await self.wire.receive()
        await self.wire.accept({"type": "websocket.accept"})

    def _hear(self, payload: bytes) -> None:
        self.pongs.append(payload)


Handler: TypeAlias = Callable[[Call], Awaitable[object]]


async def listen(call: Call) -> None:
    """Accept, and receive until the disconnect."""
    await call.accept()
    while (await call.hear())["type"] == "websocket.receive":
        pass


def leave_alone(wire: Any) -> None:
    """Do not prepare the wire."""


class House:
    """One running server.

    Args:
        ws: the WebSocket implementation, as in uvicorn's option.
        around: middleware between the server and us.
        settings: further configuration of uvicorn.

    Attributes:
        calls: the calls of the application, in order.
        handler: the handler of the next call.
        prepare: a function that the next call applies to its wire first.
    """

    def __init__(self, ws: str, around: Callable[[ASGIApp], ASGIApp] | None = None, **settings: Any) -> None:
        self.calls: list[Call] = []
        self.handler: Handler = listen
        self.prepare: Callable[[Any], object] = leave_alone
        app = around(self.app) if around is not None else self.app
        common: dict[str, Any] = {"interface": "asgi3", "lifespan": "off", "loop": "asyncio"}
        quiet: dict[str, Any] = {"log_config": None, "log_level": "warning"}
        config = uvicorn.Config(app, ws=ws, **{**common, **quiet, **settings})
        config.load()
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application."""
        call = Call(scope, receive, send)
        self.calls.append(call)
        try:
            self.prepare(call.wire)
            await self.handler(call)
        except Exception as error:
            call.error = error
        finally:
            call.wire.detach()
            call.over = True

    def dial(self, handler: Handler = listen, prepare: Callable[[Any], object] = leave_alone, **options: Any) -> Peer:
        """A client whose call gets this handler."""
        self.handler, self.prepare = handler, prepare
        return Peer(self.socket.getsockname(), **options)

    @contextmanager
    def connected(
        self, handler: Handler = listen, prepare: Callable[[Any], object] = leave_alone, **options: Any
    ) -> Iterator[tuple[Peer, Call]]:
        """A client and its call. At the end the client leaves; the handler must then have returned without an error."""
        before = len(self.calls)
        with self.dial(handler, prepare, **options) as peer:
            call = eventually(lambda: self.calls[before:])[0]
            self.run(self._attached(call))
            yield peer, call
        eventually(lambda: call.over)
        assert call.error is None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop of the server and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function on the loop of the server and return its result."""

        async def work() -> Any:
            return function(*arguments)

        return self.run(work())

    def say(self, call: Call, *texts: str) -> None:
        """Write messages to a peer."""
        self.do(call.wire.write, Block(tuple(Outgoing(text) for text in texts)))

    def go_on(self, call: Call) -> None:
        """Let a waiting handler take its next step."""
        self.do(call.step.set)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the server."""
        return self.server.servers[0].get_loop()

    async def _attached(self, call: Call) -> None:
        # The client has the answer; the rest of accept() takes only a few turns of the loop.
        while not (call.wire._attached or call.over):
            await asyncio.sleep(0)


@contextmanager
def house_of(ws: str, around: Callable[[ASGIApp], ASGIApp] | None = None, **settings: Any) -> Iterator[House]:
    """Run a server during the block; all calls of its application must have ended afterwards."""
    house = House(ws, around, **settings)
    house.thread.start()
    try:
        eventually(lambda: house.server.started)
        yield house
        eventually(lambda: all(call.over for call in house.calls))
    finally:
        house.server.should_exit = True
        house.thread.join(10)
        house.socket.close()
    assert not house.thread.is_alive()
