"""The ways in which hypercorn is told to stop, and how it drains when they were taken over."""

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
    """Records what it is told, and counts as stopping once it was told anything."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[int | None] = []

    @property
    def stopping(self) -> bool:
        """Whether it was told anything."""
        return bool(self.heard)

    def on_signal(self, number: int, frame: object = None) -> None:
        """Note it."""
        self.heard.append(number)

    def on_stop(self) -> None:
        """Note it."""
        self.heard.append(None)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Gives the process its handlers back after the test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_shared_event_is_not_set_until_the_drain_is_over() -> None:
    """The parent sets it; hypercorn, which polls it, sees that only after the drain."""
    event, owner = multiprocessing.get_context("spawn").Event(), Owner()
    takeover = SharedEvent(owner, event)
    assert (event.is_set(), owner.heard, takeover.stands()) == (False, [], True)
    event.set()
    assert (event.is_set(), owner.heard) == (False, [None])
    takeover.let_stop(None)
    assert (event.is_set(), owner.heard) == (True, [None])


def test_a_worker_that_is_to_stop_alone_sees_the_event_set() -> None:
    """The parent has not set it."""
    event = multiprocessing.get_context("spawn").Event()
    SharedEvent(Owner(), event).let_stop(TERM)
    assert event.is_set()


def test_the_shared_event_is_given_back() -> None:
    """It is left alone if somebody has put something else in its place."""
    event, theirs = multiprocessing.get_context("spawn").Event(), object()
    takeover = SharedEvent(Owner(), event)
    takeover.give_back()
    assert "is_set" not in vars(event)
    vars(event)["is_set"] = theirs
    takeover.give_back()
    assert vars(event)["is_set"] is theirs


@pytest.mark.parametrize(("siblings", "heard"), [(False, [TERM, TERM, INT]), (True, [TERM, INT])])
def test_a_worker_with_siblings_hears_sigterm_once(handlers: None, siblings: bool, heard: list[int]) -> None:
    """The second SIGTERM may be the parent's, whereas a SIGINT comes from a terminal."""
    owner = Owner()
    takeover = ChildSignals(owner, siblings)
    for number in (TERM, TERM, INT):
        signal.raise_signal(number)
    assert owner.heard == heard
    takeover.let_stop(TERM)
    signal.raise_signal(TERM)
    assert (owner.heard, takeover.stands()) == (heard, True)


def test_the_signals_of_a_worker_are_given_back(handlers: None) -> None:
    """The handlers are those from before the takeover."""
    before = [signal.getsignal(number) for number in SIGNALS]
    ChildSignals(Owner(), False).give_back()
    assert [signal.getsignal(number) for number in SIGNALS] == before


class Event:
    """The part of hypercorn's event that the takeover uses."""

    def __init__(self) -> None:
        self.sets = 0

    async def set(self) -> None:
        """Count."""
        self.sets += 1


def stream(max_requests: int | None) -> tuple[Any, Event]:
    """A ``send`` like hypercorn's, and the ``terminate`` event of its worker."""
    event = Event()
    context = SimpleNamespace(max_requests=max_requests, terminate=event)
    holder = type("WSStream", (), {"context": context, "send": lambda self, event: None})()
    return holder.send, event


@pytest.mark.anyio
async def test_a_worker_that_has_served_enough_ends_once_it_is_allowed_to() -> None:
    """It may have announced its end several times."""
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
async def test_the_event_of_a_worker_that_has_not_served_enough_is_not_set() -> None:
    """Such a worker is told to stop by other means."""
    send, event = stream(100)
    (takeover,) = take_terminate(Owner(), send)
    takeover.let_stop(TERM)
    await anyio.lowlevel.checkpoint()
    assert event.sets == 0


def test_without_a_limit_on_requests_nothing_is_taken_over() -> None:
    """The same holds for a ``send`` that is not hypercorn's."""
    assert take_terminate(Owner(), stream(None)[0]) == []
    assert take_terminate(Owner(), print) == []  # type: ignore[arg-type]
    assert take_terminate(Owner(), None) == []


