"""The heartbeat, with the clock moved by hand: pings, pongs, silence and the other deadlines."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.stage import on_stage, settle, until
from wsstab import (
    CloseCode,
    ConnectionTimeoutError,
    HeartbeatMissed,
    Inbound,
    WebSocketConfig,
    WebSocketConnectionManager,
)
from wsstab.close import Cause
from wsstab.connection import receiver
from wsstab.connection.heartbeat import (
    AGE_SPREAD,
    custom_message,
    deadlines_for,
    default_message,
    heartbeat_interval,
)
from wsstab.connection.receiver import MOST_ROUNDS
from wsstab.core.deadlines import Action
from wsstab.manager import hub_of
from wsstab.wires.base import Wire
from wsstab.wires.traits import ASGI, TRAITS, Traits

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


def test_the_default_heartbeat_message_has_the_published_form() -> None:
    """It consists of its type and the time."""
    message = default_message()
    assert message["type"] == "ping"
    assert message["timestamp"] > 1_500_000_000
    assert sorted(message) == ["timestamp", "type"]


def test_only_a_custom_heartbeat_has_a_message() -> None:
    """It is the application's own message, or the default one."""
    assert custom_message(WebSocketConfig()) is None
    assert custom_message(WebSocketConfig(heartbeat_type="off")) is None
    assert custom_message(WebSocketConfig(heartbeat_type="custom")) is default_message
    assert custom_message(WebSocketConfig(heartbeat_type="custom", custom_heartbeat="tick")) == "tick"


async def test_a_ping_is_sent_after_an_interval_of_silence() -> None:
    """None is sent earlier, or while messages arrive."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        peer = await stage.open()
        for _ in range(3):
            stage.pass_time(9)
            peer.says("here")
            await settle()
        assert peer.pings == []
        stage.pass_time(10.5)
        assert len(peer.pings) == 1
        assert stage.manager.statistics().heartbeats_sent == 1


async def test_a_pong_keeps_a_silent_peer_alive_and_measures_the_latency() -> None:
    """Each ping has its own payload, and only the pong with that payload gives a latency."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5, enable_metrics=True) as stage:
        peer = await stage.open()
        assert peer.connection.latency is None
        for number in range(1, 6):
            stage.pass_time(10.5)
            assert len(peer.pings) == number
            assert peer.wire is not None
            peer.wire.on_pong(peer.pings[-1])
        assert len(set(peer.pings)) == 5
        assert peer.connection.latency is not None
        assert 0 <= peer.connection.latency < 5
        assert peer.connection.statistics().latency == peer.connection.latency
        assert stage.manager.statistics().latencies["ping"].count == 5


async def test_an_unsolicited_pong_is_a_sign_of_life_but_no_measurement() -> None:
    """RFC 6455 section 5.5.3 allows unsolicited pongs."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        peer = await stage.open()
        stage.pass_time(10.5)
        assert peer.wire is not None
        peer.wire.on_pong(b"unasked")
        assert peer.connection.latency is None
        stage.pass_time(5.5)
        assert not peer.wire.aborted


async def test_a_message_that_is_still_arriving_is_a_sign_of_life() -> None:
    """A pong can come only after its end. A message that has stopped growing is no sign of life."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        peer = await stage.open()
        assert peer.wire is not None
        stage.pass_time(10.5)
        for _ in range(10):
            peer.wire.half += 1000
            stage.pass_time(5.5)
        assert not peer.wire.aborted
        for _ in range(4):
            stage.pass_time(5.5)
        assert peer.wire.aborted


