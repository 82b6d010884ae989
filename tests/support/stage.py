"""A middleware on a stage: the test plays the server, its peers and the clock.

`Stage` runs handlers behind the real middleware with the real manager. A `Peer` does what a server
does: over plain ASGI, or with ``capable=True`` over a wire that pings, measures and aborts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from starlette.websockets import WebSocket

import wsstab
from wsstab import Connection, WebSocketConnectionManager, WebSocketStabilizer
from wsstab.connection import connection_of
from wsstab.core.frames import Block, Outgoing
from wsstab.manager import hub_of
from wsstab.types import PEER_KEY, ASGIApp, Event, Receive, Scope, Send
from wsstab.wires.asgi import AsgiWire
from wsstab.wires.base import Wire
from wsstab.wires.traits import TRAITS

__all__ = ["CapableWire", "Handler", "Peer", "Stage", "echo", "on_stage", "peer_of", "push_only", "settle", "until"]

Handler: TypeAlias = Callable[[WebSocket], Awaitable[None]]

PATIENCE = 10.0
"""Seconds after which a wait has failed."""


async def until(condition: Callable[[], object], within: float = PATIENCE) -> None:
    """Wait until a condition holds."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.002)


def peer_of(connection: Connection) -> wsstab.connection.Peer:
    """The package's own peer behind a connection."""
    return connection._peer


