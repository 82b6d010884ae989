"""How the signal handler of a uvicorn server is recognised, and how uvicorn drains when it was taken over."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.signals.commands import Stop, asked_again, commanded, drained, group, interrupted, terminated
from tests.support.server import VARIANTS, Server
from tests.support.waiting import eventually
from wsstab.signals.base import SignalOwner
from wsstab.signals.uvicorn import Tick, handles, take

UVICORN = VARIANTS[0]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Never called."""


class Supervisor(uvicorn.Server):
    """A server class of a user, in a module of theirs."""


class Lookalike:
    """Somebody else's server with a handler of the same name."""

    should_exit = False

    def handle_exit(self, number: int, frame: object) -> None:
        """Stop in its own way."""


def test_the_handler_of_a_uvicorn_server_is_recognised() -> None:
    """It is the method that uvicorn installs with ``signal.signal``."""
    assert handles(uvicorn.Server(uvicorn.Config(app)).handle_exit)


def test_the_handler_of_uvicorn_is_found_behind_one_that_calls_it() -> None:
    """A library such as ddtrace installs the outer one; it is called when the drain is over, and calls uvicorn's."""
    server, heard = uvicorn.Server(uvicorn.Config(app)), list[int]()
    before = signal.getsignal(signal.SIGTERM)
    with server.capture_signals():
        theirs = signal.getsignal(signal.SIGTERM)

        def of_somebody(number: int, frame: Any) -> None:
            heard.append(number)
            if callable(theirs):
                theirs(number, frame)

        signal.signal(signal.SIGTERM, of_somebody)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        chain, tick = take(SignalOwner(), None)
        assert signal.getsignal(signal.SIGTERM) != of_somebody
        tick.give_back()
        chain.let_stop(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        assert server.should_exit
        server._captured_signals.clear()
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_recognised_handler_is_the_one_that_uvicorn_installs() -> None:
    """While uvicorn captures signals, the process has this handler."""
    server, before = uvicorn.Server(uvicorn.Config(app)), signal.getsignal(signal.SIGTERM)
    with server.capture_signals():
        found = signal.getsignal(signal.SIGTERM)
    assert handles(found)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    "handler",
    [
        signal.SIG_DFL,
        signal.SIG_IGN,
        None,
        signal.default_int_handler,
        Lookalike().handle_exit,
        uvicorn.Server(uvicorn.Config(app)).shutdown,
        print,
    ],
)
def test_no_other_handler_is_taken_for_that_of_uvicorn(handler: object) -> None:
    """Neither Python's own, nor one of the same name, nor another method of the server."""
    assert not handles(handler)


def test_the_handler_of_a_class_derived_from_uvicorn_s_is_recognised() -> None:
    """Users who run uvicorn from their own code derive from it."""
    assert handles(Supervisor(uvicorn.Config(app)).handle_exit)


class TickingServer:
    """The part of a server that says whether it stops.

    Attributes:
        stops: what it says.
        asked: the ticks at which it was asked.
    """

    def __init__(self) -> None:
        self.stops = False
        self.asked: list[int] = []

    async def on_tick(self, counter: int) -> bool:
        """Whether it stops."""
        self.asked.append(counter)
        return self.stops


