"""How hypercorn is told to stop, and what it does when that was taken over."""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.signals.commands import Stop, asked_again, commanded, drained, group, interrupted, terminated
from tests.support.peer import Peer
from tests.support.server import HYPERCORN, Server, Variant
from tests.support.waiting import eventually
from wsstab.signals.base import SIGNALS, SignalOwner
from wsstab.signals.hypercorn import ChildSignals, SharedEvent, take, take_terminate, worker_arguments

TERM, INT = signal.SIGTERM, signal.SIGINT


class Owner(SignalOwner):
    """Notes what it hears; a stop is under way when it has heard of one."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[int | None] = []

    @property
    def stopping(self) -> bool:
        """At once."""
        return bool(self.heard)

    def on_signal(self, number: int, frame: object = None) -> None:
        """Note it."""
        self.heard.append(number)

    def on_stop(self) -> None:
        """Note it."""
        self.heard.append(None)


@pytest.fixture
def handlers() -> Iterator[None]:
    """The process gets its handlers back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_shared_event_is_not_set_until_the_drain_is_over() -> None:
    """The parent sets it; hypercorn, which asks, is told so later."""
    event, owner = multiprocessing.get_context("spawn").Event(), Owner()
    takeover = SharedEvent(owner, event)
    assert (event.is_set(), owner.heard, takeover.stands()) == (False, [], True)
    event.set()
    assert (event.is_set(), owner.heard) == (False, [None])
    takeover.let_stop(None)
    assert (event.is_set(), owner.heard) == (True, [None])


def test_a_worker_that_alone_is_to_stop_sees_the_event_set() -> None:
    """Though the parent has not set it."""
    event = multiprocessing.get_context("spawn").Event()
    SharedEvent(Owner(), event).let_stop(TERM)
    assert event.is_set()


def test_the_shared_event_is_given_back() -> None:
    """Unless somebody else has put something in its place."""
    event, theirs = multiprocessing.get_context("spawn").Event(), object()
    takeover = SharedEvent(Owner(), event)
    takeover.give_back()
    assert "is_set" not in vars(event)
    vars(event)["is_set"] = theirs
    takeover.give_back()
    assert vars(event)["is_set"] is theirs


@pytest.mark.parametrize(("siblings", "heard"), [(False, [TERM, TERM, INT]), (True, [TERM, INT])])
def test_a_worker_with_siblings_hears_sigterm_once(handlers: None, siblings: bool, heard: list[int]) -> None:
    """The second may be the parent's; SIGINT is a terminal's."""
    owner = Owner()
    takeover = ChildSignals(owner, siblings)
    for number in (TERM, TERM, INT):
        signal.raise_signal(number)
    assert owner.heard == heard
    takeover.let_stop(TERM)
    signal.raise_signal(TERM)
    assert (owner.heard, takeover.stands()) == (heard, True)


def test_the_signals_of_a_worker_are_given_back(handlers: None) -> None:
    """As they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    ChildSignals(Owner(), False).give_back()
    assert [signal.getsignal(number) for number in SIGNALS] == before


class Event:
    """As much of hypercorn's as is asked for."""

    def __init__(self) -> None:
        self.sets = 0

    async def set(self) -> None:
        """Count."""
        self.sets += 1


def stream(max_requests: int | None) -> tuple[Any, Event]:
    """A ``send`` of hypercorn's, and the event of its worker."""
    event = Event()
    context = SimpleNamespace(max_requests=max_requests, terminate=event)
    holder = type("WSStream", (), {"context": context, "send": lambda self, event: None})()
    return holder.send, event


@pytest.mark.anyio
async def test_a_worker_that_has_served_enough_ends_when_it_is_let() -> None:
    """However often it has said so."""
    owner = Owner()
    send, event = stream(100)
    (takeover,) = take_terminate(owner, send)
    await event.set()
    await event.set()
    assert (event.sets, owner.heard) == (0, [None, None])
    takeover.let_stop(None)
    with anyio.fail_after(5):
        while not event.sets:
            await anyio.lowlevel.checkpoint()
    assert (event.sets, takeover.stands()) == (1, False)


