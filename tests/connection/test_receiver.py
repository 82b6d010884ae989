"""The inbound side: size, rate and heartbeat answers are checked before a handler sees a message."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.stage import CapableWire, Peer, echo, on_stage, push_only, settle, until
from wsstab import CloseCode, ConnectionClosed, Inbound, LimitHit, RateLimit, WebSocketConfig
from wsstab.close import UNREAD, Cause
from wsstab.connection.receiver import LONGEST_DELAY, close_of, is_pong, message_timeout, payload_size

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


@pytest.mark.parametrize(
    ("message", "size"),
    [({"text": "abc"}, 3), ({"text": "äö€"}, 7), ({"text": ""}, 0), ({"bytes": b"abcd"}, 4), ({"bytes": None}, 0)],
)
def test_payload_size_is_the_size_on_the_wire(message: dict[str, Any], size: int) -> None:
    """Text counts as UTF-8; an absent or empty key counts as nothing."""
    assert payload_size({"type": "websocket.receive", **message}) == size


def test_text_that_is_not_valid_utf_8_still_has_a_size() -> None:
    """A server that lets half of a surrogate pair through must not break the count."""
    assert payload_size({"type": "websocket.receive", "text": "\ud800"}) == 3


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("pong", True),
        ('{"type": "pong"}', True),
        ('{"type":"pong","timestamp":1.5}', True),
        ("ping-pong", False),
        ('{"type": "message", "text": "pong"}', False),
        ('["pong"]', False),
        ('"pong', False),
        ('{"type": "pong", "padding": "' + "x" * 64 + '"}', False),
        ("hello", False),
        (None, False),
    ],
)
def test_the_word_pong_or_an_object_of_type_pong_answers_a_heartbeat(text: str | None, answers: bool) -> None:
    """Long messages are not even parsed, so that the check costs next to nothing."""
    assert is_pong({"type": "websocket.receive", "text": text, "bytes": b"pong"}) is answers


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"code": 1000, "reason": "bye"}, (1000, "bye", Cause.CLIENT, False)),
        ({"code": 1001, "reason": None}, (1001, "", Cause.CLIENT, True)),
        ({"code": 1005}, (1006, "", Cause.CLIENT, True)),
        ({"code": 1005, "reason": ""}, (1005, "", Cause.CLIENT, False)),
        ({}, (1006, "", Cause.CLIENT, True)),
        ({"code": 1012}, (1012, "", Cause.SERVER, True)),
    ],
)
def test_the_close_is_derived_from_the_disconnect_event(event: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """An end without a close frame is 1006, whatever the server calls it; a bare 1012 is the server's own."""
    close = close_of({"type": "websocket.disconnect", **event})
    assert (close.code, close.reason, close.cause, close.reconnect) == expected


@pytest.mark.parametrize("message", ["ä" * 5, b"x" * 9])
async def test_a_message_over_the_size_limit_closes_with_1009(message: str | bytes) -> None:
    """The limit counts bytes of UTF-8. The handler does not see the message, but does see smaller ones before it."""
    hits: list[LimitHit] = []
    async with on_stage(max_message_size=8) as stage:
        stage.manager.on(LimitHit, hits.append)
        peer = await stage.open("/big")
        peer.says("ä" * 4)
        await peer.hears()
        peer.says(message, "after")
        await peer.over()
        assert peer.messages == ["ä" * 4]
        assert peer.closed == (CloseCode.MESSAGE_TOO_BIG, "message too big")
        assert hits == [LimitHit("max_message_size", "203.0.113.7", "/big")]


async def test_without_a_size_limit_any_message_passes() -> None:
    """``None`` switches the limit off."""
    async with on_stage(max_message_size=None) as stage:
        peer = await stage.open()
        peer.says("x" * 3_000_000)
        assert len((await peer.hears())[0]) == 3_000_000