class Owner(SignalOwner):
    """Counts the stops that it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = 0

    def on_stop(self) -> None:
        """Count."""
        self.heard += 1


@pytest.mark.anyio
async def test_a_server_that_stops_by_itself_goes_on_until_the_drain_is_over() -> None:
    """Once a second it still sets the date, and tells gunicorn that it is alive."""
    server, owner = TickingServer(), Owner()
    tick = Tick(owner, server)
    assert not await server.on_tick(7)
    server.stops = True
    assert not await server.on_tick(8)
    assert [await server.on_tick(counter) for counter in range(9, 22)] == [False] * 13
    assert (server.asked, owner.heard) == ([7, 8, 10, 20], 3)
    tick.let_stop(None)
    assert await server.on_tick(22)
    assert "on_tick" not in vars(server)


@pytest.mark.anyio
async def test_a_tick_that_somebody_has_replaced_is_kept() -> None:
    """Giving back does not overwrite the replacement."""
    server = TickingServer()
    tick, theirs = Tick(Owner(), server), object()
    assert tick.stands()
    server.on_tick = theirs  # type: ignore[method-assign, assignment]
    tick.give_back()
    assert (tick.stands(), server.on_tick) == (False, theirs)


SINGLE = "uvicorn {app} --fd {fd}"
WORKERS = "uvicorn {app} --fd {fd} --workers 2"
RELOAD = "uvicorn {app} --fd {fd} --reload --reload-dir docs"
GUNICORN = "gunicorn {app} -k uvicorn_worker.UvicornWorker -b fd://{fd} -w 2"
LINES = {"single": SINGLE, "workers": WORKERS, "reload": RELOAD, "gunicorn": GUNICORN}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("stop", [terminated, group, interrupted])
def test_all_clients_are_drained_with_any_start_and_any_signal(line: str, stop: Stop) -> None:
    """A parent relays the signal, even when its whole group has got it already."""
    with commanded(UVICORN, line, 2 if line in (WORKERS, GUNICORN) else 1) as (server, crowd):
        assert crowd.open("/echo", 24) == [101] * 24
        stop(server)
        server.wait()
        drained(server, crowd)
        assert server.complaints() == []
        started, stopped = server.lifespans
        assert started == stopped > 0


def test_one_worker_that_is_told_to_stop_drains_and_is_replaced() -> None:
    """The clients of the other worker notice nothing."""
    with commanded(UVICORN, WORKERS, 2) as (server, crowd):
        crowd.open("/echo", 24)
        leaving = server.workers[0]
        os.kill(leaving, signal.SIGTERM)
        eventually(lambda: leaving not in server.workers and len(server.workers) == 2, within=15)
        closes = Counter((client["code"], client["reason"]) for client in crowd.report())
        assert set(closes) <= {UVICORN.drained, (None, "")}
        assert crowd.open("/echo", 4) == [101] * 4
        terminated(server)
        server.wait()
        assert {(client["code"], client["reason"]) for client in crowd.report()} == {UVICORN.drained}


@pytest.mark.parametrize("line", [WORKERS, GUNICORN], ids=["workers", "gunicorn"])
def test_a_rolling_restart_drains_the_old_workers(line: str) -> None:
    """SIGHUP restarts the workers; a client that comes back finds a new one."""
    with commanded(UVICORN, line, 2) as (server, crowd):
        crowd.open("/echo", 24)
        old = set(server.workers)
        server.signal(signal.SIGHUP)
        eventually(lambda: not old & set(server.workers) and len(server.workers) == 2, within=30)
        drained(server, crowd)
        assert crowd.open("/echo", 4) == [101] * 4
        terminated(server)
        server.wait()
        assert server.complaints() == []


def test_a_reload_drains_before_the_new_code_is_loaded(tmp_path: Path) -> None:
    """Saving a file starts the reload."""
    code = tmp_path / "code.py"
    code.write_text("")
    with commanded(UVICORN, f"{RELOAD} --reload-dir {tmp_path}") as (server, crowd):
        crowd.open("/echo", 24)
        code.write_text("changed = True")
        eventually(lambda: server.lifespans == (2, 1), within=15)
        drained(server, crowd)
        terminated(server)
        server.wait()


def test_a_worker_that_has_served_enough_drains_before_it_ends() -> None:
    """No signal announces it."""
    with commanded(UVICORN, f"{SINGLE} --limit-max-requests 26") as (server, crowd):
        crowd.open("/echo", 24)
        eventually(lambda: ended(server))
        server.wait()
        drained(server, crowd)
        assert server.lifespans == (1, 1)
        assert server.log.count("Maximum request limit") < 5


def ended(server: Server) -> bool:
    """Send one more request, and return whether nobody answers it."""
    try:
        server.get("/-/health")
    except OSError:
        return True
    return False


def test_a_second_signal_to_all_ends_the_drain_at_once() -> None:
    """The signal is that of a second Ctrl+C."""
    with commanded(UVICORN, WORKERS, 2, timeout=60.0) as (server, crowd):
        crowd.open("/deaf", 8)
        interrupted(server)
        eventually(lambda: {client["code"] for client in crowd.report()} == {1012})
        asked_again(server)
        server.wait()
        assert server.log.count('NOTE "cancelled"') == 8


class OneOfSeveral(Owner):
    """The owner in a process in which other servers serve the same application."""

    @property
    def serves_several(self) -> bool:
        """Always."""
        return True


@pytest.mark.anyio
async def test_a_server_beside_others_stops_alone() -> None:
    """A drain would close the sockets of servers that go on."""
    server, owner = TickingServer(), OneOfSeveral()
    Tick(owner, server)
    assert not await server.on_tick(1)
    server.stops = True
    assert await server.on_tick(2)
    assert owner.heard == 0
