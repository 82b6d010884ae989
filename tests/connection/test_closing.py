"""The end of a connection: decided once, told once, and every wait has a deadline."""

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
    """Each test runs on both."""
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["asgi", "capable"])
def capable(request: pytest.FixtureRequest) -> bool:
    """Plain ASGI, and a wire with an abort."""
    return bool(request.param)


async def test_a_handler_that_returns_closes_with_1000(capable: bool) -> None:
    """By itself."""

    async def brief(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")

    async with on_stage(brief, capable=capable) as stage:
        peer = await stage.open()
        await peer.over()
        assert (peer.messages, peer.closed) == (["hello"], (1000, ""))


async def test_a_handler_that_raises_closes_with_1011_and_the_server_is_told(capable: bool) -> None:
    """What it raised goes on to whoever logs it."""

    async def broken(websocket: WebSocket) -> None:
        await websocket.accept()
        raise ZeroDivisionError

    async with on_stage(broken, capable=capable, errors=True) as stage:
        peer = await stage.open()
        await peer.over()
        assert peer.closed == (1011, "internal error")
        assert isinstance(peer.error, ZeroDivisionError)


async def test_a_handler_that_raises_before_accept_leaves_the_answer_to_the_server() -> None:
    """A 500, or what the exception says."""

    async def broken(websocket: WebSocket) -> None:
        raise ZeroDivisionError

    async with on_stage(broken, errors=True) as stage:
        peer = stage.call(Peer())
        await peer.over()
        assert peer.sent == []
        assert isinstance(peer.error, ZeroDivisionError)


async def test_an_error_of_ours_closes_with_its_own_code() -> None:
    """After accept with the code, before accept with the status; it is no failure of the server."""

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


async def test_a_disconnect_that_escapes_the_handler_ends_quietly() -> None:
    """It is how most handlers learn that their peer has left."""

    async def careless(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.receive_text()

    async with on_stage(careless) as stage:
        peer = await stage.open()
        peer.leaves(1001)
        await peer.over()
        assert peer.error is None


async def test_a_disconnect_that_is_not_the_peer_s_is_an_error() -> None:
    """Raised by hand, while the peer is there."""

    async def faking(websocket: WebSocket) -> None:
        await websocket.accept()
        raise WebSocketDisconnect(1001)

    async with on_stage(faking, errors=True) as stage:
        peer = await stage.open()
        await peer.over()
        assert isinstance(peer.error, WebSocketDisconnect)
        assert peer.closed == (1011, "internal error")


async def test_what_was_sent_before_arrives_before_the_close(capable: bool) -> None:
    """Queued messages and broadcasts of the same turn included."""
    async with on_stage(push_only, capable=capable) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.broadcast("one")
        await stage.manager.send_to_client("ann", "two")
        await stage.manager.broadcast("three")
        await stage.manager.disconnect("ann", 4000, "bye")
        assert peer.messages == ["one", "two", "three"]
        assert peer.kinds[-1] == "websocket.close"


async def test_what_waits_for_a_peer_that_drains_goes_out_before_the_close() -> None:
    """However long that takes, as long as it takes something."""
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


async def test_what_waits_for_a_peer_that_does_not_drain_is_given_up() -> None:
    """After the deadline of the close."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        peer.wire.block()  # type: ignore[union-attr]
        await stage.manager.send_to_client("ann", "never")
        peer.inner.closing.begin(OURS, within=0.05)
        await until(lambda: peer.closed is not None)
        assert (peer.messages, peer.closed) == ([], (4100, "ours"))
        assert stage.manager.get_memory_usage()["total_memory"] == 0


async def test_a_peer_that_drains_for_ever_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However steadily it takes a little: a close must not be held up by whoever reads a byte a second."""
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


async def test_a_close_that_does_not_get_through_is_cut(capable: bool) -> None:
    """Aborted where the wire can, and over in any case."""
    async with on_stage(push_only, capable=capable) as stage:
        peer = await stage.open()
        peer.mute = True
        peer.inner.closing.begin(OURS, within=0.05)
        assert (await peer.connection.closed).code == 4100
        assert peer.inner.closing.cut
        assert (peer.wire is not None and peer.wire.aborted) is capable


async def test_a_close_that_the_server_finds_illegal_is_over_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """The peer was faster."""
    caplog.set_level(logging.DEBUG, "wsstab")
    async with on_stage(push_only, log_level="DEBUG") as stage:
        peer = await stage.open()
        peer.gone = True
        await peer.connection.close(4000)
        assert (await peer.connection.closed).code == 4000
        line = f"- close not sent, 'the peer has left': /ws '{peer.connection.client_id}' 203.0.113.7"
        assert line in [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
        peer.gone = False


async def test_a_peer_that_does_not_answer_our_close_is_aborted_in_the_end() -> None:
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


async def test_whoever_decides_first_decides() -> None:
    """Once."""
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


async def test_from_the_decision_on_it_is_listed_no_more() -> None:
    """Nobody sends to it, nobody counts it."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.join("ann", "lobby")
        peer.mute = True
        peer.inner.closing.begin(OURS)
        assert stage.manager.get_active_connections() == []
        assert stage.manager.get_rooms() == []
        assert (await stage.manager.broadcast("anyone?")).total == 0
        assert await stage.manager.send_to_client("ann", "there?") is False


async def test_an_abort_ends_it_at_once_where_the_wire_can(capable: bool) -> None:
    """Elsewhere it tries to close."""
    error = ConnectionTimeoutError(5)
    async with on_stage(push_only, capable=capable) as stage:
        peer = await stage.open()
        peer.inner.closing.abort(HEARTBEAT_TIMEOUT, error)
        assert (peer.inner.closing.event is not None) is capable
        closed = await peer.connection.closed
        assert (closed.code, closed.error) == (1006, error)
        assert peer.closed == (None if capable else (1011, "heartbeat timeout"))


async def test_a_close_before_accept_that_is_ours_is_a_denial_and_cancels_the_handler() -> None:
    """It has nothing to wait for."""
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


async def test_nothing_more_is_denied_once_a_denial_has_begun() -> None:
    """The handler's own response stands."""
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
    """Unregistered without a wait: the server may not come back."""
    events: list[ConnectionClosed] = []
    async with on_stage(push_only) as stage:
        stage.manager.on(ConnectionClosed, events.append)
        peer = await stage.open()
        peer.call.cancel()
        await peer.over()
        assert stage.manager.get_connection_count() == 0
        assert [(event.code, event.cause) for event in events] == [(1001, Cause.SERVER)]


async def test_an_open_and_a_close_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    """With who and how in fields, and without the query."""
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


async def test_a_close_of_ours_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """What a handler or a peer gives as its reason is theirs, and stays out of the log."""
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


async def test_a_refused_socket_has_no_events_of_a_life() -> None:
    """It was never open."""
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


async def test_a_close_from_another_thread_is_carried_out_on_the_connection_s_own_loop(capable: bool) -> None:
    """It is decided at once, and what was sent before goes out first."""
    async with on_stage(push_only, capable=capable) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.broadcast("before")
        await anyio.to_thread.run_sync(peer.inner.closing.begin, OURS)
        assert peer.inner.closing.close is OURS
        assert (await peer.connection.closed).code == 4100
        assert (peer.messages, peer.closed) == (["before"], (4100, "ours"))


async def test_a_close_from_another_thread_that_comes_too_late_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was over before its own loop came to it."""
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


async def test_a_close_for_a_loop_that_has_ended_is_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket has ended with it."""
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
async def test_who_left_before_accept_leaves_its_handler_the_time_that_it_had(seconds: float | None) -> None:
    """Then it is cancelled, if there is a limit at all."""

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
async def test_a_handler_that_found_its_peer_gone_waits_to_learn_how_it_left(
    tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server tells its reader; where it never does, the end of the call is the end."""
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


async def test_at_debug_a_close_is_told_from_its_decision_on(caplog: pytest.LogCaptureFixture) -> None:
    """Whether its frame gets out or not, and an abort."""
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


async def test_what_waits_is_dropped_where_it_is_not_to_go_out_first() -> None:
    """The close does not wait for it."""
    async with on_stage(push_only, capable=True) as stage:
        (peer,) = await stage.named("ann")
        peer.wire.block()  # type: ignore[union-attr]
        await stage.manager.send_to_client("ann", "never")
        peer.inner.closing.begin(OURS, flush=False)
        assert (await peer.connection.closed).code == 4100
        assert (peer.messages, peer.closed) == ([], (4100, "ours"))