async def test_a_peer_that_stays_silent_after_a_ping_is_aborted() -> None:
    """Hooks, ``closed`` and the counters report a missed heartbeat."""
    missed: list[HeartbeatMissed] = []
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        stage.manager.on(HeartbeatMissed, missed.append)
        peer = await stage.open()
        (name,) = stage.manager.get_active_connections()
        stage.pass_time(10.5)
        stage.pass_time(4.0)
        assert peer.wire is not None
        assert not peer.wire.aborted
        stage.pass_time(1.5)
        assert peer.wire.aborted
        closed = await peer.connection.closed
        assert (closed.code, closed.reason, closed.cause) == (1006, "heartbeat timeout", Cause.STABILIZER)
        assert isinstance(closed.error, ConnectionTimeoutError)
        assert closed.error.close.code == 1006
        assert [event.client_id for event in missed] == [name]
        assert missed[0].silent_for == pytest.approx(16, abs=0.5)
        statistics = stage.manager.statistics()
        assert (statistics.heartbeats_missed, statistics.closed, statistics.connections) == (1, {1006: 1}, 0)


async def test_a_closed_connection_is_not_visited_again() -> None:
    """Its visit may have been due in the same tick that closed it."""
    missed: list[HeartbeatMissed] = []
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        stage.manager.on(HeartbeatMissed, missed.append)
        peer = await stage.open()
        assert peer.wire is not None
        peer.wire.abort()
        await peer.connection.closed
        peer.inner.heartbeat.visit(peer.inner.services.timekeeper.now + 100)
        assert (peer.pings, missed) == ([], [])


async def test_any_message_after_a_ping_is_as_good_as_a_pong() -> None:
    """Anything that arrives proves that the peer is alive."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        peer = await stage.open()
        stage.pass_time(10.5)
        peer.says("alive")
        await peer.hears()
        stage.pass_time(5.5)
        assert peer.wire is not None
        assert not peer.wire.aborted


async def test_silence_while_the_server_does_not_read_proves_nothing() -> None:
    """The peer may well have answered, so it is aborted only for silence after reading has resumed."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        peer = await stage.open()
        stage.pass_time(10.5)
        assert peer.wire is not None
        peer.wire.paused = True
        for _ in range(4):
            stage.pass_time(5.5)
        assert not peer.wire.aborted
        peer.wire.paused = False
        stage.pass_time(10.5)
        assert peer.wire.aborted


async def test_without_a_heartbeat_no_peer_is_pinged_or_closed() -> None:
    """That holds however long the peer is silent."""
    async with on_stage(capable=True, heartbeat_type="off") as stage:
        peer = await stage.open()
        stage.pass_time(100_000)
        assert (peer.pings, peer.closed) == ([], None)


async def test_a_server_without_pings_closes_nobody_for_silence() -> None:
    """Plain ASGI has no ping; the server's own keepalive remains in charge."""
    async with on_stage(heartbeat_interval=10, heartbeat_timeout=5) as stage:
        peer = await stage.open()
        stage.pass_time(100_000)
        await settle()
        assert peer.closed is None
        assert stage.manager.statistics().heartbeats_sent == 0


@pytest.mark.parametrize("capable", [False, True])
@pytest.mark.parametrize("answer", ["pong", '{"type": "pong"}'])
async def test_a_custom_heartbeat_is_a_message_and_its_answer_is_consumed(capable: bool, answer: str) -> None:
    """The handler does not see the answer; the latency is measured from it."""
    options: dict[str, Any] = {"heartbeat_interval": 10, "heartbeat_timeout": 5, "heartbeat_type": "custom"}
    async with on_stage(capable=capable, **options) as stage:
        peer = await stage.open()
        stage.pass_time(10.5)
        (ping,) = await peer.hears()
        assert json.loads(ping)["type"] == "ping"
        peer.says(answer)
        await until(lambda: peer.connection.latency is not None)
        stage.pass_time(5.5)
        await settle()
        assert peer.messages == [ping]
        assert peer.closed is None
        assert peer.connection.statistics().messages_received == 0


