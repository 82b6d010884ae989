"""The shield, on hypercorn's real classes: a misbehaving peer affects only its own connection."""

from __future__ import annotations

import asyncio
import logging
import sys
from math import inf
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import anyio
import pytest
import trio
import trio.testing
from hypercorn.config import Config
from hypercorn.protocol.events import Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.trio.tcp_server import TCPServer as TrioTCPServer
from hypercorn.typing import ConnectionState
from wsproto.events import CloseConnection, TextMessage

from tests.wires.hypercorn.doubles import client
from wsstab.types import Event
from wsstab.wires.hypercorn import shield
from wsstab.wires.hypercorn.shield import MOST_KEPT, unbounded

pytestmark = pytest.mark.anyio

HEADERS = [(b"host", b"a"), (b"sec-websocket-key", b"x"), (b"sec-websocket-version", b"13")]
HEADERS += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
ACCEPT = {"type": "websocket.accept"}


class Call:
    """A stream whose application has been called, and the queue between them.

    Attributes:
        stream: the stream of hypercorn.
        sent: events that the stream sent to its protocol.
        queue: events that the application has not received yet, after the connect.
    """

    def __init__(self, backend: str, room: int) -> None:
        self.sent: list[Any] = []
        self._trio = backend == "trio"
        self.queue: Any
        if self._trio:
            sender, self.queue = trio.open_memory_channel[Event](room)
            put: Any = sender.send
        else:
            self.queue = asyncio.Queue(room)
            put = self.queue.put
        config = Config()
        config._log = AsyncMock()
        tasks = MagicMock(spawn_app=AsyncMock(return_value=put))
        self.stream: Any = WSStream(MagicMock(), config, MagicMock(), tasks, False, None, None, self._send, 1)

    async def _send(self, event: Any) -> None:
        self.sent.append(event)

    async def say(self, data: bytes) -> None:
        """Send these bytes, as the peer."""
        await self.stream.handle(Data(stream_id=1, data=data))

    def next(self) -> Event:
        """The next event that the application receives."""
        event: Event = self.queue.receive_nowait() if self._trio else self.queue.get_nowait()
        return event

    @property
    def statuses(self) -> list[int]:
        """The status codes of the responses that the peer got."""
        return [event.status_code for event in self.sent if isinstance(event, Response)]


async def called(backend: str, room: int = 3) -> Call:
    """A call whose handshake has not been answered yet."""
    shield()
    call = Call(backend, room)
    await call.stream.handle(
        Request(
            stream_id=1, headers=HEADERS, http_version="1.1", method="GET", raw_path=b"/", state=ConnectionState({})
        )
    )
    assert call.next()["type"] == "websocket.connect"
    return call


def texts(*messages: str) -> list[bytes]:
    """A peer's frames with these messages."""
    peer = client()
    return [peer.send(TextMessage(message)) for message in messages]


async def test_messages_before_an_accept_are_delivered_after_it_in_order(anyio_backend: str) -> None:
    """Even more than the queue has room for, because an application cannot receive while it accepts."""
    call, words = await called(anyio_backend, room=1), [str(number) for number in range(10)]
    for frame in texts(*words):
        await call.say(frame)
    assert call.sent == []
    with anyio.fail_after(5):
        await call.stream.app_send(ACCEPT)
    assert call.statuses == [101]
    assert [call.next()["text"] for _ in words] == words
    with anyio.fail_after(5):
        await call.say(texts("after")[0])
    assert call.next()["text"] == "after"


async def test_a_peers_close_before_the_accept_follows_its_messages(anyio_backend: str) -> None:
    """Nothing of the stream is kept afterwards."""
    call, peer = await called(anyio_backend), client()
    await call.say(peer.send(TextMessage("first")) + peer.send(CloseConnection(code=1000)))
    await call.stream.app_send(ACCEPT)
    assert call.next()["text"] == "first"
    assert isinstance(call.sent[-1], StreamClosed)
    assert "_wsstab_early" not in call.stream.__dict__


async def test_a_refusal_discards_what_the_peer_sends_before_and_after_it(anyio_backend: str) -> None:
    """The response is still that of the application."""
    call = await called(anyio_backend)
    await call.say(texts("before")[0])
    await call.stream.app_send({"type": "websocket.close", "code": 1008})
    await call.say(texts("after")[0])
    assert call.statuses == [403]
    assert isinstance(call.sent[-1], EndBody)
    assert "_wsstab_early" not in call.stream.__dict__


async def test_a_refusal_in_parts_takes_effect_with_its_body(anyio_backend: str) -> None:
    """Until then, data of the peer is kept."""
    call = await called(anyio_backend)
    await call.say(texts("before")[0])
    await call.stream.app_send({"type": "websocket.http.response.start", "status": 429, "headers": []})
    assert "_wsstab_early" in call.stream.__dict__
    await call.stream.app_send({"type": "websocket.http.response.body", "body": b"no"})
    assert (call.statuses, "_wsstab_early" in call.stream.__dict__) == ([429], False)


