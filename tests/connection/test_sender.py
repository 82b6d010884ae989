"""The outbound side: a handler's own messages and those of others, on wires that take data or stall."""

from __future__ import annotations

import logging

import anyio
import anyio.lowlevel
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.stage import CapableWire, Peer, Stage, echo, on_stage, push_only, settle, until
from wsstab import Outbound, SlowConsumer
from wsstab.connection import Delivery
from wsstab.connection.sender import CHECKPOINT_EVERY
from wsstab.core.frames import Deflate, Outgoing
from wsstab.errors import PeerGoneError
from wsstab.types import Event, Receive, Scope, Send, Transport
from wsstab.wires.base import Wire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


class Talker:
    """A handler that sends the messages of the test, and records which sends returned and which error ended them.

    Attributes:
        done: the messages whose send has returned.
        failed: the error that a send raised.
    """

    def __init__(self, *messages: str) -> None:
        self._messages = messages
        self.done: list[str] = []
        self.failed: Exception | None = None
        self.start = anyio.Event()

    async def __call__(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await self.start.wait()
        try:
            for message in self._messages:
                await websocket._send({"type": "websocket.send", "text": message})
                self.done.append(message)
        except (OSError, RuntimeError) as error:
            self.failed = error
        await anyio.sleep_forever()


async def stalled(stage: Stage) -> Peer:
    """A peer that takes no data."""
    peer = await stage.open()
    peer.stall()
    return peer


async def test_a_handler_s_send_waits_for_room_in_the_queue() -> None:
    """Under the policies ``close`` and ``block`` nothing is lost, and the order is kept."""
    for policy in ("close", "block"):
        talker = Talker(*"abcde")
        async with on_stage(talker, capable=True, outbound=Outbound(max_messages=2, policy=policy)) as stage:
            peer = await stalled(stage)
            talker.start.set()
            await settle()
            assert talker.done == ["a", "b"]
            assert peer.messages == []
            peer.resume()
            assert await peer.hears(5) == list("abcde")
            assert talker.done == list("abcde")


@pytest.mark.parametrize(
    ("policy", "arrives"), [("drop_oldest", ["d", "e"]), ("drop_newest", ["a", "b"]), ("latest", ["e"])]
)
async def test_a_handler_s_send_never_waits_under_a_dropping_policy(policy: str, arrives: list[str]) -> None:
    """Dropped messages are counted."""
    talker = Talker(*"abcde")
    async with on_stage(talker, capable=True, outbound=Outbound(max_messages=2, policy=policy)) as stage:
        peer = await stalled(stage)
        talker.start.set()
        await until(lambda: talker.done == list("abcde"))
        assert peer.connection.statistics().dropped_outbound == 5 - len(arrives)
        peer.resume()
        assert await peer.hears(len(arrives)) == arrives


async def test_a_handler_s_send_raises_after_the_send_timeout() -> None:
    """The peer took nothing for ``send_timeout`` seconds, and is closed with 1013; the error is an ``OSError``."""
    talker = Talker(*"abcde")
    slow: list[SlowConsumer] = []
    async with on_stage(talker, capable=True, outbound=Outbound(max_messages=2, send_timeout=5)) as stage:
        stage.manager.on(SlowConsumer, slow.append)
        peer = await stalled(stage)
        peer.stalled = False
        talker.start.set()
        await settle()
        stage.pass_time(2.5)
        await settle()
        assert talker.failed is None
        stage.pass_time(3)
        await until(lambda: talker.failed is not None)
        assert isinstance(talker.failed, PeerGoneError)
        assert "1013 slow consumer" in str(talker.failed)
        assert peer.closed == (1013, "slow consumer")
        assert [(event.policy, event.queued_messages) for event in slow] == [("close", 2)]


async def test_a_failed_send_is_a_disconnect_to_starlette_handlers() -> None:
    """They get the ``WebSocketDisconnect`` that they know."""
    seen: list[WebSocketDisconnect] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        try:
            await websocket.send_text("too late")
        except WebSocketDisconnect as gone:
            seen.append(gone)
            raise

    async with on_stage(handler) as stage:
        peer = await stage.open()
        peer.gone = True
        peer.says("go")
        await until(lambda: len(seen) == 1)
        peer.leaves(1006)
        await peer.over()
        assert seen[0].code == 1006
        assert peer.error is None


async def test_a_send_before_accept_raises_runtime_error() -> None:
    """It is a mistake of the application, and the message of the error says so."""
    seen: list[Exception] = []

    async def handler(websocket: WebSocket) -> None:
        try:
            await websocket._send({"type": "websocket.send", "text": "early"})
        except RuntimeError as error:
            seen.append(error)
        await websocket.accept()
        await websocket.send_text("in time")

    async with on_stage(handler) as stage:
        peer = await stage.open()
        await peer.over()
        assert "before the connection is accepted" in str(seen[0])
        assert peer.messages == ["in time"]


async def test_a_send_after_the_handler_s_own_close_raises_runtime_error() -> None:
    """If the peer has left or others have closed, it raises `PeerGoneError` instead."""
    seen: list[Exception] = []

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        if websocket.url.path == "/own":
            await websocket._send({"type": "websocket.close", "code": 4000})
        else:
            await websocket.receive()
        try:
            await websocket._send({"type": "websocket.send", "text": "late"})
        except (OSError, RuntimeError) as error:
            seen.append(error)

    async with on_stage(handler) as stage:
        own = await stage.open("/own")
        await own.over()
        assert isinstance(seen[0], RuntimeError)
        assert "once a close message has been sent" in str(seen[0])
        other = await stage.open("/other")
        other.leaves(4001, "bye")
        await other.over()
        assert isinstance(seen[1], PeerGoneError)
        assert str(seen[1]) == "the connection has ended: 4001 bye"


async def test_a_handler_that_only_sends_lets_other_tasks_run() -> None:
    """On most servers a send never suspends by itself."""
    turns = 0

    async def chatterbox(websocket: WebSocket) -> None:
        await websocket.accept()
        for number in range(10 * CHECKPOINT_EVERY):
            await websocket.send_text(str(number))
        await anyio.sleep_forever()

    async with on_stage(chatterbox, capable=True) as stage:
        peer = stage.call(Peer())
        with anyio.fail_after(5):
            while len(peer.messages) < 10 * CHECKPOINT_EVERY:
                await anyio.lowlevel.checkpoint()
                turns += 1
    assert turns >= 10


# Messages from other connections and from the manager.


async def test_deliver_reports_at_once_what_happened_to_the_message() -> None:
    """It was sent, queued or dropped; ``send_to_client`` returns whether it is on its way."""
    options = Outbound(max_messages=2, policy="drop_newest")
    async with on_stage(push_only, capable=True, outbound=options) as stage:
        (peer,) = await stage.named("ann")
        sender = peer.inner.sender
        assert sender.deliver(Outgoing("a")) is Delivery.SENT
        peer.stall()
        assert [sender.deliver(Outgoing(text)) for text in "bcd"] == [
            Delivery.QUEUED,
            Delivery.QUEUED,
            Delivery.DROPPED,
        ]
        assert await stage.manager.send_to_client("ann", "e") is False
        peer.resume()
        assert await peer.hears(3) == ["a", "b", "c"]
        assert await stage.manager.send_to_client("ann", "f") is True


async def test_an_overflowing_queue_closes_with_1013_under_the_close_policy() -> None:
    """Queued messages are given up, and the senders of later ones learn that they were not delivered."""
    async with on_stage(push_only, capable=True, outbound=Outbound(max_messages=1)) as stage:
        (peer,) = await stage.named("ann")
        peer.wire.block()  # type: ignore[union-attr]
        sender = peer.inner.sender
        assert sender.deliver(Outgoing("a")) is Delivery.QUEUED
        assert sender.deliver(Outgoing("b")) is Delivery.CLOSED
        assert sender.deliver(Outgoing("c")) is Delivery.GONE
        await until(lambda: peer.closed is not None)
        assert peer.closed == (1013, "slow consumer")
        assert peer.messages == []


async def test_a_wire_that_is_closing_takes_no_message() -> None:
    """The server knows of the end before we do."""
    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        peer.gone = True
        assert peer.inner.sender.deliver(Outgoing("a")) is Delivery.GONE
        peer.gone = False


async def test_queued_messages_count_as_memory_and_leave_in_small_blocks() -> None:
    """A block has at most 64 KiB, so that a ping does not have to wait long behind it."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        peer.stall()
        for _ in range(10):
            await stage.manager.send_to_client("ann", "x" * 30_000)
        assert stage.manager.get_memory_usage()["total_memory"] >= 300_000
        assert peer.connection.statistics().queued_messages == 10
        assert stage.manager.statistics().queued_bytes == 300_000
        assert stage.manager.statistics().slow_consumers == 1
        peer.resume()
        assert len(peer.messages) == 10
        assert peer.wire is not None
        assert max(peer.wire.blocks) <= 65_536
        assert sum(peer.wire.blocks) == 300_000
        assert stage.manager.get_memory_usage()["total_memory"] == 0
        assert stage.manager.statistics().slow_consumers == 0


@pytest.mark.parametrize(
    ("outbound", "count", "half"),
    [
        (Outbound(max_messages=4, max_bytes=None), 2, False),
        (Outbound(max_messages=4, max_bytes=None), 3, True),
        (Outbound(max_messages=None, max_bytes=40), 2, False),
        (Outbound(max_messages=None, max_bytes=40), 3, True),
    ],
)
async def test_a_queue_is_half_full_by_either_bound(outbound: Outbound, count: int, half: bool) -> None:
    """The bounds are messages and bytes; ``None`` means no bound."""
    async with on_stage(push_only, capable=True, outbound=outbound) as stage:
        peer = await stage.open()
        peer.stall()
        for _ in range(count):
            peer.inner.sender.deliver(Outgoing("x" * 10))
        assert peer.inner.sender.half_full is half


@pytest.mark.parametrize("first", ["handler", "broadcast"])
async def test_direct_messages_and_broadcasts_keep_the_order_of_the_calls(first: str) -> None:
    """That holds even for calls in the same turn of the event loop."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        for number in range(5):
            if first == "broadcast" or number:
                await stage.manager.broadcast(f"b{number}")
            await stage.manager.send_to_client("ann", f"d{number}")
        expected = [f"{kind}{number}" for number in range(5) for kind in "bd"]
        expected = expected if first == "broadcast" else expected[1:]
        assert await peer.hears(len(expected)) == expected


# Wires that take a message at once, or raise.


class Frames:
    """A transport that keeps the frames that are written to it.

    Attributes:
        frames: the frames written so far.
        closing: whether it takes no more.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.frames.append(data)


class QuickWire(CapableWire):
    """A wire that takes a handler's message at once, makes it wait, or raises.

    Attributes:
        frames: the transport that frames may be written to past the wire; ``None`` if there is none.
        error: the error that a send raises; ``None`` if it succeeds.
        waits: whether a message is not taken at once, and gets the error only in the awaited send.
    """

    __slots__ = ("error", "frames", "waits")

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self.frames: Frames | None = None
        self.error: Exception | None = None
        self.waits = False

    def shortcut(self) -> tuple[Transport, Deflate | None] | None:
        return None if self.frames is None else (self.frames, None)

    def send_at_once(self, message: Outgoing) -> bool:
        if self.error is not None and not self.waits:
            raise self.error
        if not self.waits:
            self._peer.sent.append(message.event())
        return not self.waits

    async def send(self, message: Outgoing) -> None:
        if self.error is not None:
            raise self.error
        await super().send(message)

    def says_gone(self, error: Exception) -> bool:
        return isinstance(error, OSError)


def with_quick_wires(stage: Stage, frames: Frames | None = None) -> None:
    """Give each peer of a stage a `QuickWire`."""

    def wire_for(scope: Scope, receive: Receive, send: Send) -> Wire:
        peer = stage._by_scope[id(scope)]
        wire = peer.wire = QuickWire(peer)
        wire.frames = frames
        return wire

    stage.middleware._opening.wire_for = wire_for


async def test_a_handler_s_message_is_written_past_the_wire_if_possible() -> None:
    """It is written as a frame and counted. A closing transport gets none: the message goes through the wire."""
    talker, frames = Talker("ab"), Frames()
    async with on_stage(talker, capable=True) as stage:
        with_quick_wires(stage, frames)
        peer = await stage.open()
        talker.start.set()
        await until(lambda: talker.done == ["ab"])
        assert frames.frames == [b"\x81\x02ab"]
        assert peer.messages == []
        statistics = peer.connection.statistics()
        assert (statistics.messages_sent, statistics.bytes_sent) == (1, 2)
        frames.closing = True
        assert peer.inner.sender.send_at_once(Outgoing("cd"))
        assert (len(frames.frames), peer.messages) == (1, ["cd"])


async def test_a_handler_s_message_takes_no_shortcut_past_queued_messages() -> None:
    """It would arrive before messages that others sent earlier, so it queues behind them, and goes by the wire."""
    talker, frames = Talker("second"), Frames()
    async with on_stage(talker, capable=True) as stage:
        with_quick_wires(stage, frames)
        peer = await stage.open()
        peer.stall()
        assert peer.inner.sender.deliver(Outgoing("first")) is Delivery.QUEUED
        talker.start.set()
        await until(lambda: talker.done == ["second"])
        assert (frames.frames, peer.messages) == ([], [])
        peer.resume()
        assert await peer.hears(2) == ["first", "second"]
        assert frames.frames == []


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [ConnectionResetError("reset"), ReferenceError("somebody between")])
async def test_only_an_error_of_the_server_means_that_the_peer_has_left(error: Exception, waits: bool) -> None:
    """The reader then learns how it left. Any other error reaches the handler unchanged."""
    raised: list[Exception] = []

    async def talks(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()
        try:
            await websocket._send({"type": "websocket.send", "text": "hello"})
        except Exception as caught:
            raised.append(caught)
        await anyio.sleep_forever()

    async with on_stage(talks, capable=True) as stage:
        with_quick_wires(stage)
        peer = await stage.open()
        assert isinstance(peer.wire, QuickWire)
        peer.wire.error, peer.wire.waits = error, waits
        peer.says("go")
        await until(lambda: raised)
        assert peer.inner.sender.gone is isinstance(error, OSError)
        if isinstance(error, OSError):
            assert isinstance(raised[0], PeerGoneError)
            peer.leaves(4001)
            assert (await peer.connection.closed).code == 4001
        else:
            assert raised == [error]


async def test_a_broadcast_that_fails_in_middleware_closes_that_connection_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No handler waits for the result, so the error is logged."""

    class Between(Peer):
        async def send(self, event: Event) -> None:
            if event["type"] == "websocket.send":
                raise ZeroDivisionError("on purpose")
            await super().send(event)

    async with on_stage(push_only) as stage:
        other, peer = await stage.open(), stage.call(Between())
        await until(lambda: peer.sent)
        await settle(3)
        await stage.manager.broadcast("hello")
        assert await other.hears() == ["hello"]
        assert (await peer.connection.closed).code == 1011
        assert (peer.messages, other.closed) == ([], None)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "a message for" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_beat_queues_a_heartbeat_message_behind_waiting_messages() -> None:
    """It serves wires without pings; on others the heartbeat message overtakes the queue."""
    async with on_stage(push_only, capable=True, heartbeat_type="custom", custom_heartbeat="beat") as stage:
        peer = await stage.open()
        sender = peer.inner.sender
        sender.beat(Outgoing("first"))
        assert peer.messages == ["first"]
        peer.stall()
        sender.deliver(Outgoing("message"))
        sender.beat(Outgoing("second"))
        assert peer.messages == ["first"]
        peer.resume()
        assert peer.messages == ["first", "message", "second"]
        peer.gone = True
        sender.beat(Outgoing("third"))
        assert len(peer.messages) == 3
        peer.gone = False


async def test_a_handler_that_sends_through_its_connection_lets_other_tasks_run() -> None:
    """As with its socket. After a close ``send`` returns ``False`` instead of raising."""
    seen: list[bool] = []
    turns: list[int] = []

    async def talks(websocket: WebSocket) -> None:
        await websocket.accept()
        connection = websocket.state.connection
        for number in range(3 * CHECKPOINT_EVERY):
            assert await connection.send(str(number))
        await connection.close(4000)
        seen.append(await connection.send("late"))

    async with on_stage(talks, capable=True) as stage:
        with_quick_wires(stage)
        peer = stage.call(Peer())
        while not peer.done.is_set():
            turns.append(len(peer.messages))
            await anyio.lowlevel.checkpoint()
    assert len(peer.messages) == 3 * CHECKPOINT_EVERY
    assert [count for count in turns if 0 < count < 3 * CHECKPOINT_EVERY]
    assert seen == [False]


async def test_a_handler_s_message_comes_after_the_broadcasts_before_it() -> None:
    """That holds even for a broadcast in the same turn of the event loop."""

    async def talks(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()
        await websocket.state.manager.broadcast("to all")
        await websocket.send_text("to me")
        await anyio.sleep_forever()

    async with on_stage(talks, capable=True) as stage:
        with_quick_wires(stage, None)
        peer = await stage.open()
        peer.says("go")
        assert await peer.hears(2) == ["to all", "to me"]


async def test_at_debug_outbound_messages_are_logged_and_take_no_shortcut(caplog: pytest.LogCaptureFixture) -> None:
    """The lines give the sizes, also of queued messages."""
    caplog.set_level(logging.DEBUG, "wsstab")
    frames = Frames()
    async with on_stage(echo, capable=True) as stage:
        with_quick_wires(stage, frames)
        peer = await stage.open()
        peer.says("hello")
        assert await peer.hears() == ["hello"]
        assert frames.frames == []
        peer.inner.sender.deliver(Outgoing(b"four"))
        peer.stall()
        peer.inner.sender.deliver(Outgoing("waits!"))
        peer.resume()
    for line in ("> text of 5 bytes", "> binary of 4 bytes", "- text of 6 bytes queued, 1 wait", "> text of 6 bytes"):
        assert line in caplog.text


async def test_a_queue_is_crowded_by_either_bound() -> None:
    """It is crowded when more than three quarters full; broadcasts to it are then paced."""
    for outbound in (Outbound(max_messages=4, max_bytes=None), Outbound(max_messages=None, max_bytes=40)):
        async with on_stage(push_only, capable=True, outbound=outbound) as stage:
            peer = await stage.open()
            peer.stall()
            crowded = []
            for _ in range(4):
                peer.inner.sender.deliver(Outgoing("x" * 10))
                crowded.append(peer.inner.sender.crowded)
            assert crowded == [False, False, False, True]
