"""How a connection ends: its close is decided once and reported once, and every wait has a deadline."""

from __future__ import annotations

import logging
import re
from typing import Any

import anyio
import anyio.to_thread
import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.stage import Peer, on_stage, push_only, settle, until
from wsstab import Close, ConnectionClosed, ConnectionLimitExceededError, ConnectionTimeoutError
from wsstab.close import HEARTBEAT_TIMEOUT, Cause

pytestmark = pytest.mark.anyio

OURS = Close(4100, "ours", Cause.STABILIZER)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["asgi", "capable"])
def capable(request: pytest.FixtureRequest) -> bool:
    """Plain ASGI, and a wire that can abort the TCP connection."""
    return bool(request.param)


async def test_a_handler_that_returns_closes_with_1000(capable: bool) -> None:
    """No explicit close is needed."""

    async def brief(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")

    async with on_stage(brief, capable=capable) as stage:
        peer = await stage.open()
        await peer.over()
        assert (peer.messages, peer.closed) == (["hello"], (1000, ""))


async def test_a_handler_that_raises_closes_with_1011(capable: bool) -> None:
    """The exception goes on to the server, which logs it."""

    async def broken(websocket: WebSocket) -> None:
        await websocket.accept()
        raise ZeroDivisionError

    async with on_stage(broken, capable=capable, errors=True) as stage:
        peer = await stage.open()
        await peer.over()
        assert peer.closed == (1011, "internal error")
        assert isinstance(peer.error, ZeroDivisionError)


async def test_an_exception_before_accept_leaves_the_answer_to_the_server() -> None:
    """The server answers with a 500, or with the response that the exception stands for."""

    async def broken(websocket: WebSocket) -> None:
        raise ZeroDivisionError

    async with on_stage(broken, errors=True) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert peer.sent == []
        assert isinstance(peer.error, ZeroDivisionError)


async def test_an_error_of_the_stabilizer_closes_with_its_own_code() -> None:
    """After accept it is the close code, before accept the HTTP status; the server does not see it as a failure."""

    async def full(websocket: WebSocket) -> None:
        if websocket.url.path == "/accepted":
            await websocket.accept()
        raise ConnectionLimitExceededError(5)

    async with on_stage(full) as stage:
        late, early = await stage.open("/accepted"), await stage.open("/refused")
        await late.over()
        await early.over()
        assert late.closed == (1013, "connection limit reached")
        assert early.sent[0]["status"] == 503
        assert late.error is early.error is None


async def test_a_disconnect_exception_that_escapes_the_handler_is_no_error() -> None:
    """Most handlers learn of their peer's departure by this exception."""

    async def careless(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.receive_text()

    async with on_stage(careless) as stage:
        peer = await stage.open()
        peer.leaves(1001)
        await peer.over()
        assert peer.error is None


async def test_a_disconnect_exception_without_a_departed_peer_is_an_error() -> None:
    """The handler raised it by hand while the peer was still connected."""

    async def faking(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketDisconnect(1001)

    async with on_stage(faking, errors=True) as stage:
        peer = await stage.open()
        await peer.over()
        assert isinstance(peer.error, WebSocketDisconnect)
        assert peer.closed == (1011, "internal error")


async def test_messages_sent_before_a_close_arrive_before_it(capable: bool) -> None:
    """That includes queued messages and broadcasts of the same turn of the event loop."""
    async with on_stage(push_only, capable=capable) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.broadcast("one")
        await stage.manager.send_to_client("ann", "two")
        await stage.manager.broadcast("three")
        await stage.manager.disconnect("ann", 4000, "bye")
        assert peer.messages == ["one", "two", "three"]
        assert peer.kinds[-1] == "websocket.close"


async def test_queued_messages_of_a_peer_that_takes_them_go_out_before_the_close() -> None:
    """The close waits as long as the peer keeps taking some of them."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        peer.stall()
        for text in "abc":
            await stage.manager.send_to_client("ann", text)
        async with anyio.create_task_group() as group:
            group.start_soon(peer.connection.close, 4000)
            await settle()
            assert peer.sent == [{"type": "websocket.accept"}] or peer.messages == []
            peer.resume()
        assert peer.messages == ["a", "b", "c"]
        assert peer.closed == (4000, "")


async def test_queued_messages_of_a_stalled_peer_are_given_up() -> None:
    """The close frame is sent without them once the deadline of the close has passed."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        peer.wire.block()  # type: ignore[union-attr]
        await stage.manager.send_to_client("ann", "never")
        peer.inner.closing.begin(OURS, within=0.05)
        await until(lambda: peer.closed is not None)
        assert (peer.messages, peer.closed) == ([], (4100, "ours"))
        assert stage.manager.get_memory_usage()["total_memory"] == 0


async def test_a_peer_that_takes_its_queue_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However steady its progress: a client that reads one byte a second must not hold up a close."""
    monkeypatch.setattr("wsstab.connection.closing.LONGEST_FLUSH", 0.3)
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        wire = peer.wire
        assert wire is not None
        wire.block()
        wire.held = 10_000
        await stage.manager.send_to_client("ann", "never")
        peer.inner.closing.begin(OURS, within=0.1)
        while peer.closed is None:
            wire.held -= 1
            await anyio.sleep(0.002)
        assert wire.held < 9_990
        assert (peer.messages, peer.closed) == ([], (4100, "ours"))


async def test_a_close_frame_that_cannot_be_sent_in_time_is_given_up(capable: bool) -> None:
    """The TCP connection is aborted if the wire can do that; the connection counts as closed in any case."""
    async with on_stage(push_only, capable=capable) as stage:
        peer = await stage.open()
        peer.mute = True
        peer.inner.closing.begin(OURS, within=0.05)
        assert (await peer.connection.closed).code == 4100
        assert peer.inner.closing.cut
        assert (peer.wire is not None and peer.wire.aborted) is capable


async def test_a_close_frame_whose_send_fails_still_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """Sending fails if the peer was faster and has closed the connection itself."""
    caplog.set_level(logging.DEBUG, "wsstab")
    async with on_stage(push_only, log_level="DEBUG") as stage:
        peer = await stage.open()
        peer.gone = True
        await peer.connection.close(4000)
        assert (await peer.connection.closed).code == 4000
        line = f"- close not sent, 'the peer has left': /ws '{peer.connection.client_id}' 203.0.113.7"
        assert line in [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
        peer.gone = False


async def test_a_peer_that_never_answers_a_close_is_aborted() -> None:
    """Its TCP connection must not outlive the closing handshake for ever."""
    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        services = stage.hub.loops.here()
        await peer.connection.close(4000)
        await settle()
        assert peer.wire is not None
        assert not peer.wire.aborted
        services.timekeeper.now += 11
        services.timekeeper.tick()
        assert peer.wire.aborted


async def test_the_first_close_wins() -> None:
    """Later closes and aborts change nothing, and there is one event."""
    events: list[ConnectionClosed] = []
    async with on_stage(push_only) as stage:
        stage.manager.on(ConnectionClosed, events.append)
        peer = await stage.open()
        for code in (4001, 4002, 4003):
            peer.inner.closing.begin(Close(code, "", Cause.APPLICATION))
        await peer.connection.close(4004)
        peer.inner.closing.abort(HEARTBEAT_TIMEOUT)
        assert peer.closed == (4001, "")
        assert [event.code for event in events] == [4001]


async def test_a_closing_connection_is_unlisted_at_once() -> None:
    """It is in no list, room or count, and gets no more messages."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.join("ann", "lobby")
        peer.mute = True
        peer.inner.closing.begin(OURS)
        assert stage.manager.get_active_connections() == []
        assert stage.manager.get_rooms() == []
        assert (await stage.manager.broadcast("anyone?")).total == 0
        assert await stage.manager.send_to_client("ann", "there?") is False


async def test_an_abort_ends_the_connection_at_once_if_the_wire_can_abort(capable: bool) -> None:
    """On other wires the connection is closed with a close frame instead."""
    error = ConnectionTimeoutError(5)
    async with on_stage(push_only, capable=capable) as stage:
        peer = await stage.open()
        peer.inner.closing.abort(HEARTBEAT_TIMEOUT, error)
        assert (peer.inner.closing.event is not None) is capable
        closed = await peer.connection.closed
        assert (closed.code, closed.error) == (1006, error)
        assert peer.closed == (None if capable else (1011, "heartbeat timeout"))


async def test_a_stabilizer_close_before_accept_denies_and_cancels_the_handler() -> None:
    """The handler has nothing left to wait for."""
    ended: list[str] = []

    async def never(websocket: WebSocket) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    async with on_stage(never) as stage:
        peer = stage.call(Peer())
        await until(lambda: "wsstab.peer" in peer.scope)
        peer.inner.closing.begin(Close(4100, "no", Cause.STABILIZER, status=429, retry_after=7))
        await peer.over()
        assert (peer.sent[0]["status"], peer.sent[1]["body"]) == (429, b"no\n")
        assert ended == ["cancelled"]


async def test_a_denial_that_the_handler_has_begun_stands() -> None:
    """A close by the stabilizer adds no second response."""
    start: dict[str, Any] = {"type": "websocket.http.response.start", "status": 418, "headers": []}

    async def slow_denial(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await anyio.sleep_forever()

    async with on_stage(slow_denial, bare=True) as stage:
        peer = await stage.open()
        peer.inner.closing.begin(OURS)
        await peer.over()
        assert peer.sent == [start]


async def test_a_call_that_the_server_cancels_ends_with_1001() -> None:
    """The connection is unregistered without waiting, because the server may not run the call again."""
    events: list[ConnectionClosed] = []
    async with on_stage(push_only) as stage:
        stage.manager.on(ConnectionClosed, events.append)
        peer = await stage.open()
        peer.call.cancel()
        await peer.over()
        assert stage.manager.get_connection_count() == 0
        assert [(event.code, event.cause) for event in events] == [(1001, Cause.SERVER)]


async def test_an_open_and_a_close_are_one_log_line_each(caplog: pytest.LogCaptureFixture) -> None:
    """The details are also in fields of the record, and the query string is in neither."""
    caplog.set_level(logging.INFO, "wsstab")
    async with on_stage() as stage:
        peer = await stage.open("/ws/room", query_string=b"token=secret")
        stage.hub.clients.identify(peer.inner, "ann")
        peer.says("hello")
        await until(lambda: peer.messages == ["hello"])
        peer.leaves(4000, "off")
        await peer.over()
    opened, closed = [record for record in caplog.records if record.levelno == logging.INFO]
    assert opened.getMessage() == f"= opened /ws/room '{peer.connection.id}' 203.0.113.7"
    sentence = re.sub(r"after \d+\.\d s", "after x s", closed.getMessage())
    assert sentence == "= closed /ws/room 'ann' 203.0.113.7 after x s: 4000 by the client, 1 in, 1 out"
    fields = vars(closed)
    assert (fields["client_id"], fields["messages_received"], fields["messages_sent"]) == ("ann", 1, 1)
    assert (fields["path"], fields["address"], fields["code"], fields["cause"]) == (
        "/ws/room",
        "203.0.113.7",
        4000,
        "client",
    )
    assert "secret" not in str(vars(opened)) + str(fields)


async def test_the_log_gives_the_reason_of_a_stabilizer_close_only(caplog: pytest.LogCaptureFixture) -> None:
    """A reason given by a handler or a peer may be private, and stays out of the log."""
    caplog.set_level(logging.INFO, "wsstab")
    async with on_stage(push_only) as stage:
        ours, theirs = await stage.named("ann", "bob")
        ours.inner.closing.begin(Close(4100, "it is\nso", Cause.STABILIZER))
        await theirs.connection.close(4101, "secret")
        await stage.manager.disconnect_all()
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("= closed")]
    assert [line.partition(": ")[2] for line in sorted(lines)] == [
        "4100 by the stabilizer, 0 in, 0 out: 'it is\\nso'",
        "4101 by the application, 0 in, 0 out",
    ]


async def test_a_refused_handshake_emits_no_close_event() -> None:
    """It was never open, so it has no duration and counts as no opening either."""
    events: list[ConnectionClosed] = []

    async def refuse(websocket: WebSocket) -> None:
        await websocket.close(4003)

    async with on_stage(refuse) as stage:
        stage.manager.on(ConnectionClosed, events.append)
        peer = await stage.open()
        await peer.over()
        closed = await peer.connection.closed
        assert (closed.code, closed.duration, events) == (4003, 0.0, [])
        assert stage.manager.statistics().opened == 0


async def test_a_close_from_another_thread_runs_on_the_connection_s_own_loop(capable: bool) -> None:
    """It is decided at once, and messages sent before it still go out first."""
    async with on_stage(push_only, capable=capable) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.broadcast("before")
        await anyio.to_thread.run_sync(peer.inner.closing.begin, OURS)
        assert peer.inner.closing.close is OURS
        assert (await peer.connection.closed).code == 4100
        assert (peer.messages, peer.closed) == (["before"], (4100, "ours"))


async def test_a_close_from_another_thread_after_the_end_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection had ended before its own loop ran the call."""
    late: list[Any] = []

    def keep(loop: Any, *call: Any) -> bool:
        late.append(call)
        return True

    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        closing = peer.inner.closing
        monkeypatch.setattr(type(peer.inner.loop), "call_from_thread", keep)
        await anyio.to_thread.run_sync(closing.begin, OURS)
        closing.learn(HEARTBEAT_TIMEOUT)
        closing.abort(HEARTBEAT_TIMEOUT)
        event = closing.event
        assert event is not None
        assert event.code == 4100
        ((callback, *arguments),) = late
        callback(*arguments)
        await settle()
        assert (closing.event, peer.closed) == (event, None)


async def test_a_connection_whose_loop_has_ended_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket ended with the loop."""
    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        closing = peer.inner.closing
        with monkeypatch.context() as patch:
            patch.setattr(type(peer.inner.loop), "call_from_thread", lambda self, *call: False)
            await anyio.to_thread.run_sync(closing.begin, OURS)
        assert closing.event is not None
        assert closing.event.code == 4100
        assert stage.manager.get_connection_count() == 0


@pytest.mark.parametrize("seconds", [5.0, None])
async def test_a_handler_whose_peer_left_before_accept_keeps_its_accept_timeout(seconds: float | None) -> None:
    """It is cancelled when that has passed; without an accept timeout it is not cancelled."""

    async def never(websocket: WebSocket) -> None:
        await anyio.sleep_forever()

    async with on_stage(never, accept_timeout=seconds) as stage:
        peer = stage.call(Peer())
        await settle()
        peer.inner.carrier.read_ahead()
        peer.leaves(1001)
        await until(lambda: peer.inner.closing.event)
        stage.pass_time(4)
        await settle()
        assert not peer.done.is_set()
        stage.pass_time(2)
        await settle()
        assert peer.done.is_set() is (seconds is not None)
        peer.call.cancel()
        await peer.over()


@pytest.mark.parametrize("tells", [True, False])
async def test_a_call_whose_send_failed_waits_for_the_disconnect_event(
    tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event has the close code. If the server never delivers one, the call ends after a timeout, with 1001."""
    monkeypatch.setattr("wsstab.connection.closing.LEARN_TIMEOUT", 10.0 if tells else 0.0)
    ends: list[ConnectionClosed] = []

    async def talks(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()
        await websocket.send_text("hello")

    async with on_stage(talks) as stage:
        stage.manager.on(ConnectionClosed, ends.append)
        peer = await stage.open()
        peer.gone = True
        peer.says("go")
        await until(lambda: peer.inner.sender.gone)
        if tells:
            await settle()
            assert not peer.done.is_set()
            peer.leaves(4001)
        await peer.over()
        assert peer.error is None
    assert [event.code for event in ends] == [4001 if tells else 1001]


async def test_at_debug_each_step_of_a_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The lines tell the decision, whether the close frame was sent, and an abort."""
    caplog.set_level(logging.DEBUG, "wsstab")
    async with on_stage(push_only, capable=True) as stage:
        for end in ("closes", "fails", "aborts"):
            peer = await stage.open()
            peer.gone = end == "fails"
            if end == "aborts":
                peer.inner.closing.abort(HEARTBEAT_TIMEOUT)
            else:
                await peer.connection.close(4000)
            await peer.connection.closed
            peer.gone = False
    for line in (
        "= closing with 4000 by the application, 0 wait",
        "> close 4000",
        "- close not sent, 'the peer has left'",
        "x aborted, the close frame could not be sent",
        "x aborted, 'heartbeat timeout'",
    ):
        assert line in caplog.text


async def test_queued_messages_are_dropped_if_the_close_does_not_flush() -> None:
    """The close frame does not wait for them."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        peer.wire.block()  # type: ignore[union-attr]
        await stage.manager.send_to_client("ann", "never")
        peer.inner.closing.begin(OURS, flush=False)
        assert (await peer.connection.closed).code == 4100
        assert (peer.messages, peer.closed) == ([], (4100, "ours"))
