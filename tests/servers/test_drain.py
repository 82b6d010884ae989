"""A process that is told to stop closes all connections in good order and in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import MakeLab, MakeServer, each_implementation
from tests.support.crowd import Crowd
from tests.support.frames import CLOSE
from tests.support.peer import Denied, Peer
from tests.support.server import Server, Variant
from tests.support.waiting import eventually

SERVICE = "tests.support.apps.service:app"


def service(serve: MakeServer, variant: Variant, **drain: Any) -> Server:
    """A service with a lifespan and this way to drain."""
    return serve(SERVICE, variant, {"drain": drain})


def test_a_service_with_all_kinds_of_clients_stops_in_time(serve: MakeServer, variant: Variant) -> None:
    """50 are healthy, 2 stall in the middle of a flood, and 2 have handlers that never receive."""
    server = service(serve, variant, timeout=3.0, batch_size=10, interval=0.15)
    stop_with_all_kinds_of_clients(server, server.signal)


def test_a_signal_to_the_whole_process_group_drains_too(serve: MakeServer, variant: Variant) -> None:
    """A terminal and some supervisors signal every process of a server, and its parent signals the others again."""
    server = service(serve, variant, timeout=3.0, batch_size=10, interval=0.15)
    stop_with_all_kinds_of_clients(server, server.signal_group)


def stop_with_all_kinds_of_clients(server: Server, send_signal: Callable[[int], None]) -> None:
    """Open clients of all kinds, send the signal, and check how clients and process end."""
    variant = server.variant
    with Crowd(server.address) as healthy, Crowd(server.address) as others:
        assert healthy.open("/echo", 50) == [101] * 50
        assert others.open("/flood", 2, stalled=2) == [101, 101]
        assert others.open("/deaf", 2) == [101, 101]
        assert server.get("/-/count") == 54
        began = time.monotonic()
        send_signal(signal.SIGTERM)
        status = server.wait(within=15)
        took = time.monotonic() - began
        clients = healthy.report()
    assert {(client["code"], client["reason"]) for client in clients} == {variant.drained}
    assert sum(client["after_close"] for client in clients) == 0
    times = sorted(client["at"] for client in clients)
    assert times[-1] - times[0] >= 0.4
    assert took < 3.0 + 2.5
    assert status == variant.status()
    assert server.log.count('NOTE "cancelled"') == 2, server.log
    assert server.log.count('NOTE "shutdown"') == variant.traits.lifespan, server.log
    assert [line for line in server.complaints() if "Cancel" not in line] == []


def test_a_service_with_healthy_clients_does_not_wait(serve: MakeServer, variant: Variant) -> None:
    """The process stops as soon as the last client has closed, long before the timeout."""
    server = service(serve, variant, timeout=20.0, batch_size=100)
    with Crowd(server.address) as crowd:
        crowd.open("/echo", 30)
        server.signal(signal.SIGTERM)
        assert server.wait(within=5) == variant.status()
        assert {(client["code"], client["reason"]) for client in crowd.report()} == {variant.drained}
    assert server.complaints() == []


@each_implementation
def test_ctrl_c_drains_too(serve: MakeServer, variant: Variant) -> None:
    """SIGINT drains just as SIGTERM does."""
    server = service(serve, variant, timeout=5.0)
    with Peer(server.address, "/echo") as peer:
        server.signal(signal.SIGINT)
        close = peer.receive_close()
        assert (close.code, close.reason) == variant.drained
        peer.vanish()
        assert server.wait(within=10) == variant.status(signal.SIGINT)
    assert server.log.count('NOTE "shutdown"') == variant.traits.lifespan, server.log


@each_implementation
def test_new_connections_are_refused_while_draining(serve: MakeServer, variant: Variant) -> None:
    """The answer is 503 with Retry-After; readiness turns false while liveness stays."""
    server = service(serve, variant, timeout=4.0)
    with Peer(server.address, "/deaf") as peer:
        assert server.get("/-/ready") is True
        server.signal(signal.SIGTERM)
        assert peer.receive_close(reply=False).code == variant.drained[0]
        assert server.get("/-/ready") is False
        assert server.get("/-/health") == "up"
        with pytest.raises(Denied) as denied:
            Peer(server.address, "/echo")
        assert denied.value.status == 503
        assert int(denied.value.answer.header("retry-after") or 0) > 0
        peer.vanish()
        server.wait(within=12)


def test_a_signal_that_comes_twice_at_once_is_one_signal(serve: MakeServer, variant: Variant) -> None:
    """Process managers signal the group, and a parent relays what its child already got."""
    server = service(serve, variant, timeout=10.0, batch_size=5, interval=0.1)
    with Crowd(server.address) as crowd:
        crowd.open("/echo", 30)
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGTERM)
        server.wait(within=10)
        assert {(client["code"], client["reason"]) for client in crowd.report()} == {variant.drained}


@each_implementation
def test_a_later_second_signal_ends_the_drain_at_once(serve: MakeServer, variant: Variant) -> None:
    """Asking again after a while means now. All processes get it, since a parent signals its workers only once."""
    server = service(serve, variant, timeout=60.0)
    with Crowd(server.address) as crowd:
        crowd.open("/deaf", 2)
        crowd.open("/flood", 1, stalled=1)
        server.signal(signal.SIGTERM)
        eventually(lambda: crowd.report()[0]["code"] == variant.drained[0])
        began = time.monotonic()
        eventually(lambda: time.monotonic() - began > 1.5)
        assert server.process.poll() is None
        server.signal_group(signal.SIGTERM)
        server.wait(within=10)


@each_implementation
def test_signals_can_be_left_to_the_server(serve: MakeServer, variant: Variant) -> None:
    """The server then closes in its own way, with or without a close frame."""
    server = service(serve, variant, handle_signals=False, timeout=1.0)
    with Peer(server.address, "/echo") as peer:
        server.signal(signal.SIGTERM)
        peer.ended()
        assert [frame.reason for frame in peer.frames if frame.opcode == CLOSE] in ([], [""])
        assert peer.count(CLOSE) == 1 or not variant.uvicorn
        assert server.wait(within=10) == variant.status()


def test_an_application_can_drain_by_itself(lab: MakeLab, variant: Variant) -> None:
    """``drain`` reports its counts, and the manager stays closed until it is started again."""
    made = lab(drain={"timeout": 5.0, "batch_size": 4, "interval": 0.05, "code": 1001, "reason": "moving"})
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/echo"), 20)
        report = made.call("drain")
        assert (report["closed_count"], report["failed_count"]) == (20, 0)
        assert 0.2 <= report["duration_seconds"] < 5
        code, reason = 1001, "moving"
        assert {(client["code"], client["reason"]) for client in crowd.report()} == {(code, reason)}
    assert (made.call("is_draining"), made.call("is_ready")) == (True, False)
    assert [event["closed"] for event in made.events("DrainRound")] == [4] * 5
    assert (len(made.events("DrainStarted")), len(made.events("DrainFinished"))) == (1, 1)
    with pytest.raises(Denied) as denied:
        made.connect("/echo")
    assert denied.value.status == 503
    made.call("start")
    peer = made.connect("/echo")
    peer.send("open again")
    assert peer.receive() == "open again"


def test_batches_grow_so_that_all_are_closed_by_half_of_the_timeout(lab: MakeLab) -> None:
    """One at a time, 80 clients would take 16 seconds."""
    made = lab(drain={"timeout": 4.0, "batch_size": 1, "interval": 0.2})
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/echo"), 80)
        made.wait_for_connections(80)
        report = made.call("drain")
        times = sorted(client["at"] for client in crowd.report())
    assert (report["closed_count"], report["failed_count"]) == (80, 0)
    assert 0.5 <= times[-1] - times[0] <= 2.0 + 0.5
    assert len(made.events("DrainRound")) <= 11


def test_a_shutdown_is_a_drain_without_pacing(lab: MakeLab, variant: Variant) -> None:
    """All close at once; a peer that reads nothing counts as failed, and the next socket starts the manager again."""
    made = lab(drain={"batch_size": 1, "interval": 5.0}, outbound={"policy": "block"})
    stalled = made.connect("/member/stalled?rooms=flooded", receive_buffer=4096)
    made.wait_for_connections(1)
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/echo"), 5)
        made.burst(700, 16384, room="flooded")
        eventually(lambda: made.statistics["queued_bytes"] > 500_000)
        began = time.monotonic()
        report = made.call("graceful_shutdown", timeout=1.0)
        assert time.monotonic() - began < 3.5
        assert {client["code"] for client in crowd.report()} == {variant.drained[0]}
    assert (report["closed_count"], report["failed_count"]) == (5, 1)
    assert stalled.ended(within=15) in ("fin", "rst")
    again = made.connect("/echo")
    again.send("up")
    assert again.receive() == "up"


def test_a_handler_is_told_of_a_drain(lab: MakeLab) -> None:
    """Its receive returns the disconnect with the code of the drain."""
    made = lab()
    with Crowd(made.server.address) as crowd:
        crowd.open(made.path("/echo"), 1)
        made.call("drain")
        assert made.note()["code"] == 1012