@pytest.mark.parametrize("message", ["tick", b"tick", {"tick": 1}, lambda: "tick"])
async def test_the_custom_heartbeat_is_the_application_s_message(message: Any) -> None:
    """It may be text, bytes, a value that becomes JSON, or a function that returns one of them."""
    async with on_stage(heartbeat_interval=10, heartbeat_type="custom", custom_heartbeat=message) as stage:
        peer = await stage.open()
        stage.pass_time(10.5)
        expected = {"tick": 1} if isinstance(message, dict) else message if isinstance(message, bytes) else "tick"
        (got,) = await peer.hears()
        assert (json.loads(got) if isinstance(message, dict) else got) == expected


async def test_a_custom_heartbeat_overtakes_queued_messages() -> None:
    """Otherwise a slow peer would be taken for a dead one."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_type="custom") as stage:
        peer = await stage.open()
        peer.stall()
        await stage.manager.broadcast("waits")
        await settle()
        stage.pass_time(0.2)
        peer.inner.heartbeat.beat()
        assert [json.loads(message)["type"] for message in peer.messages] == ["ping"]


async def test_an_error_in_a_custom_heartbeat_function_does_not_end_the_heartbeat(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the next beat calls the function again."""
    broken = ValueError("broken")
    answers: Iterator[ValueError | str] = iter([broken, "tick"])

    def make() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    options: dict[str, Any] = {"heartbeat_interval": 10, "heartbeat_type": "custom", "custom_heartbeat": make}
    async with on_stage(capable=True, heartbeat_timeout=60, **options) as stage:
        peer = await stage.open()
        stage.pass_time(10.5)
        (logged,) = [record.exc_info for record in caplog.records if record.levelno >= logging.ERROR]
        assert logged is not None
        assert logged[1] is broken
        peer.says("still here")
        await peer.hears()
        stage.pass_time(10.5)
        assert peer.messages == ["still here", "tick"]


@pytest.mark.parametrize("capable", [False, True])
async def test_a_connection_with_a_subprotocol_gets_no_heartbeat_message(capable: bool) -> None:
    """The message would break the subprotocol; a real ping is sent instead if the server has one."""

    async def speaker(websocket: Any) -> None:
        await websocket.accept(subprotocol="graphql-ws")
        await websocket.receive()

    async with on_stage(
        speaker, capable=capable, heartbeat_type="custom", heartbeat_interval=10, heartbeat_timeout=5
    ) as stage:
        peer = await stage.open()
        stage.pass_time(10.5)
        await settle()
        assert peer.messages == []
        assert len(peer.pings) == (1 if capable else 0)
        stage.pass_time(5.5)
        await settle()
        assert (peer.wire is not None and peer.wire.aborted) is capable
        assert stage.manager.get_connection_count() == (0 if capable else 1)


async def test_idle_connections_are_closed_with_4408() -> None:
    """A connection is idle if it has no application message in either direction; pongs do not count."""
    async with on_stage(capable=True, heartbeat_interval=1, heartbeat_timeout=5, idle_timeout=10) as stage:
        sender, receiver, silent = [await stage.open() for _ in range(3)]
        stage.hub.clients.identify(receiver.inner, "receiver")
        for _ in range(8):
            stage.pass_time(1.5)
            for peer in (sender, receiver, silent):
                if peer.wire is not None and peer.pings:
                    peer.wire.on_pong(peer.pings[-1])
            sender.says("busy")
            await stage.manager.send_to_client("receiver", "busy")
            await settle()
        await until(lambda: silent.closed is not None)
        assert silent.closed == (CloseCode.IDLE_TIMEOUT, "idle timeout")
        assert sender.closed is receiver.closed is None


