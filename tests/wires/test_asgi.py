"""The wire of plain ASGI, against a server whose sends can be held up or made to fail."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from wsstab.core.frames import Block, Outgoing
from wsstab.wires.asgi import AsgiWire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on asyncio and on trio."""
    return str(request.param)


class StallingServer:
    """A server that records what it is sent, and stalls or fails when told to.

    Attributes:
        sent: events that it has taken.
        pending: sends that it has not taken yet.
        most: the largest number of sends that were pending at once.
        fails: the error that the next sends raise.
    """

    def __init__(self) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.pending = self.most = 0
        self.fails: Exception | None = None
        self._open = anyio.Event()
        self._open.set()

    def stall(self) -> None:
        """Take nothing from now on."""
        self._open = anyio.Event()

    def go_on(self) -> None:
        """Take everything again."""
        self._open.set()

    async def receive(self) -> MutableMapping[str, Any]:
        """Return a message."""
        return {"type": "websocket.receive", "text": "hello"}

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Take an event, now or later."""
        self.pending += 1
        self.most = max(self.most, self.pending)
        try:
            await self._open.wait()
            if self.fails is not None:
                raise self.fails
            self.sent.append(event)
        finally:
            self.pending -= 1

    @property
    def texts(self) -> list[str]:
        """The messages that it has taken."""
        return [event["text"] for event in self.sent]


class Recorder:
    """Records the callbacks of a wire."""

    def __init__(self, wire: AsgiWire) -> None:
        self.heard: list[str] = []
        wire.on_blocked = lambda: self.heard.append("blocked")
        wire.on_writable = lambda: self.heard.append("writable")


def build() -> tuple[StallingServer, AsgiWire, Recorder]:
    """A wire to a server that takes everything."""
    server = StallingServer()
    wire = AsgiWire(server.receive, server.send)
    return server, wire, Recorder(wire)


def block(*texts: str) -> Block:
    """A block of these messages."""
    return Block([Outgoing(text) for text in texts])


async def turn(count: int = 8) -> None:
    """Let other tasks run."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def test_handshake_events_pass_unchanged() -> None:
    """Those to the server are the very same objects."""
    server, wire, _ = build()
    assert (await wire.receive())["text"] == "hello"
    accept, deny = {"type": "websocket.accept", "subprotocol": "x"}, {"type": "websocket.http.response.start"}
    await wire.accept(accept)
    await wire.deny(deny)
    assert server.sent == [accept, deny]
    assert all(mine is theirs for mine, theirs in zip([accept, deny], server.sent, strict=True))


async def test_the_wire_claims_nothing_that_plain_asgi_lacks() -> None:
    """Plain ASGI has neither a ping nor an abort."""
    _, wire, _ = build()
    traits = wire.traits
    assert (traits.native_ping, traits.can_abort, traits.receive_cancellable, wire.ping(b"x")) == (False,) * 4


async def test_send_returns_when_the_server_has_taken_the_message() -> None:
    """The wire is writable again then."""
    server, wire, recorder = build()
    await wire.send(Outgoing("text"))
    await wire.send(Outgoing(b"bytes"))
    assert server.sent == [
        {"type": "websocket.send", "text": "text"},
        {"type": "websocket.send", "bytes": b"bytes"},
    ]
    assert (wire.writable, wire.buffered()) == (True, 0)
    assert recorder.heard == ["blocked", "writable"] * 2


async def test_the_wire_is_not_writable_while_a_message_of_the_handler_is_pending() -> None:
    """The callback for a writable wire comes when the message is taken."""
    server, wire, recorder = build()
    server.stall()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.send, Outgoing("12345"))
        await turn()
        assert (wire.writable, wire.buffered(), recorder.heard) == (False, 5, ["blocked"])
        server.go_on()
    assert (wire.writable, wire.buffered(), recorder.heard) == (True, 0, ["blocked", "writable"])


async def test_send_returns_after_a_moment_even_if_the_server_stalls() -> None:
    """The message stays with the writer; the outbound policy decides about the next one."""
    server, wire, recorder = build()
    server.stall()
    with anyio.fail_after(5):
        await wire.send(Outgoing("12345"))
    assert (wire.writable, wire.buffered(), server.pending) == (False, 5, 1)
    server.go_on()
    await turn()
    assert (server.texts, wire.writable, recorder.heard) == (["12345"], True, ["blocked", "writable"])


async def test_a_cancelled_send_loses_no_message() -> None:
    """The writer has the message already."""
    server, wire, _ = build()
    server.stall()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.send, Outgoing("12345"))
        await turn()
        group.cancel_scope.cancel()
    server.go_on()
    await turn()
    assert (server.texts, wire.buffered()) == (["12345"], 0)


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed")])
async def test_an_error_of_the_server_is_raised_in_the_sending_handler(failure: Exception) -> None:
    """Nothing counts as in flight afterwards."""
    server, wire, recorder = build()
    server.fails = failure
    with pytest.raises(type(failure)):
        await wire.send(Outgoing("lost"))
    assert (wire.buffered(), recorder.heard) == (0, ["blocked", "writable"])


