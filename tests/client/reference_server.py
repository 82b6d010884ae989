"""A server of wsstab.v1 for tests of clients: the server's machines over real sockets, and a handler that echoes.

It shows that a client keeps its promises before and without the middleware. Each message is answered by
``<number of the handler>:<message>``; some messages ask for something else, see `Host.answer`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from wsstab.core.frames import Block, Outgoing
from wsstab.core.protocol import SUBPROTOCOL, Bye, Hello, Offer, Outcome, escaped, negotiate
from wsstab.core.queue import OutboundQueue
from wsstab.core.session import Ending, Refusal, Session
from wsstab.hub.sessions import Sessions
from wsstab.wires.base import Wire
from wsstab.wires.session import SessionWire

__all__ = ["Host", "ReferenceServer", "reference_server"]


class Carrier(Wire):
    """The wire of one carrier."""

    def __init__(self, websocket: ServerConnection) -> None:
        super().__init__()
        self.websocket = websocket
        self._leaving: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._writer = asyncio.get_running_loop().create_task(self._write())

    def write(self, block: Block) -> None:
        for message in block.messages:
            self._leaving.put_nowait(message.data)

    async def _write(self) -> None:
        try:
            while (data := await self._leaving.get()) is not None:
                await self.websocket.send(data)
        except ConnectionClosed:
            pass

    async def flushed(self) -> None:
        """Wait until everything was written."""
        self._leaving.put_nowait(None)
        await asyncio.wait([self._writer], timeout=5)

    def cut(self) -> None:
        """Reset its TCP connection."""
        self._writer.cancel()
        self.websocket.transport.abort()


@dataclass
class Handed:
    """Counts what was handed to carriers, as a sender does."""

    messages: int = 0
    bytes: int = 0


class Host:
    """Runs one handler.

    Attributes:
        number: of the handler.
        heard: what it got.
        carrier: the newest that was admitted.
    """

    def __init__(self, number: int, offer: Offer, max_messages: int) -> None:
        assert offer.next is not None
        self.number = number
        self.heard: list[str | bytes] = []
        self.carrier: Carrier | None = None
        self.protocol: str | None = None
        self.handed = Handed()
        self.queue: OutboundQueue[Outgoing] = OutboundQueue(None, 100_000, "close")
        self.session = Session(
            secrets.token_urlsafe(16),
            offer.next,
            offer.attempt,
            self.handed,
            self.queue,
            max_messages=max_messages,
            max_bytes=1 << 20,
        )
        self.wire = SessionWire(self.session)

    def say(self, data: str | bytes) -> None:
        """The handler sends."""
        message = Outgoing(escaped(data) if isinstance(data, str) else data)
        if self.queue or not self.wire.writable or not self.session.takes(message.size):
            self.queue.put(message)
            self.wire.pump()
        else:
            self.handed.messages += 1
            self.handed.bytes += message.size
            self.wire.send_at_once(message)

    def answer(self, data: str | bytes) -> None:
        """Answer a message; ``return`` and ``raise`` end the handler, ``silence`` is not answered."""
        self.heard.append(data)
        if data == "return":
            self._end(Bye(1000, "done"))
        elif data == "raise":
            self._end(Bye(1011, "internal error", "new"))
        elif data != "silence":
            self.say(data if isinstance(data, bytes) else f"{self.number}:{data}")

    def _end(self, goodbye: Bye) -> None:
        self.session.handler_ended(goodbye)
        self.wire.pump()


class ReferenceServer:
    """The server, its hosts and its carriers.

    Attributes:
        url: where it listens.
        hosts: all handlers that ran, in order.
        carriers: all carriers, in order.
        speaks: whether it speaks wsstab.v1.
        headers: the request headers of each handshake.
    """

    def __init__(self, max_messages: int = 1000) -> None:
        self.url = ""
        self.hosts: list[Host] = []
        self.carriers: list[Carrier] = []
        self.speaks = True
        self.headers: list[Any] = []
        self._max_messages = max_messages
        self._sessions: Sessions[Host] = Sessions(1000)

    @property
    def now(self) -> float:
        """Seconds."""
        return asyncio.get_running_loop().time()

    def forget(self) -> None:
        """Forget all sessions, as after a restart, and cut their carriers."""
        self._sessions = Sessions(1000)
        for carrier in self.carriers:
            carrier.cut()

    def select(self, connection: ServerConnection, offered: Any) -> Subprotocol | None:
        """wsstab.v1, if it was offered and is spoken; else the first of the application's."""
        self.headers.append(connection.request.headers if connection.request else {})
        application, offer = negotiate(offered)
        if offer is not None and self.speaks:
            return Subprotocol(SUBPROTOCOL)
        return Subprotocol(application[0]) if application else None

    async def handle(self, websocket: ServerConnection) -> None:
        """Serve one carrier."""
        assert websocket.request is not None
        application, offer = negotiate(websocket.request.headers.get_all("Sec-WebSocket-Protocol"))
        carrier = Carrier(websocket)
        self.carriers.append(carrier)
        if offer is None or websocket.subprotocol != SUBPROTOCOL:
            await self._serve_plain(websocket)
            return
        found = self._sessions.find(offer, self.now)
        if isinstance(found, Refusal):
            carrier.write(Block([Outgoing(str(Bye(1008, found.why, found.again)))]))
            await carrier.flushed()
            return
        await self._carry(carrier, self._begin(offer, application) if found is None else found, offer)

    def _begin(self, offer: Offer, application: list[str]) -> Host:
        host = Host(len(self.hosts) + 1, offer, self._max_messages)
        host.protocol = application[0] if application else None
        self.hosts.append(host)
        self._sessions.add(host)
        return host

    async def _carry(self, carrier: Carrier, host: Host, offer: Offer) -> None:
        session = host.session
        resumed = offer.session == session.name
        if host.carrier is not None:
            host.wire.detach_carrier()
            session.admit(offer.attempt)
            host.carrier.cut()
        host.carrier = carrier
        hello = Hello(
            session.name,
            Outcome.RESUMED if resumed else Outcome.FRESH,
            session.received,
            session.lost,
            20_000,
            10_000,
            120_000,
            session.ack_due,
            None,
            host.protocol,
            "unknown" if offer.session is not None and not resumed else None,
        )
        host.wire.attach(carrier, offer.received if resumed else 0, hello)
        self._sessions.attached(host)
        await self._read(carrier, host)

    async def _read(self, carrier: Carrier, host: Host) -> None:
        code = 1006
        try:
            async for data in carrier.websocket:
                if host.carrier is not carrier:
                    return
                event = {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}
                heard = host.wire.hear(event, self.now)
                if heard is not None and host.session.goodbye is None:
                    host.answer(heard["text"] if "text" in heard else heard["bytes"])
            code = carrier.websocket.close_code or 1005
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else 1006
        finally:
            if host.carrier is carrier and host.session.attached:
                ending = host.session.closed(code, by_server=False)
                host.wire.detach_carrier()
                self._sessions.detach(host)
                if ending is Ending.OVER:
                    host.session.end()
                    self._sessions.remove(host, self.now, answered=True)

    async def _serve_plain(self, websocket: ServerConnection) -> None:
        async for data in websocket:
            await websocket.send(data)


@asynccontextmanager
async def reference_server(max_messages: int = 1000) -> AsyncIterator[ReferenceServer]:
    """A server that runs while the block runs."""
    server = ReferenceServer(max_messages)
    async with serve(
        server.handle, "127.0.0.1", 0, select_subprotocol=server.select, ping_interval=None, close_timeout=1
    ) as running:
        server.url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/echo"
        yield server
        for carrier in server.carriers:
            carrier.cut()
