"""Who drains when the server is told to stop, on a table of handlers in the place of the process's own."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any

import anyio
import pytest

from tests.support.hand import HandLoop
from tests.support.odd import LocalProxy
from wsstab import Drain, ShutdownReport, WebSocketConfig, WebSocketConnectionManager
from wsstab.manager import hub_of
from wsstab.signals import base, forget_signals, watch_signals
from wsstab.signals.base import A_MOMENT, DEBOUNCE, Chain, SignalOwner, leads_to

TERM, INT = signal.SIGTERM, signal.SIGINT


class RecordingServer:
    """A server with a handler of its own, which records the signals it gets."""

    def __init__(self) -> None:
        self.signals: list[int] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal."""
        self.signals.append(number)


class DrainingManager:
    """As much of a manager as the owner asks for; its drain fails when told to."""

    config: Any = None
    is_draining = False
    servers: frozenset[object] = frozenset()

    def __init__(self) -> None:
        self.drains = self.hurries = 0
        self.fails: Exception | None = None

    def hurry(self) -> None:
        """Count."""
        self.hurries += 1

    async def drain_before_stop(self) -> ShutdownReport:
        """Count, and fail if told to."""
        self.drains += 1
        if self.fails is not None:
            raise self.fails
        return ShutdownReport()

    def warn_once(self, key: str, line: str, *args: object) -> None:
        """There is no log."""


class Process:
    """The signals of a process, a server that installed its handler, and the owner.

    Attributes:
        handlers: what is installed for each signal.
        raised: signals that were raised.
        now: the clock in seconds.
        main: whether the code runs in the main thread.
        managers: those that are watched; the owner itself keeps none alive.
        taken_over: what else the server has to take over.
        looks: the ``send`` of each look for a server.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = RecordingServer()
        self.handlers: dict[int, Any] = {}
        self.raised: list[int] = []
        self.now, self.main = 1000.0, True
        self.loop = HandLoop()
        self.owner = SignalOwner()
        self.managers: list[Any] = []
        self.taken_over: list[Any] = []
        self.looks: list[Any] = []
        self.start_server()
        signals = SimpleNamespace(
            getsignal=self.handlers.get, signal=self._install, raise_signal=self.raised.append, SIG_DFL=signal.SIG_DFL
        )
        monkeypatch.setattr(base, "signal", signals)
        monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(base, "current_loop", lambda: self.loop)

    def start_server(self) -> None:
        """A server installs its handler for both signals, as it does when it starts."""
        self.handlers.update({TERM: self.server.handle, INT: self.server.handle})

    def watch(self, manager: Any = None, send: Any = None) -> Any:
        """Have a manager watched; that manager."""
        manager = manager if manager is not None else DrainingManager()
        self.managers.append(manager)
        self.owner.watch(manager, [self.take], send)
        return manager

    def take(self, owner: SignalOwner, send: Any) -> list[Any]:
        """Take over what there is of the server, as the module of a server does."""
        self.looks.append(send)
        found = [number for number, handler in self.handlers.items() if handler == self.server.handle]
        return [*([Chain(owner, found)] if found else []), *self.taken_over]

    def send(self, number: int = TERM) -> None:
        """The process gets a signal."""
        self.handlers[number](number, None)

    def start_drains(self) -> list[Any]:
        """Let the loop do what was handed over; the drains that began."""
        before = len(self.loop.tasks)
        self.loop.turn_until_idle()
        return self.loop.tasks[before:]

    @property
    def taken(self) -> bool:
        """Whether both signals are the owner's."""
        return all(self.handlers[number] == self.owner.on_signal for number in (TERM, INT))

    @property
    def given_back(self) -> bool:
        """Whether both signals are the server's."""
        return all(self.handlers[number] == self.server.handle for number in (TERM, INT))

    def _install(self, number: int, handler: Callable[..., Any]) -> Any:
        if not self.main:
            raise ValueError("signal only works in main thread of the main interpreter")
        before, self.handlers[number] = self.handlers[number], handler
        return before


