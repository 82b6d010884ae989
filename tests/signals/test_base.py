"""The owner of the signals, on a table of handlers that stands in for the handlers of the process."""

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
    """The part of a manager that the owner uses; its drain fails, or never ends, when told to."""

    config: Any = None
    is_draining = False
    servers: frozenset[object] = frozenset()

    def __init__(self) -> None:
        self.drains = self.hurries = 0
        self.fails: Exception | None = None
        self.waits = False

    def hurry(self) -> None:
        """Count."""
        self.hurries += 1

    async def drain_before_stop(self) -> ShutdownReport:
        """Count, then wait or fail if told to."""
        self.drains += 1
        if self.waits:
            await anyio.sleep_forever()
        if self.fails is not None:
            raise self.fails
        return ShutdownReport()

    def warn_once(self, key: str, line: str, *args: object) -> None:
        """Ignore the line: this manager has no log."""


class Process:
    """The signals of a process, a server that installed its handler, and the owner.

    Attributes:
        handlers: what is installed for each signal.
        raised: signals that were raised.
        now: the clock in seconds.
        main: whether the code runs in the main thread.
        managers: the managers that are watched; the owner itself keeps none alive.
        taken_over: more takeovers that a look for a server finds.
        looks: the ``send`` that came with each look for a server.
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
        """Install the handler of the server for both signals, as a server does when it starts."""
        self.handlers.update({TERM: self.server.handle, INT: self.server.handle})

    def watch(self, manager: Any = None, send: Any = None) -> Any:
        """Have a manager watched, and return it."""
        manager = manager if manager is not None else DrainingManager()
        self.managers.append(manager)
        self.owner.watch(manager, [self.take], send)
        return manager

    def take(self, owner: SignalOwner, send: Any) -> list[Any]:
        """Take over what is there of the server, as the module for a server does."""
        self.looks.append(send)
        found = [number for number, handler in self.handlers.items() if handler == self.server.handle]
        return [*([Chain(owner, found)] if found else []), *self.taken_over]

    def send(self, number: int = TERM) -> None:
        """Deliver a signal to the process."""
        self.handlers[number](number, None)

    def start_drains(self) -> list[Any]:
        """Let the loop do what was handed over to it, and return the drains that began."""
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
    """A way to stop that is not a signal; it records what becomes of it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.standing = True

    def stands(self) -> bool:
        """Whether it is still in place, which it is until told otherwise."""
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
    """Both signals are taken over, and neither the manager nor the server is told anything yet."""
    manager = process.watch()
    assert process.taken
    assert (manager.drains, process.server.signals) == (0, [])


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, None, print])
def test_a_handler_that_is_not_the_server_s_is_left_alone(process: Process, handler: Any) -> None:
    """Such a process is not run by a server that is known."""
    process.handlers.update({TERM: handler, INT: handler})
    process.watch()
    assert process.handlers == {TERM: handler, INT: handler}


def test_only_a_signal_that_the_server_handles_is_taken_over(process: Process) -> None:
    """The other one is ignored in this process, and stays so."""
    process.handlers[INT] = signal.SIG_IGN
    process.watch()
    assert process.handlers == {TERM: process.owner.on_signal, INT: signal.SIG_IGN}


@pytest.mark.parametrize("number", [TERM, INT])
async def test_the_first_signal_drains_and_the_server_gets_it_afterwards(process: Process, number: int) -> None:
    """The server's own handler would cut every socket at once."""
    manager = process.watch()
    process.send(number)
    drains = process.start_drains()
    assert (len(drains), process.server.signals) == (1, [])
    await finish(drains)
    assert (manager.drains, process.server.signals) == (1, [number])
    assert process.given_back


async def test_the_server_gets_the_signal_once_all_managers_have_drained(process: Process) -> None:
    """All managers share one owner, and the server gets one signal."""
    managers = [process.watch(), process.watch()]
    process.send()
    first, second = process.start_drains()
    await finish([first])
    assert process.server.signals == []
    await finish([second])
    assert [manager.drains for manager in managers] == [1, 1]
    assert process.server.signals == [TERM]


async def test_signals_in_quick_succession_count_as_one(process: Process) -> None:
    """Somebody signals the process group, and the parent relays the signal too."""
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
    """Somebody has lost patience; the server still gets its signal only after the drain."""
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
    """The server gets its signal all the same."""
    process.watch().fails = RuntimeError("on purpose")
    process.send()
    await finish(process.start_drains())
    assert process.server.signals == [TERM]