@pytest.mark.parametrize(
    "decide",
    [
        lambda call: call.stream.app_send(ACCEPT),
        lambda call: call.stream.app_send({"type": "websocket.close"}),
        lambda call: call.stream.handle(StreamClosed(stream_id=1)),
    ],
    ids=["accept", "refusal", "end of the stream"],
)
async def test_reading_pauses_when_a_peer_sends_much_before_the_accept(anyio_backend: str, decide: Any) -> None:
    """It resumes when the handshake is decided."""
    call, read = await called(anyio_backend), list[bool]()

    async def say_much() -> None:
        await call.say(texts("x" * MOST_KEPT)[0])
        read.append(True)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(say_much)
            await anyio.wait_all_tasks_blocked()
            assert read == []
            await decide(call)
    assert read == [True]


async def test_a_peer_that_leaves_before_the_accept_causes_a_disconnect(anyio_backend: str) -> None:
    """A late accept delivers nothing."""
    call = await called(anyio_backend)
    await call.say(texts("first")[0])
    await call.stream.handle(StreamClosed(stream_id=1))
    await call.say(texts("late")[0])
    await call.stream.app_send(ACCEPT)
    assert call.next() == {"type": "websocket.disconnect", "code": 1006}
    assert call.sent == []


async def test_hypercorns_classes_are_patched_once() -> None:
    """A second call of ``shield()`` changes nothing."""
    shield()
    before = WSStream.handle, WSStream.app_send, TrioTCPServer.run, TrioTCPServer._close
    shield()
    assert (WSStream.handle, WSStream.app_send, TrioTCPServer.run, TrioTCPServer._close) == before


async def test_shield_does_not_import_hypercorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is not loaded, another server is running."""
    names = ("hypercorn.protocol.ws_stream", "hypercorn.trio.tcp_server")
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    shield()
    assert not set(names) & set(sys.modules)


def test_unbounded_restores_the_bound_of_a_queue_even_after_an_error() -> None:
    """For the queues of both loops; a callable that belongs to neither is left as it is."""
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    channel, _ = trio.open_memory_channel[int](2)

    def look_and_fail() -> None:
        assert (queue.maxsize, channel.statistics().max_buffer_size) == (0, inf)
        raise KeyError

    with pytest.raises(KeyError), unbounded(queue.put), unbounded(channel.send), unbounded(print):
        look_and_fail()
    assert (queue.maxsize, channel.statistics().max_buffer_size) == (2, 2)


# On trio.


def served(stream: Any) -> Any:
    """hypercorn's TCP server for one connection, without TLS."""
    shield()
    return TrioTCPServer(MagicMock(), Config(), MagicMock(), {}, stream)


def test_an_error_of_one_connection_ends_only_that_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; without the shield it would end the whole server."""

    async def serve() -> bool:
        ours, theirs = trio.socket.socketpair()
        with theirs:
            server = served(trio.SocketStream(ours))
            server._read_data = AsyncMock(side_effect=KeyError("a mistake"))
            server.idle_task = AsyncMock()
            with trio.fail_after(5):
                await server.run()
                return await theirs.recv(1) == b""

    with caplog.at_level(logging.WARNING, "wsstab"):
        assert trio.run(serve)
    (record,) = caplog.records
    assert "one connection" in record.getMessage()
    assert record.exc_info is not None


def test_a_connection_is_closed_under_its_send_lock() -> None:
    """So no write overlaps the end, and the lock is free again afterwards."""

    async def close() -> tuple[bytes, bool]:
        ours, theirs = trio.socket.socketpair()
        with theirs:
            server = served(trio.SocketStream(ours))
            held = list[bool]()
            aclose = server.stream.aclose

            async def aclose_and_look() -> None:
                held.append(server.send_lock.locked())
                await aclose()

            server.stream.aclose = aclose_and_look
            await server._close()
            assert held == [True]
            return await theirs.recv(1), server.send_lock.locked()

    assert trio.run(close) == (b"", False)


def test_closing_a_connection_ends_a_blocked_write() -> None:
    """The writing task gets an error that says that the stream is closed."""

    async def close() -> str:
        ours, theirs = trio.socket.socketpair()
        told = list[str]()
        with theirs:
            server = served(trio.SocketStream(ours))

            async def write() -> None:
                async with server.send_lock:
                    try:
                        await server.stream.send_all(bytes(50_000_000))
                    except trio.ClosedResourceError:
                        told.append("closed")

            with trio.fail_after(5):
                async with trio.open_nursery() as tasks:
                    tasks.start_soon(write)
                    await trio.testing.wait_all_tasks_blocked()
                    await server._close()
        return "".join(told)

    assert trio.run(close) == "closed"