@pytest.mark.parametrize("capable", [False, True])
async def test_a_custom_heartbeat_counts_as_no_traffic(capable: bool) -> None:
    """Neither it nor its answer is counted or keeps the connection from being idle."""
    options: dict[str, Any] = {"heartbeat_interval": 1, "heartbeat_timeout": 5, "idle_timeout": 10}
    async with on_stage(capable=capable, heartbeat_type="custom", **options) as stage:
        peer = await stage.open()
        active, heard = peer.connection.last_activity, 0
        for _ in range(5):
            stage.pass_time(1.5)
            await settle()
            assert len(peer.messages) > heard
            heard = len(peer.messages)
            peer.says("pong")
            await settle()
        statistics = peer.connection.statistics()
        assert (statistics.messages_sent, statistics.bytes_sent, statistics.messages_received) == (0, 0, 0)
        assert peer.connection.last_activity <= active
        stage.pass_time(3)
        await until(lambda: peer.closed is not None)
        assert peer.closed == (CloseCode.IDLE_TIMEOUT, "idle timeout")


async def test_the_heartbeat_of_a_double_counts_as_no_traffic() -> None:
    """The same rule holds without the middleware."""
    async with Ward(heartbeat_interval=10, heartbeat_timeout=15) as ward:
        connection = ward.manager.get_connection("ann")
        assert connection is not None
        active = connection.last_activity
        await ward.wait(10.5)
        assert len(ward.pings) == 1
        await ward.manager.handle_pong("ann")
        assert connection.statistics().messages_sent == 0
        assert connection.last_activity <= active


async def receives_once(websocket: WebSocket) -> None:
    """Accept, receive one message, and then only wait for the end."""
    await websocket.accept()
    await websocket.receive()
    await websocket.state.connection.closed


async def test_a_ping_reads_past_a_full_inbox() -> None:
    """The pong may be behind unread messages; if there is none, the peer is dead however many of them there are."""
    options: dict[str, Any] = {"heartbeat_interval": 1, "heartbeat_timeout": 1, "inbound": Inbound(max_messages=2)}
    async with on_stage(receives_once, capable=True, **options) as stage:
        peer = await stage.open()
        peer.says(*"abcdefg")
        for _ in range(20):
            stage.pass_time(0.5)
            await settle()
        assert peer.connection.statistics().messages_received == 7
        assert peer.wire is not None
        assert peer.wire.aborted


async def test_reading_past_a_full_inbox_is_bounded() -> None:
    """Reading pauses for a peer that keeps sending to a handler that does not receive."""
    options: dict[str, Any] = {"heartbeat_interval": 1, "heartbeat_timeout": 1, "inbound": Inbound(max_messages=2)}
    async with on_stage(receives_once, capable=True, **options) as stage:
        peer = await stage.open()
        peer.says(*(str(number) for number in range(100)))
        for _ in range(200):
            stage.pass_time(0.5)
            await settle()
        assert 2 * MOST_ROUNDS <= peer.connection.statistics().messages_received <= 2 * MOST_ROUNDS + 3
        assert peer.wire is not None
        assert not peer.wire.aborted