async def test_a_drain_that_is_cancelled_does_not_keep_the_server_from_stopping(process: Process) -> None:
    """A server may cancel all tasks of its loop before the drain is over."""
    manager = process.watch()
    manager.waits = True
    process.send()
    async with anyio.create_task_group() as group:
        group.start_soon(finish, process.start_drains())
        await anyio.wait_all_tasks_blocked()
        assert (manager.drains, process.server.signals) == (1, [])
        group.cancel_scope.cancel()
    assert process.server.signals == [TERM]


def test_a_loop_that_has_ended_holds_up_nothing(process: Process) -> None:
    """Its managers cannot be drained any more, so the server gets its signal at once."""
    manager = process.watch()
    process.loop.closed = True
    process.send()
    assert (manager.drains, process.server.signals) == (0, [TERM])


async def test_one_loop_that_has_ended_does_not_hide_another(process: Process) -> None:
    """Managers on other loops are drained before the server gets its signal."""
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


def test_a_signal_that_comes_after_the_signals_were_given_back_is_ignored(process: Process) -> None:
    """It was on its way while they were given back; there is no handler to call, and nothing fails."""
    process.owner.on_signal(TERM, None)
    process.owner.on_signal(TERM, None)
    assert (process.server.signals, process.given_back) == ([], True)


def test_a_manager_that_was_thrown_away_is_not_drained(process: Process) -> None:
    """The owner keeps no manager alive; when none is left the server gets the signal at once."""
    process.watch()
    process.managers.clear()
    gc.collect()
    process.send()
    assert process.server.signals == [TERM]


def test_the_signals_are_given_back_when_the_last_manager_stops(process: Process) -> None:
    """They stay taken over while another manager is running."""
    first, second = process.watch(), process.watch()
    process.owner.forget(first)
    assert process.taken
    process.owner.forget(second)
    assert process.given_back


def test_the_signals_stay_taken_over_while_a_stopped_manager_drains(process: Process) -> None:
    """The owner must still see a second signal in the meantime."""
    manager = process.watch()
    process.send()
    process.start_drains()
    process.owner.forget(manager)
    assert process.taken


def test_a_handler_that_somebody_installed_over_ours_is_not_replaced(process: Process) -> None:
    """Only a handler that is still ours is given back."""
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
    """Each new socket asks for the signals to be watched."""
    manager = process.watch()
    process.watch(manager)
    process.owner.forget(manager)
    assert process.given_back


async def test_a_server_that_starts_again_in_the_same_process_is_watched_again(process: Process) -> None:
    """The manager may be the same, as in a test suite or a reload within one process."""
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
    """The handler is found when the next socket connects."""
    manager = process.watch()
    process.start_server()
    process.watch(manager)
    assert process.taken


def test_a_takeover_found_in_place_is_not_checked_again_for_a_moment(process: Process) -> None:
    """Only sockets of the same manager skip the check: a handshake has enough to do."""
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
async def test_a_takeover_is_not_in_place_once_it_was_given_back(process: Process, end: str) -> None:
    """The next socket checks again."""
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
async def test_a_handler_that_an_application_puts_before_ours_still_works(process: Process, number: int) -> None:
    """It stays in place, later connections do not lose it, and the server gets the signal once."""
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
    """The replaced handler is not called any more."""
    manager = process.watch()
    process.start_server()
    process.watch(manager)
    process.send()
    await finish(process.start_drains())
    assert (manager.drains, process.server.signals) == (1, [TERM])


async def test_a_server_that_stops_by_itself_is_drained_first(process: Process) -> None:
    """It may announce its stop several times; after one drain every takeover is told to let it stop."""
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


async def test_every_takeover_is_told_of_a_signal(process: Process) -> None:
    """Each of them decides by itself what to do with the signal."""
    other = OtherTakeover()
    process.taken_over.append(other)
    process.watch()
    process.send(INT)
    await finish(process.start_drains())
    assert (other.calls, process.server.signals) == ([INT], [INT])


async def test_a_caller_can_wait_for_the_drain(process: Process) -> None:
    """A program that stops the server by itself does so first."""
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


async def test_a_drain_without_managers_is_over_at_once(process: Process) -> None:
    """The owner does not count as stopping afterwards."""
    await process.owner.drain()
    assert not process.owner.stopping


def test_the_first_websocket_makes_the_owner_look_again(process: Process) -> None:
    """Some ways to stop are reached only through its ``send``; later WebSockets add nothing."""
    manager = process.watch()
    for send in (None, "send", "other", None):
        process.watch(manager, send)
    assert process.looks == [None, "send"]
    assert process.taken