@pytest.mark.anyio
async def test_a_worker_that_has_not_is_not_ended_by_it() -> None:
    """It was told by other means."""
    send, event = stream(100)
    (takeover,) = take_terminate(Owner(), send)
    takeover.let_stop(TERM)
    await anyio.lowlevel.checkpoint()
    assert event.sets == 0


def test_without_a_limit_on_requests_there_is_nothing_to_take() -> None:
    """Nor at a ``send`` that is not hypercorn's."""
    assert take_terminate(Owner(), stream(None)[0]) == []
    assert take_terminate(Owner(), print) == []  # type: ignore[arg-type]
    assert take_terminate(Owner(), None) == []


@pytest.mark.anyio
async def test_this_process_is_no_worker_of_hypercorn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken over; and where it is not loaded, nobody looks."""
    monkeypatch.setitem(sys.modules, "hypercorn", ModuleType("hypercorn"))
    assert worker_arguments() == {}
    assert take(Owner(), None) == []
    assert len(take(Owner(), stream(100)[0])) == 1
    monkeypatch.delitem(sys.modules, "hypercorn")
    assert take(Owner(), stream(100)[0]) == []


LINE = "hypercorn {{app}} -b fd://{{fd}} -k {loop} -w {workers}"
PROGRAM = "tests.support.apps.hypercorn_program {loop} {how} {{fd}}"


def closed_by_handler(server: Server) -> None:
    """What the trigger of the program waits for."""
    with Peer(server.address, "/closes?code=1000") as peer:
        peer.receive_close()


each_loop = pytest.mark.parametrize("variant", HYPERCORN, ids=str)
each_library = pytest.mark.parametrize("variant", [HYPERCORN[0], HYPERCORN[2]], ids=str)
"""Where nothing can differ by asyncio loop."""


def line(variant: Variant, workers: int) -> str:
    """The command line with so many workers."""
    return LINE.format(loop=variant.loop, workers=workers)


@each_loop
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("stop", [terminated, group, interrupted])
def test_all_clients_are_drained_however_it_is_started_and_told(variant: Variant, workers: int, stop: Stop) -> None:
    """Its default is a child; with two, the parent kills the second when the first has ended."""
    with commanded(variant, line(variant, workers), workers or 1) as (server, crowd):
        assert crowd.open("/echo", 24) == [101] * 24
        stop(server)
        status = server.wait()
        drained(server, crowd)
        assert server.complaints() == []
        if variant.loop == "trio" and workers == 0 and stop is not interrupted:
            # It has no handler: SIGTERM kills it, when the drain is over.
            assert (status, server.lifespans) == (-signal.SIGTERM, (1, 0))
        else:
            assert (status, server.lifespans) == (0, (workers or 1, workers or 1))


@each_library
def test_a_worker_that_is_alone_told_to_stop_drains_and_is_replaced(variant: Variant) -> None:
    """Natively it dies at once, and the parent stops all others."""
    with commanded(variant, line(variant, 2), 2) as (server, crowd):
        crowd.open("/echo", 24)
        leaving = server.workers[0]
        os.kill(leaving, signal.SIGTERM)
        eventually(lambda: leaving not in server.workers and server.lifespans == (3, 1), within=15)
        assert {(client["code"], client["reason"]) for client in crowd.report()} <= {variant.drained, (None, "")}
        assert crowd.open("/echo", 4) == [101] * 4
        terminated(server)
        assert server.wait() == 0
        assert {(client["code"], client["reason"]) for client in crowd.report()} == {variant.drained}
        eventually(lambda: server.lifespans == (3, 3), within=10)


@each_library
def test_a_worker_that_ends_first_does_not_cut_the_others_short(variant: Variant) -> None:
    """Its parent then sends them SIGTERM, which is no second wish."""
    with commanded(variant, line(variant, 2), 2, timeout=3.0) as (server, crowd):
        crowd.open("/deaf", 1)
        began = time.monotonic()
        terminated(server)
        assert server.wait() == 0
        assert time.monotonic() - began > 2.0
        assert crowd.report()[0]["code"] == 1012
        assert server.log.count('NOTE "cancelled"') == 1
        assert server.lifespans == (2, 2)


@each_library
def test_a_reload_drains_the_old_workers(variant: Variant) -> None:
    """SIGHUP; whoever comes back waits for the new ones."""
    with commanded(variant, line(variant, 2), 2) as (server, crowd):
        crowd.open("/echo", 24)
        server.signal(signal.SIGHUP)
        eventually(lambda: server.lifespans == (4, 2), within=15)
        drained(server, crowd)
        assert crowd.open("/echo", 4) == [101] * 4
        terminated(server)
        assert server.wait() == 0


@each_library
@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_that_has_served_enough_drains_before_it_ends(variant: Variant, workers: int) -> None:
    """No signal tells of it. With a parent there is a new one afterwards."""
    with commanded(variant, f"{line(variant, workers)} --max-requests 26") as (server, crowd):
        crowd.open("/echo", 24)
        eventually(lambda: asked(server) and server.lifespans[1] == 1, within=15)
        drained(server, crowd)
        if workers:
            eventually(lambda: server.lifespans == (2, 1))
            terminated(server)
        assert server.wait() == 0


def asked(server: Server) -> bool:
    """One more request, answered or not."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.get("/-/health", within=1.0)
    return True