async def test_a_peer_over_the_rate_limit_is_closed_with_1008() -> None:
    """This is the default action. Messages within the rate reach the handler, the one over it and later ones do not."""
    got: list[str] = []

    async def records(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            got.append(text)
            await websocket.send_text(text)

    async with on_stage(records, rate_limit=RateLimit(messages_per_second=0.001, burst=2)) as stage:
        peer = await stage.open()
        peer.says("a", "b")
        assert await peer.hears(2) == ["a", "b"]
        assert peer.closed is None
        peer.says("c", "d")
        await peer.over()
        assert peer.closed == (CloseCode.POLICY_VIOLATION, "rate limit exceeded")
        assert got == peer.messages == ["a", "b"]
        assert stage.manager.statistics().refused == {"rate_limit": 1}


async def test_messages_over_the_rate_limit_may_be_dropped() -> None:
    """The action ``drop`` counts them, and the connection stays open."""
    async with on_stage(rate_limit=RateLimit(messages_per_second=0.001, burst=2, action="drop")) as stage:
        peer = await stage.open()
        peer.says(*"abcde")
        await until(lambda: peer.connection.statistics().dropped_inbound == 3)
        assert await peer.hears(2) == ["a", "b"]
        assert peer.closed is None


async def test_messages_held_back_by_a_rate_limit_are_read_meanwhile() -> None:
    """So is the end of their peer, after which nothing is held back any more."""
    rate = RateLimit(messages_per_second=0.001, burst=1, action="delay")
    async with on_stage(echo, rate_limit=rate) as stage:
        peer = await stage.open()
        peer.says(*"abc")
        assert await peer.hears() == ["a"]
        await until(lambda: peer.connection.statistics().messages_received == 3)
        await settle()
        assert peer.messages == ["a"]
        peer.leaves()
        await peer.over()
        assert peer.inner.closing.event is not None


async def test_a_rate_limit_holds_one_message_back_for_at_most_half_a_minute() -> None:
    """That holds however large the message before it was; the order is kept."""
    rate = RateLimit(messages_per_second=1000, bytes_per_second=1, action="delay")
    async with on_stage(echo, rate_limit=rate) as stage:
        peer = await stage.open()
        now = peer.inner.loop.time()
        peer.says("x" * 1000, "y", "z")
        await until(lambda: peer.connection.statistics().messages_received == 3)
        dues = list(peer.inner.receiver.due or ())
        assert dues == sorted(dues)
        assert dues[-1] - now <= 2 * LONGEST_DELAY + 1
        assert dues[-1] - now > LONGEST_DELAY


async def test_a_byte_rate_limit_counts_bytes() -> None:
    """A few large messages can exceed it."""
    rate = RateLimit(messages_per_second=1000, bytes_per_second=10, action="drop")
    async with on_stage(rate_limit=rate) as stage:
        peer = await stage.open()
        peer.says("x" * 9, "y" * 9)
        await until(lambda: peer.connection.statistics().dropped_inbound == 1)
        assert await peer.hears() == ["x" * 9]


async def test_messages_and_bytes_of_a_peer_are_counted() -> None:
    """They are in the statistics of the connection, and in the manager's after it has ended."""
    async with on_stage() as stage:
        peer = await stage.open()
        peer.says("abc", b"defgh")
        await peer.hears(2)
        statistics = peer.connection.statistics()
        assert (statistics.messages_received, statistics.bytes_received) == (2, 8)
        assert (statistics.messages_sent, statistics.bytes_sent) == (2, 8)
        peer.leaves()
        await peer.over()
        everything = stage.manager.statistics()
        assert (everything.messages_received, everything.bytes_received, everything.bytes_sent) == (2, 8, 8)


async def test_unread_messages_count_as_memory_until_they_are_read() -> None:
    """Afterwards not one byte remains in the ledger."""
    ready = anyio.Event()

    async def late(websocket: WebSocket) -> None:
        await websocket.accept()
        await ready.wait()
        await echo_rest(websocket)

    async with on_stage(late) as stage:
        peer = await stage.open()
        peer.says("x" * 1000, "y" * 500)
        await until(lambda: peer.connection.statistics().unread_bytes == 1500)
        assert stage.manager.get_memory_usage()["total_memory"] == 1500
        ready.set()
        await peer.hears(2)
        assert stage.manager.get_memory_usage()["total_memory"] == 0


async def echo_rest(websocket: WebSocket) -> None:
    """Echo all further messages."""
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def test_the_inbox_is_bounded_in_bytes() -> None:
    """For a handler that never reads, the oldest messages are dropped."""
    async with on_stage(push_only, inbound=Inbound(max_bytes=100)) as stage:
        peer = await stage.open()
        peer.says("a" * 60, "b" * 60, "c" * 30)
        await until(lambda: peer.connection.statistics().messages_received == 3)
        statistics = peer.connection.statistics()
        assert (statistics.dropped_inbound, statistics.unread_bytes) == (1, 90)
        assert stage.manager.statistics().dropped_inbound == 1


async def test_the_disconnect_comes_after_the_messages_before_it() -> None:
    """It comes exactly once; receiving after it raises."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        await send({"type": "websocket.accept"})
        await settle()
        seen.extend([await receive(), await receive()])
        with pytest.raises(RuntimeError, match='Cannot call "receive" once a disconnect message has been received'):
            await receive()

    async with on_stage(app, bare=True) as stage:
        peer = await stage.open()
        peer.says("last words")
        peer.leaves(4000, "why")
        await peer.over()
        assert [event["type"] for event in seen] == ["websocket.connect", "websocket.receive", "websocket.disconnect"]
        assert (seen[2]["code"], seen[2]["reason"]) == (4000, "why")


async def test_starlette_handlers_get_code_and_reason_of_a_disconnect() -> None:
    """Both are in the ``WebSocketDisconnect``."""
    learnt: list[WebSocketDisconnect] = []

    async def listener(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as gone:
            learnt.append(gone)

    async with on_stage(listener) as stage:
        peer = await stage.open()
        peer.leaves(4002, "off")
        await peer.over()
        assert [(gone.code, gone.reason) for gone in learnt] == [(4002, "off")]


async def test_a_peer_that_leaves_during_a_close_does_not_change_its_code() -> None:
    """The close that was decided first is the one that is reported."""
    events: list[ConnectionClosed] = []
    async with on_stage(capable=True) as stage:
        stage.manager.on(ConnectionClosed, events.append)
        peer = await stage.open()
        peer.mute = True
        async with anyio.create_task_group() as group:
            group.start_soon(peer.connection.close, 4005, "ours")
            await settle()
            peer.leaves(1001)
            await settle()
            peer.mute = False
            peer.leaves(1001)
        await peer.over()
        assert [(event.code, event.reason, event.cause) for event in events] == [(4005, "ours", Cause.APPLICATION)]


async def test_messages_that_arrive_during_a_close_do_not_reach_the_handler() -> None:
    """The handler's answer could not be sent any more."""
    async with on_stage(capable=True) as stage:
        peer = await stage.open()
        peer.mute = True
        async with anyio.create_task_group() as group:
            group.start_soon(peer.connection.close)
            await settle()
            peer.says("too late")
            await settle()
            assert peer.connection.statistics().messages_received == 0
            peer.mute = False
            peer.leaves()
        await peer.over()
        assert peer.messages == []


async def test_without_a_custom_heartbeat_the_word_pong_is_an_ordinary_message() -> None:
    """It is consumed only where a custom heartbeat asks for it."""
    async with on_stage(echo) as stage:
        peer = await stage.open()
        peer.says("pong")
        assert await peer.hears() == ["pong"]


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("capable", [False, True])
async def test_messages_that_arrive_during_accept_are_not_lost(capable: bool, delayed: bool) -> None:
    """A quick client may send while the server's ``accept`` has not returned yet."""
    options: dict[str, Any] = {"rate_limit": RateLimit(1000, action="delay")} if delayed else {}

    async with on_stage(echo, capable=capable, **options) as stage:
        peer = Peer()
        peer.stalled = True
        stage.call(peer)
        await settle()
        peer.says("early", "bird")
        await settle()
        assert peer.sent == []
        peer.resume()
        assert await peer.hears(2) == ["early", "bird"]


async def receives_once(websocket: WebSocket) -> None:
    """Accept, receive one message, and then only wait for the end."""
    await websocket.accept()
    await websocket.receive()
    await websocket.state.connection.closed


async def test_an_unfinished_message_counts_as_memory() -> None:
    """The count follows its size; once it is complete, it counts as an unread message."""
    async with on_stage(receives_once, capable=True, max_total_memory=10_000) as stage:
        peer = await stage.open()
        assert peer.wire is not None
        for half in (1000, 3000, 500):
            peer.wire.half = half
            stage.pass_time(1.5)
            assert peer.inner.memory == half
        peer.wire.half = 0
        peer.says("first", "second")
        await settle()
        stage.pass_time(1.5)
        await until(lambda: peer.connection.statistics().messages_received == 2)
        stage.pass_time(1.5)
        assert peer.inner.memory == len("second")


async def test_an_unfinished_message_that_stops_growing_closes_its_connection() -> None:
    """It must grow within the ``message_timeout``; growing by one byte a second is enough."""
    inbound = Inbound(message_timeout=4)
    async with on_stage(capable=True, heartbeat_type="off", inbound=inbound) as stage:
        peer, other = await stage.open(), await stage.open()
        assert peer.wire is not None
        assert other.wire is not None
        peer.wire.half = 10
        for _ in range(12):
            other.wire.half += 1
            stage.pass_time(1)
        await until(lambda: peer.closed is not None)
        assert peer.closed == (CloseCode.POLICY_VIOLATION, "message not finished")
        assert other.closed is None
        assert stage.manager.statistics().refused == {"message_timeout": 1}


def test_the_message_timeout_defaults_to_the_time_until_silence_is_fatal() -> None:
    """That is the sum of heartbeat interval and timeout."""
    assert message_timeout(WebSocketConfig(heartbeat_interval=20, heartbeat_timeout=5)) == 25
    assert message_timeout(WebSocketConfig(inbound=Inbound(message_timeout=7))) == 7


async def test_the_time_that_a_handler_is_stuck_ends_with_each_message_it_takes() -> None:
    """It begins with the first check, not with the arrival of the message."""
    async with on_stage(push_only) as stage:
        peer = await stage.open()
        receiver = peer.inner.receiver
        assert receiver._stuck_for(100.0) == 0.0
        receiver.inbox.put({"type": "websocket.receive", "text": "a"}, 1)
        receiver.inbox.put({"type": "websocket.receive", "text": "a"}, 1)
        assert (receiver._stuck_for(100.0), receiver._stuck_for(103.0)) == (0.0, 3.0)
        receiver.inbox.take()
        assert (receiver._stuck_for(104.0), receiver._stuck_for(105.0)) == (0.0, 1.0)
        receiver.inbox.take()


class ReadsOne:
    """A handler that takes one message, and the others when the test lets it.

    Attributes:
        go: set to let it take the others.
        got: what it took.
    """

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.got: list[str] = []

    async def __call__(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.got.append(await websocket.receive_text())
        await self.go.wait()
        async for text in websocket.iter_text():
            self.got.append(text)


def leaves_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every wire report that its peer has left, although messages are still unread."""
    monkeypatch.setattr(CapableWire, "peer_left", lambda self: True)


async def fill(peer: Peer, stage: Any) -> None:
    """Pass time until the messages of a peer fill its inbox and reading pauses."""
    for _ in range(8):
        stage.pass_time(0.5)
        await settle()
    assert peer.inner.receiver.full


async def test_a_departure_behind_a_full_inbox_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wire reports it. The handler still gets all messages that were sent before."""
    leaves_unseen(monkeypatch)
    handler = ReadsOne()
    async with on_stage(handler, capable=True, inbound=Inbound(max_messages=2)) as stage:
        peer = await stage.open()
        peer.says(*"abcdef")
        peer.leaves(4001)
        for _ in range(20):
            stage.pass_time(0.5)
            await settle()
        assert (await peer.connection.closed).code == 4001
        handler.go.set()
        await peer.over()
    assert handler.got == list("abcdef")


async def test_a_departed_peer_with_too_many_unread_messages_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disconnect cannot be read, but the wire reports that it has left, so the code is 1006."""
    leaves_unseen(monkeypatch)
    monkeypatch.setattr("wsstab.connection.receiver.LONGEST_STUCK", 0.0)
    async with on_stage(ReadsOne(), capable=True, inbound=Inbound(max_messages=1)) as stage:
        peer = await stage.open()
        peer.says(*"x" * 40)
        for _ in range(60):
            stage.pass_time(0.5)
            await settle()
        assert (await peer.connection.closed).code == 1006
        assert peer.wire is not None
        assert peer.wire.aborted


async def test_read_on_reads_one_more_inbox_past_a_stuck_handler() -> None:
    """Once the handler has caught up, the inbox is back to its usual bound."""
    handler = ReadsOne()
    async with on_stage(handler, capable=True, heartbeat_type="off", inbound=Inbound(max_messages=2)) as stage:
        peer = await stage.open()
        peer.says(*"abcdefgh")
        await fill(peer, stage)
        receiver = peer.inner.receiver
        assert len(receiver.inbox) == 2
        receiver.read_on()
        await until(lambda: len(receiver.inbox) == 4)
        handler.go.set()
        await until(lambda: handler.got == list("abcdefgh"))
        assert receiver._rounds == 1.0


async def test_a_handler_that_stays_stuck_has_its_connection_closed_as_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is when 16 inboxes are unread, and nothing was taken for long."""
    monkeypatch.setattr("wsstab.connection.receiver.LONGEST_STUCK", 0.0)
    async with on_stage(ReadsOne(), capable=True, inbound=Inbound(max_messages=1)) as stage:
        peer = await stage.open()
        peer.says(*"x" * 40)
        await fill(peer, stage)
        for _ in range(30):
            peer.inner.receiver.read_on()
            await settle()
        closed = await peer.connection.closed
        assert (closed.code, closed.reason, closed.cause) == (UNREAD.code, UNREAD.reason, Cause.STABILIZER)


async def test_the_answer_to_a_custom_heartbeat_does_not_reach_the_handler() -> None:
    """It is a sign of life, and does not count as a message."""
    async with on_stage(echo, heartbeat_type="custom") as stage:
        peer = await stage.open()
        peer.says("pong", "hello", '{"type": "pong"}')
        assert await peer.hears() == ["hello"]
        await settle()
        assert peer.messages == ["hello"]
        assert peer.connection.statistics().messages_received == 1


async def test_a_1009_by_the_server_counts_as_a_hit_of_max_message_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server enforces the limit that it was given; a 1009 sent by the peer is the peer's own."""
    for by_server in (True, False):
        monkeypatch.setattr(CapableWire, "server_closed", lambda self, by_server=by_server: by_server)
        caplog.clear()
        async with on_stage(echo, capable=True) as stage:
            peer = await stage.open("/big")
            peer.leaves(1009, "too big")
            await peer.over()
            cause = Cause.STABILIZER if by_server else Cause.CLIENT
            closed = await peer.connection.closed
            assert (closed.code, closed.cause) == (1009, cause)
            assert stage.manager.statistics().refused == ({"max_message_size": 1} if by_server else {})
            assert ("a message for /big is over max_message_size" in caplog.text) is by_server


async def test_a_held_back_message_is_dropped_together_with_its_due_time() -> None:
    """Held back messages that nobody reads make room for newer ones."""
    rate = RateLimit(messages_per_second=0.001, burst=1, action="delay")
    async with on_stage(push_only, rate_limit=rate, inbound=Inbound(max_messages=3)) as stage:
        peer = await stage.open()
        now = peer.inner.loop.time()
        peer.says(*"abcdef")
        await until(lambda: peer.connection.statistics().dropped_inbound == 4)
        receiver = peer.inner.receiver
        assert receiver.due is not None
        assert len(receiver.due) == len(receiver.inbox) == 2
        # Each message is due `LONGEST_DELAY` behind the one before it.
        assert receiver.due[0] - now > 3 * LONGEST_DELAY
        assert [receiver.take()["text"] for _ in range(2)] == ["e", "f"]


async def test_an_unfinished_message_of_a_closed_connection_is_not_counted() -> None:
    """Its memory has been given back already."""
    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        assert peer.wire is not None
        await peer.connection.close()
        peer.wire.half = 1000
        peer.inner.receiver.look(stage.hub.loops.here().timekeeper.now)
        assert stage.manager.get_memory_usage()["total_memory"] == 0


async def test_at_debug_inbound_messages_are_logged_by_their_size(caplog: pytest.LogCaptureFixture) -> None:
    """Dropped ones are logged, too."""
    caplog.set_level(logging.DEBUG, "wsstab")
    rate = RateLimit(messages_per_second=0.001, burst=3, action="drop")
    async with on_stage(push_only, rate_limit=rate, inbound=Inbound(max_messages=2)) as stage:
        peer = await stage.open()
        peer.says("one", b"two", "three", "four")
        peer.leaves(4001)
        await peer.connection.closed
    for line in (
        "< text of 3 bytes",
        "< binary of 3 bytes",
        "- oldest unread message dropped",
        "- dropped by rate_limit",
    ):
        assert line in caplog.text
    assert "< disconnect, 4001 by the client" in caplog.text