class OtherTakeover:
    """A way to stop that is no signal; what became of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.standing = True

    def stands(self) -> bool:
        """Until told otherwise."""
        return self.standing

    def give_back(self) -> None:
        """Note it."""
        self.calls.append("given back")

    def let_stop(self, number: int | None) -> None:
        """Note it."""
        self.calls.append(number)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    """A process with a server."""
    return Process(monkeypatch)


async def finish(drains: list[Any]) -> None:
    """Run drains to their end; what they raise is logged elsewhere."""
    for drain in drains:
        try:
            await drain.run()
        except RuntimeError:
            pass


pytestmark = pytest.mark.anyio


def test_watching_takes_the_signals_over_from_the_server(process: Process) -> None:
    """Both of them, and nobody is told anything yet."""
    manager = process.watch()
    assert process.taken
    assert (manager.drains, process.server.signals) == (0, [])


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, None, print])
def test_a_handler_that_is_not_the_server_s_is_left_alone(process: Process, handler: Any) -> None:
    """The process belongs to somebody else then."""
    process.handlers.update({TERM: handler, INT: handler})
    process.watch()
    assert process.handlers == {TERM: handler, INT: handler}


def test_one_signal_may_be_the_server_s_and_the_other_not(process: Process) -> None:
    """Only that one is taken over."""
    process.handlers[INT] = signal.SIG_IGN
    process.watch()
    assert process.handlers == {TERM: process.owner.on_signal, INT: signal.SIG_IGN}


@pytest.mark.parametrize("number", [TERM, INT])
async def test_the_first_signal_drains_and_the_server_gets_it_afterwards(process: Process, number: int) -> None:
    """The server would cut every socket at once."""
    manager = process.watch()
    process.send(number)
    drains = process.start_drains()
    assert (len(drains), process.server.signals) == (1, [])
    await finish(drains)
    assert (manager.drains, process.server.signals) == (1, [number])
    assert process.given_back


async def test_the_server_gets_the_signal_once_all_managers_have_drained(process: Process) -> None:
    """One owner for all of them, and one signal."""
    managers = [process.watch(), process.watch()]
    process.send()
    first, second = process.start_drains()
    await finish([first])
    assert process.server.signals == []
    await finish([second])
    assert [manager.drains for manager in managers] == [1, 1]
    assert process.server.signals == [TERM]


async def test_the_same_signal_told_twice_is_one_signal(process: Process) -> None:
    """A process group is signalled, and the parent relays it."""
    process.watch()
    process.send(TERM)
    process.now += DEBOUNCE - 0.01
    process.send(TERM)
    process.send(INT)
    drains = process.start_drains()
    assert (len(drains), process.server.signals) == (1, [])
    await finish(drains)
    assert process.server.signals == [TERM]


async def test_a_second_signal_later_hurries_the_drain(process: Process) -> None:
    """Somebody is out of patience; the server still gets its signal only when the handlers have ended."""
    managers = [process.watch(), process.watch()]
    process.send(TERM)
    drains = process.start_drains()
    process.now += DEBOUNCE
    process.send(INT)
    assert [manager.hurries for manager in managers] == [0, 0]
    process.start_drains()
    assert [manager.hurries for manager in managers] == [1, 1]
    assert process.server.signals == []
    await finish(drains)
    assert process.server.signals == [TERM]
    assert process.given_back


async def test_a_drain_that_fails_does_not_keep_the_server_from_stopping(process: Process) -> None:
    """Nor does one that is cancelled."""
    process.watch().fails = RuntimeError("on purpose")
    process.send()
    await finish(process.start_drains())
    assert process.server.signals == [TERM]


def test_a_loop_that_has_ended_holds_up_nothing(process: Process) -> None:
    """There is nobody left to drain there."""
    manager = process.watch()
    process.loop.closed = True
    process.send()
    assert (manager.drains, process.server.signals) == (0, [TERM])


async def test_one_loop_that_has_ended_does_not_hide_another(process: Process) -> None:
    """The managers on the others are drained first."""
    kept = process.watch()
    ended, process.loop = process.loop, HandLoop()
    lost = process.watch()
    process.loop.closed = True
    process.send()
    process.loop = ended
    drains = process.start_drains()
    assert process.server.signals == []
    await finish(drains)
    assert (kept.drains, lost.drains, process.server.signals) == (1, 0, [TERM])


def test_a_signal_that_comes_when_nothing_is_ours_any_more_is_nobody_s(process: Process) -> None:
    """It was on its way while the signals were given back; there is no handler to tell, and nothing fails."""
    process.owner.on_signal(TERM, None)
    process.owner.on_signal(TERM, None)
    assert (process.server.signals, process.given_back) == ([], True)


def test_a_manager_that_was_thrown_away_is_not_drained(process: Process) -> None:
    """The owner keeps nobody alive; with nobody left the server gets the signal at once."""
    process.watch()
    process.managers.clear()
    gc.collect()
    process.send()
    assert process.server.signals == [TERM]


def test_when_the_last_manager_has_stopped_the_signals_are_given_back(process: Process) -> None:
    """And not before."""
    first, second = process.watch(), process.watch()
    process.owner.forget(first)
    assert process.taken
    process.owner.forget(second)
    assert process.given_back


def test_a_manager_that_stops_in_its_drain_leaves_the_signals_until_the_drain_is_over(process: Process) -> None:
    """A second signal in the meantime is still ours to judge."""
    manager = process.watch()
    process.send()
    process.start_drains()
    process.owner.forget(manager)
    assert process.taken


def test_a_handler_that_somebody_installed_over_ours_is_not_replaced(process: Process) -> None:
    """Giving back is for what is still ours."""
    manager = process.watch()
    process.handlers[INT] = print
    process.owner.forget(manager)
    assert process.handlers == {TERM: process.server.handle, INT: print}


def test_outside_the_main_thread_the_signals_cannot_be_given_back(process: Process) -> None:
    """The server's own exit restores them; nothing is raised."""
    manager = process.watch()
    process.main = False
    process.owner.forget(manager)
    assert process.taken