@each_library
@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_to_all_ends_the_patience(variant: Variant, workers: int) -> None:
    """As Ctrl+C, pressed again."""
    with commanded(variant, line(variant, workers), workers, timeout=60.0) as (server, crowd):
        crowd.open("/deaf", 4)
        interrupted(server)
        eventually(lambda: {client["code"] for client in crowd.report()} == {1012})
        asked_again(server)
        assert server.wait() == 0
        assert server.log.count('NOTE "cancelled"') == 4


@each_loop
@pytest.mark.parametrize("stop", [terminated, interrupted, closed_by_handler])
def test_a_program_serves_and_drains(variant: Variant, stop: Stop) -> None:
    """By signals, or by a trigger of its own beside them; then it goes on behind the call."""
    how = "trigger" if stop is closed_by_handler else "signal"
    with commanded(variant, PROGRAM.format(loop=variant.loop, how=how)) as (server, crowd):
        crowd.open("/echo", 24)
        stop(server)
        assert server.wait() == 0
        drained(server, crowd)
        assert server.lifespans == (1, 1)
        assert 'NOTE "served"' in server.log
        assert server.complaints() == []


@each_library
def test_a_second_signal_to_a_program_ends_the_patience(variant: Variant) -> None:
    """Whoever of the two is asked first."""
    with commanded(variant, PROGRAM.format(loop=variant.loop, how="trigger"), timeout=60.0) as (server, crowd):
        crowd.open("/deaf", 4)
        terminated(server)
        eventually(lambda: {client["code"] for client in crowd.report()} == {1012})
        asked_again(server)
        assert server.wait() == 0
        assert server.log.count('NOTE "cancelled"') == 4


class OneOfSeveral(Owner):
    """Of a process in which other servers serve the same application."""

    @property
    def serves_several(self) -> bool:
        """They do."""
        return True


@pytest.mark.anyio
async def test_a_worker_beside_other_servers_ends_alone() -> None:
    """A drain would close the sockets of those that serve on."""
    owner = OneOfSeveral()
    send, event = stream(100)
    take_terminate(owner, send)
    await event.set()
    assert (event.sets, owner.heard) == (1, [])
    with anyio.fail_after(5):
        await owner.drain()
    assert owner.heard == []
