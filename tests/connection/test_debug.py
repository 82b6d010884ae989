"""At DEBUG the log shows the whole life of a connection, and never the content of its messages."""

from __future__ import annotations

import logging
import re
from typing import Any

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import Handler, Peer, Stage, echo, on_stage, peer_of, push_only, settle, until
from wsstab import Cause, Close, HeartbeatType, Inbound, Outbound, RateLimit
from wsstab.close import VANISHED

pytestmark = pytest.mark.anyio

ALPHABET = frozenset("><=%-!x")


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    """A function that returns the messages logged about peers so far, without the names of the peers."""
    caplog.set_level(logging.DEBUG, "wsstab")

    def told() -> list[str]:
        records = [record for record in caplog.records if hasattr(record, "connection_id")]
        return [re.sub(r":? /ws\S* ('.*?') 203\.0\.113\.7", "", record.getMessage()) for record in records]

    return told


async def test_the_log_shows_a_connection_from_handshake_to_release(lines: Any) -> None:
    """Each line begins with a sign that the documentation explains; messages appear by their size."""
    async with on_stage(echo, capable=True) as stage:
        peer = await stage.open(query_string=b"token=secret")
        peer.says("hello", b"\x00\x01")
        await peer.hears(2)
        await stage.manager.broadcast("a word to all")
        await peer.hears(3)
        peer.leaves(4001, "private")
        await peer.over()
    told = [re.sub(r"after \d+\.\d s", "after a while", line) for line in lines()]
    assert told == [
        "< handshake",
        "> accepted without a subprotocol, by uvicorn websockets-sansio",
        "= opened",
        "< text of 5 bytes",
        "> text of 5 bytes",
        "< binary of 2 bytes",
        "> binary of 2 bytes",
        "> text of 13 bytes",
        "< disconnect, 4001 by the client",
        "= closed after a while: 4001 by the client, 2 in, 3 out",
        "= released",
    ]
    assert {line[0] for line in told} <= ALPHABET