async def settle(turns: int = 20) -> None:
    """Let everything that can run now run."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()


async def echo(websocket: WebSocket) -> None:
    """Accept, and send everything back."""
    await websocket.accept()
    while (event := await websocket.receive())["type"] == "websocket.receive":
        await websocket.send({**event, "type": "websocket.send"})


async def push_only(websocket: WebSocket) -> None:
    """Accept, and never receive."""
    await websocket.accept()
    await anyio.sleep_forever()


class Peer:
    """A client and the server in front of it, as one handler sees them.

    Attributes:
        scope: the scope of its handshake.
        sent: the events that reached it, in order.
        pings: payloads of the pings that reached it.
        stalled: whether it takes nothing at the moment; see `stall` and `resume`.
        gone: whether sends to it fail.
        mute: whether closes sent to it never get through.
        lingers: whether its TCP connection outlives the ASGI call; only for a capable wire.
        error: the exception that escaped the ASGI call.
        done: set when the ASGI call is over.
        call: the scope of the ASGI call, which an impatient server cancels.
        wire: its wire, if that is a capable one.
    """

    def __init__(self, path: str = "/ws", extensions: dict[str, Any] | None = None, **scope: Any) -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": path,
            "query_string": b"",
            "headers": [],
            "subprotocols": [],
            "client": ("203.0.113.7", 50000),
            "extensions": extensions if extensions is not None else {"websocket.http.response": {}},
            **scope,
        }
        self.sent: list[Event] = []
        self.pings: list[bytes] = []
        self.stalled = self.gone = self.mute = self.lingers = False
        self.error: Exception | None = None
        self.done = anyio.Event()
        self.call = anyio.CancelScope()
        self.wire: CapableWire | None = None
        self._inbox: deque[Event] = deque([{"type": "websocket.connect"}])
        self._changed = anyio.Event()
        self._receiving = False

    # The server's side.

    async def receive(self) -> Event:
        """The server's ``receive``; two at once are an error."""
        if self._receiving:
            raise AssertionError("two receives of one server at once")
        self._receiving = True
        try:
            while not self._inbox:
                await self._changed.wait()
        finally:
            self._receiving = False
        return self._inbox.popleft()

    async def send(self, event: Event) -> None:
        """The server's ``send``."""
        await anyio.lowlevel.checkpoint()
        while self.stalled or (self.mute and event["type"] == "websocket.close"):
            await self._changed.wait()
        if self.gone:
            raise OSError("the peer has left")
        self.sent.append(event)
        if event["type"] == "websocket.close":
            self.leaves(event["code"], event.get("reason", ""))

    def _change(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    # What a test makes it do.

    def says(self, *messages: str | bytes) -> None:
        """Send messages to the handler."""
        for message in messages:
            kind = "text" if isinstance(message, str) else "bytes"
            self._inbox.append({"type": "websocket.receive", kind: message})
        self._change()

    def leaves(self, code: int = 1001, reason: str | None = "") -> None:
        """Leave; ``reason=None`` means without a close frame, as servers report it."""
        how = {} if reason is None else {"reason": reason}
        self._inbox.append({"type": "websocket.disconnect", "code": code, **how})
        self._change()

    def stall(self) -> None:
        """Take nothing any more."""
        self.stalled = True
        if self.wire is not None:
            self.wire.block()

    def resume(self) -> None:
        """Take things again."""
        self.stalled = False
        self._change()
        if self.wire is not None:
            self.wire.unblock()

    # What a test sees of it.

    @property
    def unread(self) -> int:
        """Events that nobody has read."""
        return len(self._inbox)

    @property
    def connection(self) -> Connection:
        """The connection that its handler holds."""
        return connection_of(self.inner)

    @property
    def inner(self) -> wsstab.connection.Peer:
        """The package's own peer for this one."""
        peer = self.scope[PEER_KEY]
        assert isinstance(peer, wsstab.connection.Peer)
        return peer

    @property
    def messages(self) -> list[str | bytes]:
        """The messages that reached it."""
        sent = [event for event in self.sent if event["type"] == "websocket.send"]
        return [event["text"] if event.get("text") is not None else event["bytes"] for event in sent]

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason of the close that reached it."""
        closes = [(event["code"], event.get("reason", "")) for event in self.sent if event["type"] == "websocket.close"]
        return closes[0] if closes else None

    @property
    def kinds(self) -> list[str]:
        """The types of the events that reached it."""
        return [str(event["type"]) for event in self.sent]

    async def hears(self, count: int = 1) -> list[str | bytes]:
        """Wait for this many messages in all."""
        await until(lambda: len(self.messages) >= count)
        return self.messages

    async def over(self) -> None:
        """Wait for the end of the ASGI call."""
        with anyio.fail_after(PATIENCE):
            await self.done.wait()


class CapableWire(Wire):
    """A wire that can do everything: pings, a buffer that is measured, an abort.

    Attributes:
        held: bytes in its buffer.
        half: bytes of a message that is not complete.
        paused: whether the server has stopped reading.
        aborted: whether it was aborted.
        blocks: bytes of payload in each block that was written.
    """

    __slots__ = ("_peer", "aborted", "blocks", "closing", "half", "held", "paused")

    traits = TRAITS["uvicorn websockets-sansio"]

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self._peer = peer
        self.closing = self.aborted = self.paused = False
        self.held = self.half = 0
        self.blocks: list[int] = []

    async def receive(self) -> Event:
        return await self._peer.receive()

    async def accept(self, event: Event) -> None:
        await self._peer.send(event)

    async def deny(self, event: Event) -> None:
        await self._peer.send(event)

    def write(self, block: Block) -> None:
        assert not self.closing
        self.blocks.append(block.size)
        self._peer.sent.extend(message.event() for message in block.messages)

    async def send(self, message: Outgoing) -> None:
        await self._peer.send(message.event())

    def is_open(self) -> bool:
        return not self.closing and not self._peer.gone

    def buffered(self) -> int:
        return self.held

    def partial(self) -> int:
        return self.half

    def reading_paused(self) -> bool:
        return self.paused

    def ping(self, payload: bytes) -> bool:
        self._peer.pings.append(payload)
        return True

    async def close(self, code: int, reason: str) -> None:
        self.closing = True
        await self._peer.send({"type": "websocket.close", "code": code, "reason": reason})

    def abort(self) -> None:
        self.aborted = self.closing = True
        if not self.lost:
            self._peer.leaves(1006)
            self.end()

    def end(self) -> None:
        """End the TCP connection."""
        if not self.lost:
            self.lost = True
            self.on_lost()

    def block(self) -> None:
        """Take no more."""
        self.writable = False
        self.on_blocked()

    def unblock(self) -> None:
        """Take data again."""
        self.writable = True
        self.on_writable()


class Stage:
    """Handlers behind the middleware.

    Attributes:
        manager: the manager of the middleware.
        hub: the hub of the manager.
        middleware: the middleware around the handler.
    """

    def __init__(
        self, group: TaskGroup, handler: Handler | ASGIApp, capable: bool, bare: bool, options: dict[str, Any]
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await handler(WebSocket(scope, receive, send))  # type: ignore[call-arg, arg-type]

        self.middleware = WebSocketStabilizer(handler if bare else app, **options)  # type: ignore[arg-type]
        self.middleware._opening.wire_for = self._wire
        self._by_scope: dict[int, Peer] = {}
        self._capable = capable
        self.manager: WebSocketConnectionManager = self.middleware.manager
        self.hub = hub_of(self.manager)
        self.peers: list[Peer] = []
        self._group = group

    def call(self, peer: Peer) -> Peer:
        """Begin the ASGI call of a peer."""
        self.peers.append(peer)
        self._by_scope[id(peer.scope)] = peer
        self._group.start_soon(self._call, peer)
        return peer

    async def open(self, path: str = "/ws", **scope: Any) -> Peer:
        """A peer whose handshake is complete, or refused."""
        peer = self.call(Peer(path, **scope))
        await until(lambda: peer.sent or peer.done.is_set())
        await settle(3)
        return peer

    async def named(self, *names: str) -> list[Peer]:
        """A peer for each of these client ids."""
        peers = [await self.open() for _ in names]
        for peer, name in zip(peers, names, strict=True):
            await self.manager.connect(name, WebSocket(peer.scope, peer.receive, peer.send))
        return peers

    def pass_time(self, seconds: float) -> None:
        """Let time pass for all deadlines, as if the loop had been idle."""
        timekeeper = self.hub.loops.here().timekeeper
        timekeeper.now += seconds
        timekeeper.tick()

    def _wire(self, scope: Scope, receive: Receive, send: Send) -> Wire:
        peer = self._by_scope[id(scope)]
        if not self._capable:
            return AsgiWire(receive, send)
        peer.wire = CapableWire(peer)
        return peer.wire

    async def _call(self, peer: Peer) -> None:
        try:
            with peer.call:
                await self.middleware(peer.scope, peer.receive, peer.send)
        except Exception as error:
            peer.error = error
        finally:
            peer.done.set()
            if peer.wire is not None and not peer.lingers:
                peer.wire.end()


@asynccontextmanager
async def on_stage(
    handler: Handler | ASGIApp = echo,
    *,
    capable: bool = False,
    bare: bool = False,
    errors: bool = False,
    **options: Any,
) -> AsyncIterator[Stage]:
    """A stage; when it ends, all peers leave, and nothing may remain.

    Args:
        handler: the handler of each socket, called with Starlette's ``WebSocket``.
        capable: whether the wire has pings, a buffer that is measured and an abort.
        bare: whether the handler is an ASGI callable.
        errors: whether exceptions may escape ASGI calls.
        **options: the options of the middleware.
    """
    async with anyio.create_task_group() as group:
        stage = Stage(group, handler, capable, bare, options)
        yield stage
        for peer in stage.peers:
            peer.mute = peer.stalled = peer.lingers = False
            peer.leaves()
            if peer.wire is not None and peer.done.is_set():
                peer.wire.end()
        await settle()
        group.cancel_scope.cancel()
    assert errors or not [peer.error for peer in stage.peers if peer.error is not None]
    assert stage.manager.get_connection_count() == 0
    assert not stage.hub.calls
    assert stage.hub.ledger.total == 0
    assert stage.hub.admission.count == 0
