"""granian's workers get SIGTERM from their parent, whichever signal it got, and drain before they stop."""

from __future__ import annotations

import signal

import pytest

from tests.signals.commands import Stop, asked_again, commanded, drained, group, interrupted, terminated
from tests.support.server import GRANIAN, Variant
from tests.support.waiting import eventually

LINE = "granian {{app}} --interface asgi --port {{port}} --loop {loop} --workers {workers}"

each_loop = pytest.mark.parametrize("variant", GRANIAN, ids=str)


def line(variant: Variant, workers: int) -> str:
    """The command line with this many workers."""
    return LINE.format(loop=variant.loop, workers=workers)


@each_loop
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("stop", [terminated, group, interrupted])
def test_all_clients_are_drained_whichever_signal_stops_granian(variant: Variant, workers: int, stop: Stop) -> None:
    """When a group is signalled, the workers have got the signal before the parent relays it."""
    with commanded(variant, line(variant, workers), workers) as (server, crowd):
        assert crowd.open("/echo", 24) == [101] * 24
        stop(server)
        assert server.wait() == 0
        drained(server, crowd)
        assert server.lifespans == (workers, workers)
        assert server.complaints() == []


@each_loop
def test_stalled_clients_do_not_make_a_stopping_worker_panic(variant: Variant) -> None:
    """By itself granian aborts a worker that stops with a pending send, and its lifespan does not end."""
    with commanded(variant, line(variant, 1), timeout=2.0) as (server, crowd):
        crowd.open("/flood", 3, stalled=3)
        crowd.open("/echo", 12)
        terminated(server)
        assert server.wait() == 0
        assert [client["code"] for client in crowd.report()[3:]] == [1012] * 12
        assert server.lifespans == (1, 1)
        assert "panic" not in server.log


@each_loop
def test_a_rolling_restart_drains_the_old_workers(variant: Variant) -> None:
    """SIGHUP restarts the workers; a client that comes back finds a new one."""
    with commanded(variant, f"{line(variant, 1)} --respawn-interval 0.5") as (server, crowd):
        crowd.open("/echo", 24)
        server.signal(signal.SIGHUP)
        eventually(lambda: server.lifespans == (2, 1), within=20)
        drained(server, crowd)
        assert crowd.open("/echo", 4) == [101] * 4
        terminated(server)
        assert server.wait() == 0


def test_a_worker_whose_lifetime_is_over_drains() -> None:
    """Its parent stops it as it does for any reason; a minute is the shortest lifetime there is."""
    variant = GRANIAN[1]
    with commanded(variant, f"{line(variant, 1)} --workers-lifetime 60 --respawn-interval 0.5") as (server, crowd):
        crowd.open("/echo", 24)
        eventually(lambda: server.lifespans == (2, 1), within=80)
        drained(server, crowd)


@each_loop
def test_a_second_signal_to_all_ends_the_drain_at_once(variant: Variant) -> None:
    """The signal is that of a second Ctrl+C."""
    with commanded(variant, line(variant, 1), timeout=60.0) as (server, crowd):
        crowd.open("/deaf", 4)
        interrupted(server)
        eventually(lambda: {client["code"] for client in crowd.report()} == {1012})
        asked_again(server)
        assert server.wait() == 0
        assert server.log.count('NOTE "cancelled"') == 4