@pytest.mark.parametrize("handler", [echo, push_only])
async def test_the_log_contains_no_payload_query_or_close_reason(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the lines nor the fields of their records contain them."""
    caplog.set_level(logging.DEBUG, "wsstab")
    async with on_stage(handler, capable=True) as stage:
        peer = await stage.open(query_string=b"token=secret")
        peer.says("secret", b"secret")
        await peer.connection.send({"secret": "secret"})
        peer.stall()
        await peer.connection.send("secret")
        peer.resume()
        await settle()
        peer.leaves(4001, "secret")
        await peer.over() if handler is echo else await peer.connection.closed
    assert "bytes" in caplog.text
    assert "secret" not in caplog.text + "".join(str(vars(record)) for record in caplog.records)


async def test_pings_pongs_and_silence_are_logged(lines: Any) -> None:
    """Pong lines give the latency, and silence lines how long it lasted."""
    async with on_stage(push_only, capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        peer = await stage.open()
        stage.pass_time(20)
        assert peer.wire is not None
        peer.wire.on_pong(peer.pings[-1])
        peer.inner.heartbeat.dead(stage.hub.loops.here().timekeeper.now)
        await peer.connection.closed
    told = [re.sub(r"\d+\.\d", "n", line) for line in lines()]
    assert [line for line in told if line[0] in "%x"] == [
        "% ping",
        "% pong after n ms",
        "% nothing for n s",
        "x aborted, 'heartbeat timeout'",
    ]


async def test_a_custom_heartbeat_is_logged_as_a_message(lines: Any) -> None:
    """It is an application message, not a ping frame."""
    async with on_stage(echo, heartbeat_type=HeartbeatType.CUSTOM, heartbeat_interval=10) as stage:
        peer = await stage.open()
        stage.pass_time(20)
        await peer.hears()
    assert "% heartbeat message" in lines()


async def test_queued_and_dropped_messages_are_logged(lines: Any) -> None:
    """The lines give the length of the queue; the close that follows is logged, too."""
    outbound = Outbound(max_messages=2, policy="drop_newest")
    async with on_stage(push_only, capable=True, outbound=outbound) as stage:
        peer = await stage.open()
        peer.stall()
        for text in ("one", "two", "three"):
            await peer.connection.send(text)
        peer.resume()
        await peer.hears(2)
        await peer.connection.close(4000)
    told = lines()
    assert [line for line in told if line.startswith("- t")] == [
        "- text of 3 bytes queued, 1 wait",
        "- text of 3 bytes queued, 2 wait",
        "- text of 5 bytes dropped, 2 wait",
    ]
    assert [line for line in told if "4000" in line][:2] == [
        "= closing with 4000 by the application, 0 wait",
        "> close 4000",
    ]


async def test_dropped_inbound_messages_are_logged(lines: Any) -> None:
    """A rate limit drops them, or a full inbox that nobody reads."""
    rate = RateLimit(messages_per_second=1, burst=1, action="drop")
    async with on_stage(echo, rate_limit=rate) as stage:
        peer = await stage.open()
        peer.says("one", "two")
        await until(lambda: "- dropped by rate_limit" in lines())
    async with on_stage(push_only, capable=True, inbound=Inbound(max_messages=2)) as stage:
        peer = await stage.open()
        peer.says("one", "two", "three")
        stage.pass_time(1)
        stage.pass_time(1)
        await until(lambda: "- oldest unread message dropped, 1 wait" in lines())
    assert "- a reader begins" in lines()


async def test_a_denial_and_a_close_that_cannot_be_sent_are_logged(lines: Any) -> None:
    """The denial is logged with its status."""

    async def denies(websocket: WebSocket) -> None:
        await websocket.send({"type": "websocket.http.response.start", "status": 418, "headers": []})
        await websocket.send({"type": "websocket.http.response.body", "body": b""})

    async with on_stage(denies) as stage:
        await stage.call(Peer()).over()
    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        peer.mute = True
        peer.inner.closing.begin(Close(4000, "", Cause.APPLICATION), within=0.01)
        await peer.connection.closed
    told = lines()
    assert "> denied with 418" in told
    assert "x aborted, the close frame could not be sent" in told


async def test_the_abort_of_a_closing_connection_is_logged_without_the_close_reason(lines: Any) -> None:
    """The handler gave that reason, and it may be private."""
    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        peer.mute = True
        peer.inner.closing.begin(Close(4000, "secret", Cause.APPLICATION))
        peer.inner.closing.abort(VANISHED)
        await peer.connection.closed
    told = lines()
    assert "secret" not in "".join(told)
    assert [line for line in told if line.startswith("x aborted")]


async def test_a_close_that_the_server_refuses_is_logged(lines: Any) -> None:
    """A server refuses it if the peer closed first."""

    async def refuse(code: int, reason: str) -> None:
        raise RuntimeError("too late")

    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        wire: Any = peer.wire
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(wire), "close", lambda self, code, reason: refuse(code, reason))
            await peer.connection.close(4000)
    assert "- close not sent, 'too late'" in lines()


async def test_a_message_dropped_for_a_departed_peer_is_logged(lines: Any) -> None:
    """It was sent by the handler of another connection, where it does not raise."""
    kept = list[Any]()

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept()
        if kept:
            await kept[0].send_text("late")
        else:
            kept.append(websocket)

    async with on_stage(handler) as stage:
        await (await stage.open()).over()
        await (await stage.open()).over()
    assert "> dropped, for it is over" in lines()


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
async def test_the_log_level_is_looked_up_once_per_connection(level: int, caplog: pytest.LogCaptureFixture) -> None:
    """That happens when the peer connects. The shortcut past the wire is used only if nothing is to be logged."""
    caplog.set_level(level, "wsstab")

    def shortcut(stage: Stage, peer: Peer) -> bool:
        return peer.inner.sender.transport is not None

    class Transport:
        def is_closing(self) -> bool:
            return False

        def write(self, data: bytes) -> None:
            """Discard the data."""

    async with on_stage(push_only, capable=True) as stage:
        peer = await stage.open()
        assert peer_of(peer.connection).debug is (level == logging.DEBUG)
        assert peer.wire is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(peer.wire), "shortcut", lambda self: (Transport(), None))
            peer.inner.sender.open()
        assert shortcut(stage, peer) is (level == logging.INFO)
        with anyio.fail_after(5):
            await peer.connection.send("hello")


async def test_the_log_never_names_the_subprotocol(caplog: pytest.LogCaptureFixture) -> None:
    """Some clients pass a token in its place, because browsers let pages set no other header."""
    caplog.set_level(logging.DEBUG, "wsstab")

    async def handler(websocket: WebSocket) -> None:
        await websocket.accept("secret")

    async with on_stage(handler) as stage:
        await stage.call(Peer()).over()
    assert "accepted with a subprotocol" in caplog.text
    assert "secret" not in caplog.text