def test_a_takeover_that_was_undone_makes_the_owner_look_again(process: Process) -> None:
    """All takeovers are given back before it looks."""
    lost, kept = OtherTakeover(), OtherTakeover()
    process.taken_over += [lost, kept]
    manager = process.watch()
    lost.standing = False
    process.taken_over.remove(lost)
    process.watch(manager)
    assert (len(process.looks), lost.calls, kept.calls) == (2, ["given back"], ["given back"])
    assert process.taken


def test_nothing_is_taken_over_anew_while_the_server_is_about_to_stop(process: Process) -> None:
    """A socket that connects during the drain changes nothing."""
    manager = process.watch()
    process.send()
    process.start_server()
    process.watch(manager, "send")
    assert (process.looks, process.given_back) == ([None], True)


def test_watch_returns_whether_anything_was_taken_over(process: Process) -> None:
    """If nothing was, the manager cannot learn of a stop."""
    manager = DrainingManager()
    assert process.owner.watch(manager, [process.take])
    assert not SignalOwner().watch(manager, [lambda owner, send: []])


@pytest.mark.parametrize(("before", "raised"), [(signal.SIG_DFL, [TERM]), (signal.SIG_IGN, []), (None, [])])
async def test_without_a_server_handler_a_signal_has_its_usual_effect(
    process: Process, before: Any, raised: list[int]
) -> None:
    """It kills by default, and does nothing where it is ignored."""
    process.handlers[TERM] = before
    chain = Chain(process.owner, [TERM])
    process.handlers[TERM](TERM, None)
    chain.let_stop(TERM)
    assert (process.handlers[TERM], process.raised) == (before, raised)


class Watched:
    """Stands in for the owner, and records what ``watch_signals`` asks of it.

    Args:
        found: whether there is anything to take over.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: bool = True) -> None:
        self.found = found
        self.managers: list[Any] = []
        self.sends: list[Any] = []
        monkeypatch.setattr("wsstab.signals.owner", self)

    def in_place(self, manager: Any) -> bool:
        """Never, so that each call looks."""
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
    """The ``send`` of a WebSocket."""


def test_a_manager_is_watched_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """This is the default; the ``send`` of a WebSocket is passed on where there is one."""
    watched, manager = Watched(monkeypatch), WebSocketConnectionManager()
    watch_signals(hub_of(manager))
    watch_signals(hub_of(manager), send)
    assert (watched.managers, watched.sends) == ([hub_of(manager)] * 2, [None, send])


def test_a_manager_that_has_stopped_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner gives the signals back when its last manager is forgotten."""
    watched, manager = Watched(monkeypatch), WebSocketConnectionManager()
    watch_signals(hub_of(manager))
    forget_signals(hub_of(manager))
    assert watched.managers == []


def test_a_manager_can_be_told_to_leave_signals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option is ``Drain(handle_signals=False)``."""
    watched = Watched(monkeypatch)
    watch_signals(hub_of(WebSocketConnectionManager(WebSocketConfig(drain=Drain(handle_signals=False)))))
    assert watched.managers == []


async def test_a_manager_that_is_draining_is_not_watched_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that connects after the drain must not take over again what was given back."""
    watched, manager = Watched(monkeypatch), WebSocketConnectionManager()
    await manager.drain()
    watch_signals(hub_of(manager), send)
    assert watched.managers == []


def test_outside_the_main_thread_no_manager_is_watched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A test client runs the application in a thread of its own, where a warning would be noise."""
    watched, manager = Watched(monkeypatch, found=False), WebSocketConnectionManager()
    thread = threading.Thread(target=watch_signals, args=(manager, send))
    thread.start()
    thread.join()
    assert (watched.managers, caplog.records) == ([], [])


def test_a_server_whose_stop_cannot_be_noticed_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged at the first WebSocket: until then the server may still install its handlers."""
    Watched(monkeypatch, found=False)
    manager = WebSocketConnectionManager()
    watch_signals(hub_of(manager))
    assert caplog.records == []
    watch_signals(hub_of(manager), send)
    watch_signals(hub_of(manager), send)
    assert [record.getMessage() for record in caplog.records] == [
        "! no early drain: no way to hear when this server is to stop"
    ]


def test_a_handler_with_a_foreign_proxy_in_it_still_leads_to_the_server() -> None:
    """Every access to the proxy raises outside of its context."""

    def found(each: Any) -> bool:
        return bool(each.__name__ == "of_a_server")

    def of_a_server() -> None: ...

    for inner, expected in ((of_a_server, of_a_server), (print, None)):
        assert leads_to(partial(print, LocalProxy(), partial(inner)), found) is expected