def test_watching_twice_takes_over_once(process: Process) -> None:
    """Each socket asks for it."""
    manager = process.watch()
    process.watch(manager)
    process.owner.forget(manager)
    assert process.given_back


async def test_a_server_that_starts_again_in_the_same_process_is_watched_again(process: Process) -> None:
    """With the same manager, as in a test suite or a reload within one process."""
    manager = process.watch()
    process.send()
    await finish(process.start_drains())
    process.start_server()
    process.watch(manager)
    assert process.taken
    process.send()
    await finish(process.start_drains())
    assert (manager.drains, process.server.signals) == (2, [TERM, TERM])


def test_a_server_that_installs_its_handler_again_is_taken_over_again(process: Process) -> None:
    """Its handler is found at the next socket."""
    manager = process.watch()
    process.start_server()
    process.watch(manager)
    assert process.taken


def test_what_a_socket_found_in_place_the_next_need_not_look_at(process: Process) -> None:
    """For a moment, and for its own manager: a handshake has more to do."""
    manager = process.watch()
    assert not process.owner.in_place(manager)
    process.watch(manager, send=object())
    assert not process.owner.in_place(manager)
    process.watch(manager, send=object())
    assert process.owner.in_place(manager)
    assert not process.owner.in_place(DrainingManager())
    process.now += A_MOMENT
    assert not process.owner.in_place(manager)


@pytest.mark.parametrize("end", ["forgotten", "stopped"])
async def test_nothing_is_in_place_once_it_was_given_back(process: Process, end: str) -> None:
    """The next socket looks."""
    manager = process.watch()
    for _ in range(2):
        process.watch(manager, send=object())
    assert process.owner.in_place(manager)
    if end == "forgotten":
        process.owner.forget(manager)
    else:
        process.send()
        await finish(process.start_drains())
    assert not process.owner.in_place(manager)