@pytest.mark.anyio
async def test_outside_of_a_worker_only_the_event_behind_a_send_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hypercorn is not even loaded, nothing is taken over."""
    monkeypatch.setitem(sys.modules, "hypercorn", ModuleType("hypercorn"))
    assert worker_arguments() == {}
    assert take(Owner(), None) == []
    assert len(take(Owner(), stream(100)[0])) == 1
    monkeypatch.delitem(sys.modules, "hypercorn")
    assert take(Owner(), stream(100)[0]) == []


LINE = "hypercorn {{app}} -b fd://{{fd}} -k {loop} -w {workers}"
PROGRAM = "tests.support.apps.hypercorn_program {loop} {how} {{fd}}"


def closed_by_handler(server: Server) -> None:
    """Have a handler close, which is what the trigger of the program waits for."""
    with Peer(server.address, "/closes?code=1000") as peer:
        peer.receive_close()


each_loop = pytest.mark.parametrize("variant", HYPERCORN, ids=str)
each_library = pytest.mark.parametrize("variant", [HYPERCORN[0], HYPERCORN[2]], ids=str)
"""For tests in which the loops of asyncio cannot differ."""


def line(variant: Variant, workers: int) -> str:
    """The command line with this many workers."""
    return LINE.format(loop=variant.loop, workers=workers)


@each_loop
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("stop", [terminated, group, interrupted])
def test_all_clients_are_drained_with_any_workers_and_any_signal(variant: Variant, workers: int, stop: Stop) -> None:
    """By default the worker is a child; of two workers, the parent kills the second when the first has ended."""
    with commanded(variant, line(variant, workers), workers or 1) as (server, crowd):
        assert crowd.open("/echo", 24) == [101] * 24
        stop(server)
        status = server.wait()
        drained(server, crowd)
        assert server.complaints() == []
        if variant.loop == "trio" and workers == 0 and stop is not interrupted:
            # hypercorn has no handler here: SIGTERM kills it when the drain is over.
            assert (status, server.lifespans) == (-signal.SIGTERM, (1, 0))
        else:
            assert (status, server.lifespans) == (0, (workers or 1, workers or 1))


@each_library
def test_a_worker_that_is_told_to_stop_alone_drains_and_is_replaced(variant: Variant) -> None:
    """By itself hypercorn lets it die at once, and the parent stops all others."""
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
    """The parent then sends SIGTERM to the others, which does not count as a second signal."""
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
    """SIGHUP reloads; a client that comes back waits for the new workers."""
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
    """No signal announces it. With a parent, a new worker follows."""
    with commanded(variant, f"{line(variant, workers)} --max-requests 26") as (server, crowd):
        crowd.open("/echo", 24)
        eventually(lambda: asked(server) and server.lifespans[1] == 1, within=15)
        drained(server, crowd)
        if workers:
            eventually(lambda: server.lifespans == (2, 1))
            terminated(server)
        assert server.wait() == 0


def asked(server: Server) -> bool:
    """Send one more request, whether it is answered or not."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.get("/-/health", within=1.0)
    return True


@each_library
@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_to_all_ends_the_drain_at_once(variant: Variant, workers: int) -> None:
    """The signal is that of a second Ctrl+C."""
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
    """It stops by a signal or by a trigger of its own, and goes on after its call of ``serve``."""
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
def test_a_second_signal_to_a_program_ends_the_drain_at_once(variant: Variant) -> None:
    """The program has a trigger of its own besides the signals."""
    with commanded(variant, PROGRAM.format(loop=variant.loop, how="trigger"), timeout=60.0) as (server, crowd):
        crowd.open("/deaf", 4)
        terminated(server)
        eventually(lambda: {client["code"] for client in crowd.report()} == {1012})
        asked_again(server)
        assert server.wait() == 0
        assert server.log.count('NOTE "cancelled"') == 4


class OneOfSeveral(Owner):
    """The owner in a process in which other servers serve the same application."""

    @property
    def serves_several(self) -> bool:
        """Always."""
        return True


@pytest.mark.anyio
async def test_a_worker_beside_other_servers_ends_alone() -> None:
    """A drain would close the sockets of servers that go on."""
    owner = OneOfSeveral()
    send, event = stream(100)
    take_terminate(owner, send)
    await event.set()
    assert (event.sets, owner.heard) == (1, [])
    with anyio.fail_after(5):
        await owner.drain()
    assert owner.heard == []