async def test_written_messages_go_out_in_order_one_send_at_a_time() -> None:
    """Nobody waits for a write."""
    server, wire, recorder = build()
    wire.write(block("1", "2", "3"))
    assert (wire.writable, wire.buffered(), server.sent, recorder.heard) == (False, 3, [], ["blocked"])
    await turn()
    assert (server.texts, server.most) == (["1", "2", "3"], 1)
    assert (wire.writable, wire.buffered(), recorder.heard) == (True, 0, ["blocked", "writable"])


async def test_blocks_go_out_in_the_order_of_their_writes() -> None:
    """One writer task sends all of them."""
    server, wire, recorder = build()
    server.stall()
    wire.write(block("1"))
    await turn()
    wire.write(block("2", "3"))
    await turn()
    assert (server.pending, wire.buffered()) == (1, 3)
    server.go_on()
    await turn()
    assert (server.texts, server.most) == (["1", "2", "3"], 1)
    assert recorder.heard == ["blocked", "writable"]


async def test_the_writer_task_exists_only_while_there_is_something_to_write() -> None:
    """An idle connection costs no task."""
    _, wire, _ = build()
    wire.write(block("1"))
    assert wire._writer is not None
    await turn()
    assert wire._writer is None


async def test_a_block_written_in_the_writable_callback_goes_out() -> None:
    """A connection writes its queue from there."""
    server, wire, _ = build()
    queued = ["3", "2"]
    wire.on_writable = lambda: wire.write(block(queued.pop())) if queued else None
    wire.write(block("1"))
    await turn(20)
    assert server.texts == ["1", "2", "3"]
    assert (wire.writable, wire.buffered()) == (True, 0)


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed")])
async def test_a_failed_write_drops_the_waiting_messages_and_logs_nothing(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The reader learns that the peer has left."""
    server, wire, _ = build()
    server.fails = failure
    wire.write(block("1", "2"))
    await turn()
    assert (server.sent, wire.buffered(), wire._writer, caplog.records) == ([], 0, None, [])


async def test_a_close_goes_to_the_server_with_code_and_reason() -> None:
    """The wire is not open any more afterwards."""
    server, wire, _ = build()
    wire.write(block("1"))
    await turn()
    await wire.close(1012, "service restart")
    assert server.sent[-1] == {"type": "websocket.close", "code": 1012, "reason": "service restart"}
    assert not wire.is_open()


async def test_a_close_code_that_the_server_refuses_is_sent_as_a_private_one() -> None:
    """daphne refuses 1012, and a middleware may hide that the server is daphne; it then gets 4012."""
    closes = list[MutableMapping[str, Any]]()

    async def send(event: MutableMapping[str, Any]) -> None:
        closes.append(event)
        if not (event["code"] == 1000 or event["code"] >= 3000):
            raise Exception(f"invalid close code {event['code']}")

    for code in (1012, 1000, 4001):
        await AsgiWire(StallingServer().receive, send).close(code, "service restart")
    assert [event["code"] for event in closes] == [1012, 4012, 1000, 4001]


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed")])
async def test_a_close_that_fails_is_not_tried_again(failure: Exception) -> None:
    """Either the peer has left or the server has closed first."""
    server = StallingServer()
    server.fails = failure
    with pytest.raises(type(failure)):
        await AsgiWire(server.receive, server.send).close(1012, "")
    assert server.sent == []


async def test_a_close_goes_out_after_all_written_messages() -> None:
    """It waits without a limit; its caller sets the deadline."""
    server, wire, recorder = build()
    server.stall()
    wire.write(block("1", "2"))
    await turn()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.close, 1000, "")
        await turn()
        assert server.sent == []
        server.go_on()
    assert [event["type"] for event in server.sent] == ["websocket.send", "websocket.send", "websocket.close"]
    assert (wire.buffered(), wire.writable, recorder.heard) == (0, False, ["blocked"])


async def test_an_abort_after_a_cancelled_close_drops_the_rest() -> None:
    """It cancels the writer of the stalled peer and drops what the writer held."""
    server, wire, _ = build()
    server.stall()
    wire.write(block("1", "2"))
    await turn()
    with anyio.move_on_after(0.05) as patience:
        await wire.close(1013, "slow consumer")
    wire.abort()
    server.go_on()
    await turn()
    assert patience.cancelled_caught
    assert (server.sent, wire.buffered()) == ([], 0)


async def test_an_abort_during_a_send_leaves_nothing_in_flight() -> None:
    """The bytes of the pending message are not subtracted twice."""
    server, wire, _ = build()
    server.stall()
    async with anyio.create_task_group() as group:
        group.start_soon(aborted, wire)
        await turn()
        wire.abort()
    assert (wire.buffered(), server.sent) == (0, [])


@pytest.mark.parametrize("end", [AsgiWire.abort, AsgiWire.detach])
async def test_nothing_is_sent_after_an_abort_or_a_detach(end: Any) -> None:
    """The writer is cancelled, the wire is closed, and no callback says that it is writable."""
    server, wire, recorder = build()
    server.stall()
    wire.write(block("1", "2"))
    await turn()
    end(wire)
    server.go_on()
    await turn()
    assert (server.sent, wire.is_open(), wire.writable, wire.buffered()) == ([], False, False, 0)
    assert recorder.heard == ["blocked"]


async def test_a_send_that_ends_after_an_abort_does_not_reopen_the_wire() -> None:
    """An abort is final."""
    server, wire, recorder = build()
    server.stall()
    async with anyio.create_task_group() as group:
        group.start_soon(aborted, wire)
        await turn()
        wire.abort()
    server.go_on()
    assert (wire.writable, wire.is_open(), recorder.heard) == (False, False, ["blocked"])


async def aborted(wire: AsgiWire) -> None:
    """Send a message of the handler, which an abort ends."""
    with pytest.raises(OSError):
        await wire.send(Outgoing("12345"))


class PromptServer(StallingServer):
    """A server whose send does not suspend, like most servers' sends."""

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """Take an event at once, unless told to stall."""
        if self._open.is_set() and self.fails is None:
            self.sent.append(event)
        elif self._open.is_set():
            raise self.fails or ValueError
        else:
            await super().send(event)


def prompt() -> tuple[PromptServer, AsgiWire, Recorder]:
    """A wire to a prompt server."""
    server = PromptServer()
    wire = AsgiWire(server.receive, server.send)
    return server, wire, Recorder(wire)


async def test_consecutive_sends_go_out_in_order() -> None:
    """Whether or not the server suspends in between."""
    server, wire, _ = prompt()
    async with anyio.create_task_group() as group:
        for number in range(40):
            if number == 20:
                server.stall()
                group.start_soon(turn, 3)
                server.go_on()
            await wire.send(Outgoing(str(number)))
    assert server.texts == [str(number) for number in range(40)]
    assert (wire.writable, wire.buffered(), wire._writer) == (True, 0, None)


@pytest.mark.parametrize("failure", [OSError("gone"), RuntimeError("closed"), LookupError("a middleware's own")])
async def test_a_send_that_fails_at_once_raises_in_the_handler(failure: Exception) -> None:
    """It may raise any error, and the next message is still tried."""
    server, wire, _ = prompt()
    failed = list[Exception]()
    wire.on_failed = failed.append
    server.fails = failure
    with pytest.raises(type(failure)) as caught:
        await wire.send(Outgoing("lost"))
    server.fails = None
    await wire.send(Outgoing("next"))
    assert caught.value is failure
    assert (server.texts, failed, wire.buffered(), wire.writable) == (["next"], [], 0, True)


async def test_a_send_from_within_a_send_goes_behind_it_and_returns_at_once() -> None:
    """Middleware outside may answer a message with another one, or broadcast."""
    server = PromptServer()
    wires = list[AsgiWire]()

    async def outer(event: MutableMapping[str, Any]) -> None:
        if event["text"] == "one":
            await wires[0].send(Outgoing("two"))
            if wires[0].writable:
                wires[0].write(block("three"))
        await server.send(event)

    wire = AsgiWire(server.receive, outer)
    wires.append(wire)
    with anyio.fail_after(5):
        await wire.send(Outgoing("one"))
        await turn()
        await wire.send(Outgoing("four"))
    assert [text for text in server.texts if text != "three"] == ["one", "two", "four"]
    assert (wire.writable, wire.buffered()) == (True, 0)


async def test_middleware_outside_sees_the_context_of_the_sending_handler() -> None:
    """So it does without this package, too."""
    request = ContextVar("request", default="nobody")
    seen = list[str]()

    async def outer(event: MutableMapping[str, Any]) -> None:
        seen.append(request.get())

    wire = AsgiWire(StallingServer().receive, outer)
    request.set("ann")
    await wire.send(Outgoing("text"))
    request.set("ben")
    await wire.send(Outgoing("text"))
    assert seen == ["ann", "ben"]


async def test_an_abort_drops_the_message_of_a_stalled_peer() -> None:
    """The handler's send has returned before, and later sends are ignored."""
    server, wire, recorder = prompt()
    await wire.send(Outgoing("1"))
    server.stall()
    with anyio.fail_after(5):
        await wire.send(Outgoing("2"))
    assert (wire.writable, server.pending, recorder.heard[-1]) == (False, 1, "blocked")
    wire.abort()
    await turn()
    assert (server.pending, server.texts, wire.buffered()) == (0, ["1"], 0)
    await wire.send(Outgoing("3"))
    assert server.texts == ["1"]