@pytest.mark.parametrize("number", [TERM, INT])
async def test_a_handler_that_an_application_puts_before_ours_leads_to_the_server_all_the_same(
    process: Process, number: int
) -> None:
    """It cannot be taken out, a connection that comes later does not lose it, and the server is told once."""
    manager = process.watch()
    ours, told = process.handlers[TERM], list[int]()

    def application(told_of: int, frame: FrameType | None) -> None:
        told.append(told_of)
        ours(told_of, frame)

    process.handlers[TERM] = application
    for _ in range(2):
        process.watch(manager, send=object())
    process.send(number)
    await finish(process.start_drains())
    assert (manager.drains, process.server.signals) == (1, [number])
    assert told == ([TERM] if number == TERM else [])


async def test_a_server_that_replaces_our_handler_is_told_once(process: Process) -> None:
    """Nobody calls the old one any more."""
    manager = process.watch()
    process.start_server()
    process.watch(manager)
    process.send()
    await finish(process.start_drains())
    assert (manager.drains, process.server.signals) == (1, [TERM])


async def test_a_server_that_stops_by_itself_is_drained_first(process: Process) -> None:
    """However often it says so; then everything that was taken over hears that it may."""
    other = OtherTakeover()
    process.taken_over.append(other)
    manager = process.watch()
    process.owner.on_stop()
    process.now += DEBOUNCE
    process.owner.on_stop()
    assert process.owner.stopping
    await finish(process.start_drains())
    assert (manager.drains, manager.hurries, other.calls) == (1, 0, [None])
    assert (process.server.signals, process.given_back, process.owner.stopping) == ([], True, False)


async def test_all_that_was_taken_over_hears_of_a_signal(process: Process) -> None:
    """Each knows by itself what to do with it."""
    other = OtherTakeover()
    process.taken_over.append(other)
    process.watch()
    process.send(INT)
    await finish(process.start_drains())
    assert (other.calls, process.server.signals) == ([INT], [INT])


async def test_a_drain_may_be_waited_for(process: Process) -> None:
    """By somebody who stops the server himself."""
    manager, waited = process.watch(), []

    async def wait() -> None:
        await process.owner.drain()
        waited.append(manager.drains)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert waited == []
        await finish(process.start_drains())
    assert waited == [1]


async def test_with_nobody_to_drain_nobody_waits(process: Process) -> None:
    """It is over at once."""
    await process.owner.drain()
    assert not process.owner.stopping


def test_the_first_websocket_is_a_reason_to_look_again(process: Process) -> None:
    """Some ways to stop are only reached through its ``send``; the next ones are none."""
    manager = process.watch()
    for send in (None, "send", "other", None):
        process.watch(manager, send)
    assert process.looks == [None, "send"]
    assert process.taken


def test_what_stands_no_more_is_a_reason_to_look_again(process: Process) -> None:
    """The rest is given back before."""
    lost, kept = OtherTakeover(), OtherTakeover()
    process.taken_over += [lost, kept]
    manager = process.watch()
    lost.standing = False
    process.taken_over.remove(lost)
    process.watch(manager)
    assert (len(process.looks), lost.calls, kept.calls) == (2, ["given back"], ["given back"])
    assert process.taken


def test_nothing_is_taken_over_anew_while_the_server_is_about_to_stop(process: Process) -> None:
    """A socket that comes in during the drain finds everything as it is."""
    manager = process.watch()
    process.send()
    process.start_server()
    process.watch(manager, "send")
    assert (process.looks, process.given_back) == ([None], True)


def test_whether_there_is_anything_to_hear_it_from_is_told(process: Process) -> None:
    """Else the manager is not watched."""
    manager = DrainingManager()
    assert process.owner.watch(manager, [process.take])
    assert not SignalOwner().watch(manager, [lambda owner, send: []])