async def test_a_connection_whose_handler_never_receives_again_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would be held for ever once all that may be read ahead is unread."""
    options: dict[str, Any] = {"heartbeat_interval": 1, "heartbeat_timeout": 1, "inbound": Inbound(max_messages=2)}
    monkeypatch.setattr(receiver, "LONGEST_STUCK", 0.0)
    async with on_stage(receives_once, capable=True, **options) as stage:
        peer = await stage.open()
        peer.says(*(str(number) for number in range(100)))
        for _ in range(200):
            stage.pass_time(0.5)
            await settle()
        with anyio.fail_after(5):
            event = await peer.connection.closed
        assert (event.code, event.reason) == (CloseCode.TRY_AGAIN_LATER, "handler does not read")
        assert peer.connection.statistics().messages_received <= 2 * MOST_ROUNDS + 3
        assert peer.wire is not None
        assert peer.wire.aborted


async def test_connections_over_the_maximum_age_are_closed_with_1012() -> None:
    """The age varies by ten per cent, and does not depend on how busy the connection is."""
    async with on_stage(max_connection_age=100) as stage:
        peer = await stage.open()
        stage.pass_time(89)
        peer.says("busy")
        await peer.hears()
        assert peer.closed is None
        stage.pass_time(22)
        await until(lambda: peer.closed is not None)
        assert peer.closed == (CloseCode.SERVICE_RESTART, "maximum connection age")


async def test_bytes_in_the_transport_count_as_memory_at_each_visit() -> None:
    """They are given back when the transport has sent them."""
    async with on_stage(capable=True, heartbeat_interval=10) as stage:
        peer = await stage.open()
        assert peer.wire is not None
        for held in (5000, 100, 0):
            peer.wire.held = held
            stage.pass_time(10.5)
            peer.says("alive")
            await settle()
            assert stage.manager.get_memory_usage()["total_memory"] == held
        peer.wire.held = 70
        stage.pass_time(10.5)


async def test_handle_pong_is_harmless_with_the_middleware_and_for_unknown_clients() -> None:
    """For a known client it is a sign of life."""
    async with on_stage(capable=True, heartbeat_interval=10, heartbeat_timeout=5) as stage:
        (peer,) = await stage.named("ann")
        stage.pass_time(10.5)
        await stage.manager.handle_pong("ann")
        await stage.manager.handle_pong("nobody")
        stage.pass_time(5.5)
        assert peer.wire is not None
        assert not peer.wire.aborted


# Doubles.


class Ward:
    """A manager without the middleware and with one double, whose clock the test moves."""

    def __init__(self, **options: Any) -> None:
        self.manager = WebSocketConnectionManager(WebSocketConfig(**options))
        self.socket = AsyncMock()

    async def __aenter__(self) -> Ward:
        await self.manager.start()
        await self.manager.connect("ann", self.socket)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.manager.graceful_shutdown()

    async def wait(self, seconds: float) -> None:
        """Move the clock on, and let everything that is due run."""
        timekeeper = hub_of(self.manager).loops.here().timekeeper
        timekeeper.now += seconds
        timekeeper.tick()
        await settle()

    @property
    def pings(self) -> list[Any]:
        """The JSON messages that the double was sent."""
        return [call.args[0] for call in self.socket.send_json.await_args_list]


async def test_a_double_gets_the_published_ping() -> None:
    """It gets the message unencoded, after each interval in which nothing was heard of it."""
    async with Ward(heartbeat_interval=10, heartbeat_timeout=15) as ward:
        await ward.wait(9.5)
        assert ward.pings == []
        await ward.wait(1)
        assert [ping["type"] for ping in ward.pings] == ["ping"]
        assert not math.isnan(ward.pings[0]["timestamp"])


async def test_a_double_that_has_answered_before_is_closed_for_silence() -> None:
    """Its client has shown that it can answer heartbeats."""
    missed: list[HeartbeatMissed] = []
    async with Ward(heartbeat_interval=10, heartbeat_timeout=15) as ward:
        ward.manager.on(HeartbeatMissed, missed.append)
        connection = ward.manager.get_connection("ann")
        assert connection is not None
        await ward.wait(10.5)
        await ward.manager.handle_pong("ann")
        assert connection.latency is not None
        await ward.wait(10.5)
        assert ward.manager.get_active_connections() == ["ann"]
        await ward.wait(15.5)
        assert ward.manager.get_active_connections() == []
        assert [event.client_id for event in missed] == ["ann"]
        assert isinstance((await connection.closed).error, ConnectionTimeoutError)


async def test_a_double_that_never_answered_is_left_to_tcp(caplog: pytest.LogCaptureFixture) -> None:
    """One warning tells the application to call ``handle_pong()``."""
    async with Ward(heartbeat_interval=10, heartbeat_timeout=15) as ward:
        for _ in range(10):
            await ward.wait(10.5)
        assert ward.manager.get_active_connections() == ["ann"]
        assert len(ward.pings) <= 2
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "handle_pong()" in record.getMessage()


async def test_a_double_without_a_heartbeat_still_has_its_other_deadlines() -> None:
    """It gets no heartbeat message, but is closed when it is idle."""
    async with Ward(heartbeat_type="off", idle_timeout=50) as ward:
        await ward.wait(45)
        assert ward.manager.get_connection_count() == 1
        await ward.wait(6)
        assert ward.pings == []
        ward.socket.close.assert_awaited_once_with(code=4408, reason="idle timeout")


async def test_a_double_may_have_a_custom_heartbeat() -> None:
    """A double always gets a message, because pings need the middleware."""
    async with Ward(heartbeat_interval=10, custom_heartbeat="tick", heartbeat_type="custom") as ward:
        await ward.wait(10.5)
        ward.socket.send_text.assert_awaited_once_with("tick")


async def test_no_double_is_pinged_before_the_manager_is_started() -> None:
    """Nothing runs in the background before ``start()``."""
    ward = Ward(heartbeat_interval=10)
    await ward.manager.connect("ann", ward.socket)
    await ward.wait(100)
    assert ward.pings == []
    await ward.manager.start()
    await ward.wait(0.5)
    assert len(ward.pings) == 1
    await ward.manager.graceful_shutdown()


SANSIO = "uvicorn websockets-sansio"


def wire_of(traits: Traits) -> Wire:
    """A wire of a server with these traits."""
    kind: type[Wire] = type("Kind", (Wire,), {"traits": traits})
    return kind()


@pytest.mark.parametrize(
    ("options", "native", "server_interval", "expected"),
    [
        ({}, True, None, 30.0),
        ({"heartbeat_interval": 5.0}, True, 20.0, 5.0),
        ({"heartbeat_interval": 50.0}, True, 20.0, 20.0),
        ({}, False, None, None),
        ({"heartbeat_type": "custom"}, False, None, 30.0),
        ({"heartbeat_type": "custom"}, True, 20.0, 20.0),
        ({"heartbeat_type": "off"}, True, 20.0, None),
    ],
    ids=[
        "ours",
        "ours is shorter",
        "server's is shorter",
        "server without ping",
        "custom needs no ping",
        "custom, server's is shorter",
        "off",
    ],
)
def test_the_heartbeat_interval_is_the_shorter_of_the_configured_and_the_server_s(
    options: dict[str, Any], native: bool, server_interval: float | None, expected: float | None
) -> None:
    """Without a ping frame or a message to send there is no interval."""
    wire = wire_of(TRAITS[SANSIO] if native else ASGI)
    wire.server_ping_interval = server_interval
    assert heartbeat_interval(WebSocketConfig(**options), wire) == expected


def test_a_new_connection_has_the_deadlines_of_its_configuration() -> None:
    """It is the configuration of its path, which may differ from the manager's."""
    own = WebSocketConfig(accept_timeout=3.0, heartbeat_interval=5.0, heartbeat_timeout=7.0, idle_timeout=11.0)
    deadlines = deadlines_for(own, wire_of(TRAITS[SANSIO]), 100.0)
    assert deadlines.next(100.0) == 103.0
    deadlines.opened(100.0)
    assert (deadlines.next(100.0), deadlines.decide(105.0)) == (105.0, Action.PING)
    assert deadlines.decide(110.0) is Action.NOTHING
    assert deadlines.decide(111.0) is Action.IDLE


def test_maximum_ages_are_spread_by_ten_per_cent_to_both_sides() -> None:
    """Connections that opened together are then not closed together."""
    config = WebSocketConfig(max_connection_age=1000.0, heartbeat_type="off")
    ages = list[float]()
    for _ in range(300):
        deadlines = deadlines_for(config, wire_of(TRAITS[SANSIO]), 100.0)
        deadlines.opened(100.0)
        ages.append((deadlines.next(100.0) or 0.0) - 100.0)
    assert 1000 * (1 - AGE_SPREAD) <= min(ages) < 950 < 1050 < max(ages) <= 1000 * (1 + AGE_SPREAD)