@pytest.mark.parametrize(("before", "raised"), [(signal.SIG_DFL, [TERM]), (signal.SIG_IGN, []), (None, [])])
async def test_where_the_server_has_no_handler_the_signal_does_what_it_always_did(
    process: Process, before: Any, raised: list[int]
) -> None:
    """It kills by default, and does nothing where it is ignored."""
    process.handlers[TERM] = before
    chain = Chain(process.owner, [TERM])
    process.handlers[TERM](TERM, None)
    chain.let_stop(TERM)
    assert (process.handlers[TERM], process.raised) == (before, raised)


class Watched:
    """What ``watch_signals`` asked of the owner.

    Args:
        found: whether there is anything to take over.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: bool = True) -> None:
        self.found = found
        self.managers: list[Any] = []
        self.sends: list[Any] = []
        monkeypatch.setattr("wsstab.signals.owner", self)

    def in_place(self, manager: Any) -> bool:
        """It is looked at each time."""
        return False

    def watch(self, manager: Any, takes: Sequence[Any], send: Any) -> bool:
        """Note the manager."""
        self.managers.append(manager)
        self.sends.append(send)
        return self.found

    def forget(self, manager: Any) -> None:
        """Forget it again."""
        self.managers.remove(manager)


async def send(event: Any) -> None:
    """Of a WebSocket."""


def test_a_manager_is_watched_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default; with the ``send`` of a WebSocket, where there is one."""
    watched, manager = Watched(monkeypatch), WebSocketConnectionManager()
    watch_signals(hub_of(manager))
    watch_signals(hub_of(manager), send)
    assert (watched.managers, watched.sends) == ([hub_of(manager)] * 2, [None, send])


def test_a_manager_that_has_stopped_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with the last one the signals are given back."""
    watched, manager = Watched(monkeypatch), WebSocketConnectionManager()
    watch_signals(hub_of(manager))
    forget_signals(hub_of(manager))
    assert watched.managers == []


def test_a_manager_that_is_told_to_leave_signals_alone_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Drain(handle_signals=False)``."""
    watched = Watched(monkeypatch)
    watch_signals(hub_of(WebSocketConnectionManager(WebSocketConfig(drain=Drain(handle_signals=False)))))
    assert watched.managers == []


async def test_a_manager_that_is_draining_is_not_watched_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that comes when the drain is over must not take over what was given back."""
    watched, manager = Watched(monkeypatch), WebSocketConnectionManager()
    await manager.drain()
    watch_signals(hub_of(manager), send)
    assert watched.managers == []


def test_outside_the_main_thread_no_signal_can_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A test client runs the application in a thread of its own, and wants to hear nothing of signals."""
    watched, manager = Watched(monkeypatch, found=False), WebSocketConnectionManager()
    thread = threading.Thread(target=watch_signals, args=(manager, send))
    thread.start()
    thread.join()
    assert (watched.managers, caplog.records) == ([], [])


def test_where_nothing_can_be_had_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the first WebSocket: until then the server may still install its handlers."""
    Watched(monkeypatch, found=False)
    manager = WebSocketConnectionManager()
    watch_signals(hub_of(manager))
    assert caplog.records == []
    watch_signals(hub_of(manager), send)
    watch_signals(hub_of(manager), send)
    assert [record.getMessage() for record in caplog.records] == [
        "! no early drain: no way to hear when this server is to stop"
    ]


def test_a_handler_with_somebodys_proxy_in_it_leads_to_the_server_all_the_same() -> None:
    """Nothing of the proxy can be asked without its context."""

    def found(each: Any) -> bool:
        return bool(each.__name__ == "of_a_server")

    def of_a_server() -> None: ...

    for inner, expected in ((of_a_server, of_a_server), (print, None)):
        assert leads_to(partial(print, LocalProxy(), partial(inner)), found) is expected
