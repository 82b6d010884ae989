"""Errors of user code never harm the manager: each place that calls it, with each kind of error."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.support.stage import Stage, echo, on_stage, settle, until
from wsstab import Hooks, Outbound, WebSocketConfig, WebSocketConnectionManager
from wsstab.core.memory import estimate
from wsstab.events import ConnectionClosed, Event, TokenIssued
from wsstab.hub.subscribers import Subscribers
from wsstab.loop.usercode import Uncaught, awaited, call, ends_the_process, is_cancellation
from wsstab.manager import hub_of
from wsstab.notices import FEW, Notices
from wsstab.types import Scope
from wsstab.wires.base import tell_of_close
from wsstab.wording import shown

groups = importlib.import_module("exceptiongroup" if sys.version_info < (3, 11) else "builtins")
BaseExceptionGroup, ExceptionGroup = groups.BaseExceptionGroup, groups.ExceptionGroup

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


class Odd(BaseException):
    """Neither an ``Exception`` nor meant for the process."""


class Unspeakable(Exception):
    """Cannot even be shown."""

    def __repr__(self) -> str:
        raise Odd

    __str__ = __repr__


RAISED: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: ValueError("on purpose"),
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "RecursionError": RecursionError,
    "BaseException": Odd,
    "group": lambda: ExceptionGroup("on purpose", [ValueError(), ValueError()]),
    "base group": lambda: BaseExceptionGroup("on purpose", [asyncio.CancelledError(), Odd()]),
    "unspeakable": Unspeakable,
}
TOLD_APART = set(RAISED)
"""The errors that can be told from our own cancellation on this version of Python."""
if sys.version_info < (3, 11):
    # asyncio does not count the cancellations of a task there.
    TOLD_APART.discard("CancelledError")
ENDS: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "group of them": lambda: BaseExceptionGroup("on purpose", [ValueError(), KeyboardInterrupt()]),
}


def fails(make: Callable[[], BaseException]) -> Callable[..., Any]:
    """A plain function that raises."""

    def fail(*given: Any) -> Any:
        raise make()

    return fail


def fails_async(make: Callable[[], BaseException]) -> Callable[..., Awaitable[Any]]:
    """An async function that raises, after a while."""

    async def fail(*given: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        raise make()

    return fail


class Callback:
    """A callback whose representation raises as well."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, event: Event) -> Any:
        return self.function(event)

    def __repr__(self) -> str:
        raise Odd


def odd_value(make: Callable[[], BaseException]) -> Any:
    """An object all of whose special methods raise."""

    def fail(*given: Any) -> Any:
        raise make()

    names = (
        "__repr__",
        "__str__",
        "__sizeof__",
        "__eq__",
        "__hash__",
        "__bool__",
        "__len__",
        "__iter__",
        "__getattr__",
    )
    return type("OddValue", (), dict.fromkeys(names, fail))()


async def lives(stage: Stage) -> None:
    """The manager still works: a peer connects, gets an echo, and leaves nothing behind."""
    peer = await stage.open()
    peer.says("hello")
    assert await peer.hears() == ["hello"]
    peer.leaves()
    await peer.over()
    await settle()
    assert (stage.manager.get_connection_count(), stage.hub.admission.count) == (0, 0)
    assert (stage.hub.calls, stage.hub.ledger.total) == (set(), 0)


HOOKS = list(Hooks.EVENTS)


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["plain", "async"])
async def test_connections_open_and_close_whatever_a_hook_raises(
    kind: str, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """All hooks raise at once, and the drain ends as well."""
    fail = (fails_async if asynchronous else fails)(RAISED[kind])
    hooks = Hooks(**dict.fromkeys(HOOKS, Callback(fail)))
    async with on_stage(echo, hooks=hooks, max_connections=1) as stage:
        await lives(stage)
        first = await stage.open()
        await stage.open()
        token = stage.manager.generate_reconnect_token("ann")
        assert await stage.manager.validate_reconnect_token(token) == "ann"
        with anyio.fail_after(5):
            assert (await stage.manager.drain()).closed_count == 1
        await first.over()
        with anyio.fail_after(5):
            await stage.manager.graceful_shutdown(1.0)
    assert "callback <Callback, whose repr raises Odd> failed for ConnectionClosed" in caplog.text


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["before it waits", "after it has waited"])
async def test_an_authorize_that_raises_refuses_the_handshake_uncounted(
    kind: str, asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 403 for any error, and the next handshake is asked as before."""
    broken = [True]

    async def authorize(scope: Scope) -> bool:
        if asynchronous:
            await anyio.lowlevel.checkpoint()
        if broken:
            raise RAISED[kind]()
        return True

    async with on_stage(echo, authorize=authorize) as stage:
        with anyio.fail_after(5):
            peer = await stage.open()
            await peer.over()
        assert peer.sent[0]["status"] == 403
        broken.clear()
        await lives(stage)
    assert "authorize failed for /ws" in caplog.text


@pytest.mark.parametrize("kind", RAISED)
async def test_a_client_address_that_raises_leaves_the_rule_of_trusted_proxies(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """So every connection is still counted under an address."""
    async with on_stage(echo, client_address=fails(RAISED[kind]), max_connections_per_address=1) as stage:
        await lives(stage)
        peer = await stage.open(client=("203.0.113.7", 5))
        assert peer.connection.address == "203.0.113.7"
    assert "client_address failed for /ws" in caplog.text


@pytest.mark.parametrize(
    "answer", [5, b"10.0.0.1", ("10.0.0.1", 80), odd_value(Odd)], ids=["int", "bytes", "pair", "odd"]
)
async def test_a_client_address_that_returns_no_address_counts_as_failed(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the connection would be counted under something that is not an address."""
    async with on_stage(echo, client_address=lambda scope: answer) as stage:
        await lives(stage)
    assert "client_address failed for /ws" in caplog.text


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("capable", [False, True])
async def test_a_heartbeat_message_that_cannot_be_made_stops_no_deadline(
    kind: str, capable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own connection still ends when it is idle."""
    options: dict[str, Any] = {"heartbeat_type": "custom", "custom_heartbeat": fails(RAISED[kind])}
    async with on_stage(echo, capable=capable, heartbeat_interval=1, idle_timeout=7.5, **options) as stage:
        peer = await stage.open()
        for _ in range(3):
            stage.pass_time(1.1)
        assert peer.inner.closing.close is None
        for _ in range(6):
            stage.pass_time(1.1)
        await until(lambda: peer.closed is not None)
        assert peer.closed is not None
        assert peer.closed[0] == 4408
    assert "a deadline failed" in caplog.text


@pytest.mark.parametrize("kind", RAISED)
async def test_an_object_that_raises_may_be_kept_and_counts_as_far_as_it_can(kind: str) -> None:
    """As user data and as metadata, alone or inside other objects."""
    value = odd_value(RAISED[kind])
    assert 0 < estimate(value) < estimate([value, {"inside": value}])
    async with on_stage(echo, max_total_memory=1_000_000) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.set_user_data("ann", "value", value)
        await stage.manager.set_user_data("ann", "list", [value])
        assert await stage.manager.get_user_data("ann", "value") is value
        await stage.manager.connect("ann", _websocket(peer), {"value": value})
        assert stage.hub.ledger.total > 0
        repr(stage.manager), repr(peer.connection), repr(peer.connection.user_data)
    assert stage.hub.ledger.total == 0


def _websocket(peer: Any) -> Any:
    from starlette.websockets import WebSocket

    return WebSocket(peer.scope, peer.receive, peer.send)


@pytest.mark.parametrize("kind", RAISED)
async def test_an_error_of_a_double_ends_that_double_alone(kind: str) -> None:
    """Its sends and its close are code of the application as well."""

    class Double:
        send_text = send_bytes = send_json = close = staticmethod(fails_async(RAISED[kind]))

    class Sound:
        def __init__(self) -> None:
            self.heard: list[Any] = []

        async def send_text(self, text: str) -> None:
            """Hear it."""
            self.heard.append(text)

        async def close(self, code: int = 1000, reason: str = "") -> None:
            """Be closed."""

    manager, sound = WebSocketConnectionManager(WebSocketConfig(heartbeat_type="off")), Sound()
    await manager.connect("odd", Double())
    await manager.connect("ann", sound)
    with anyio.fail_after(5):
        result = await manager.broadcast("hello")
        assert (result.succeeded, result.failed) == (1, 1)
        await until(lambda: manager.get_active_connections() == ["ann"])
        await manager.graceful_shutdown(1.0)
    assert sound.heard == ["hello"]
    assert hub_of(manager).admission.count == 0


class OddKey:
    """A key without a hash."""

    def __hash__(self) -> int:
        raise Odd


@pytest.mark.parametrize("key", [[1], OddKey()], ids=["a list", "odd"])
async def test_a_key_that_cannot_be_hashed_is_the_caller_s_error(key: Any) -> None:
    """No message of others is lost by it."""
    async with on_stage(echo, outbound=Outbound(policy="latest")) as stage:
        (peer,) = await stage.named("ann")
        await stage.manager.broadcast("before")
        with pytest.raises((TypeError, Odd)):
            await stage.manager.broadcast("wrong", key=key)
        with pytest.raises((TypeError, Odd)):
            await stage.manager.send_to_client("ann", "wrong", key=key)
        await stage.manager.broadcast("after")
        assert await peer.hears(2) == ["before", "after"]


@pytest.mark.parametrize("kind", sorted(TOLD_APART - {"StopIteration"}))  # a RuntimeError there: the peer has left
async def test_an_error_of_middleware_at_a_message_ends_that_connection_alone(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The broadcast reaches the others, this time and the next."""
    async with on_stage(echo, errors=True) as stage:
        odd, sound = await stage.named("odd", "ann")
        working = odd.inner.wire._send  # type: ignore[attr-defined]

        async def send(event: Any) -> None:
            await anyio.lowlevel.checkpoint()
            if event["type"] == "websocket.send":
                raise RAISED[kind]()
            await working(event)

        odd.inner.wire._send = send  # type: ignore[attr-defined]
        with anyio.fail_after(5):
            for text in ("one", "two"):
                await stage.manager.broadcast(text)
            assert await sound.hears(2) == ["one", "two"]
            await odd.over()
            await until(lambda: stage.manager.get_active_connections() == ["ann"])


@pytest.mark.parametrize("kind", sorted(TOLD_APART))
async def test_an_observer_of_a_close_that_raises_is_logged_and_harms_nothing(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged a few times a minute, for all wires together."""
    monkeypatch.setattr("wsstab.wires.base._notices", Notices())
    for _ in range(FEW + 5):
        await tell_of_close(fails_async(RAISED[kind]), 1000, "")
    assert caplog.text.count("failed at a close") == FEW


async def test_hooks_that_never_end_delay_neither_a_drain_nor_a_stop() -> None:
    """They get some time, and are cancelled when the manager stops."""
    ended: list[str] = []

    async def never(event: Event) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(type(event).__name__)

    async with on_stage(echo, hooks=Hooks(on_connect=never, on_disconnect=never)) as stage:
        await stage.manager.start()
        peer = await stage.open()
        with anyio.fail_after(8):
            await stage.manager.drain()
            await peer.over()
            assert ended == []
            await stage.manager.graceful_shutdown(0.1)
            await until(lambda: len(ended) == 2)
    assert sorted(ended) == ["ConnectionClosed", "ConnectionOpened"]
    assert stage.hub.subscribers._pending == 0


async def test_a_hook_that_was_cancelled_before_it_began_is_never_awaited() -> None:
    """It leaves nothing behind."""
    subscribers, heard = Subscribers(), list[Event]()

    async def hear(event: Event) -> None:
        heard.append(event)

    subscribers.add(TokenIssued, hear)
    subscribers.emit(TokenIssued("ann"))
    subscribers.cancel()
    await settle()
    assert (heard, subscribers._pending) == ([], 0)


REENTRANT: dict[str, Callable[[WebSocketConnectionManager, Any], Awaitable[Any]]] = {
    "disconnect": lambda manager, event: manager.disconnect(event.client_id),
    "disconnect_all": lambda manager, event: manager.disconnect_all(),
    "broadcast": lambda manager, event: manager.broadcast("from a hook"),
    "send": lambda manager, event: manager.send_to_client(event.client_id, "from a hook"),
    "drain": lambda manager, event: manager.drain(),
    "graceful_shutdown": lambda manager, event: manager.graceful_shutdown(1.0),
    "user data": lambda manager, event: manager.set_user_data(event.client_id, "key", "value"),
}


@pytest.mark.parametrize("name", REENTRANT)
@pytest.mark.parametrize("hook", ["on_connect", "on_disconnect"])
async def test_a_hook_may_call_the_manager(name: str, hook: str) -> None:
    """Each call returns, and everything goes on."""
    done: list[str] = []
    stages: list[Stage] = []

    async def act(event: Any) -> None:
        try:
            await REENTRANT[name](stages[0].manager, event)
        finally:
            done.append(name)

    hooks: dict[str, Any] = {hook: act}
    async with on_stage(echo, hooks=Hooks(**hooks)) as stage:
        stages.append(stage)
        peer = await stage.open()
        await settle()
        peer.leaves()
        with anyio.fail_after(1.5):
            await peer.over()
            await until(lambda: done)
        await stage.manager.start()
        await settle()
        later = await stage.open()
        await until(lambda: "websocket.accept" in later.kinds)
    assert stage.hub.admission.count == 0


async def test_callbacks_that_cause_their_own_event_come_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    """They end with one line in the log and not with the stack."""
    manager = WebSocketConnectionManager()
    heard: list[Event] = []

    def again(event: TokenIssued) -> None:
        heard.append(event)
        manager.generate_reconnect_token("ann")

    manager.on(TokenIssued, again)
    manager.generate_reconnect_token("ann")
    assert len(heard) == 20
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "! TokenIssued is not told: callbacks cause each other's events without end"
    ]


async def test_a_callback_may_register_another() -> None:
    """The new callback gets the next event."""
    subscribers, heard = Subscribers(), list[Event]()

    def add(event: TokenIssued) -> None:
        heard.append(event)
        subscribers.add(TokenIssued, add)

    subscribers.add(TokenIssued, add)
    subscribers.emit(TokenIssued("ann"))
    assert len(heard) == 1
    subscribers.emit(TokenIssued("ann"))
    assert len(heard) == 3


@pytest.mark.parametrize("kind", ENDS)
def test_errors_that_end_the_process_pass_through(kind: str) -> None:
    """From a hook, from a function, and from an object that is shown or measured."""
    subscribers = Subscribers()
    subscribers.add(TokenIssued, fails(ENDS[kind]))
    with pytest.raises(type(ENDS[kind]())):
        subscribers.emit(TokenIssued("ann"))
    with pytest.raises(type(ENDS[kind]())):
        call(fails(ENDS[kind]))
    if kind != "group of them":
        with pytest.raises(type(ENDS[kind]())):
            shown(odd_value(ENDS[kind]))
        with pytest.raises(type(ENDS[kind]())):
            estimate(odd_value(ENDS[kind]))


@pytest.mark.parametrize("kind", RAISED)
async def test_every_error_of_user_code_becomes_an_exception(kind: str) -> None:
    """An exception stays itself; anything else becomes the cause of one."""
    error = RAISED[kind]()

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    for attempt in (lambda: awaited(fail()), None):
        with pytest.raises(Exception) as caught:
            await attempt() if attempt is not None else call(fails(lambda: error))
        told = caught.value
        assert isinstance(told, Uncaught) is not isinstance(error, Exception)
        assert not isinstance(told, Uncaught) or type(told.__cause__) is type(error)
    assert not ends_the_process(error)
    assert not is_cancellation(ValueError())


async def test_our_own_cancellation_passes_through() -> None:
    """This holds also if the application's code turns it into a group, or has cleaned up."""
    after: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            after.append("cleaned up")

    async def wait_in_a_group() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(wait)

    for waiting in (wait, wait_in_a_group):
        with anyio.fail_after(5), anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def later() -> None:
                    await settle(3)
                    scope.cancel()

                group.start_soon(later)
                await awaited(waiting())
        assert scope.cancelled_caught
    assert after == ["cleaned up"] * 2


async def test_a_timeout_around_user_code_is_our_own_cancellation() -> None:
    """`accept_timeout` is such a timeout around ``authorize``."""

    async def forever(scope: Scope) -> bool:
        with contextlib.suppress(ValueError):
            await anyio.sleep_forever()
        return True

    async with on_stage(echo, authorize=forever, accept_timeout=0.05) as stage:
        with anyio.fail_after(5):
            peer = await stage.open()
            await peer.over()
        assert stage.hub.admission.count == 0


@pytest.mark.parametrize("kind", sorted(TOLD_APART - {"GeneratorExit", "StopAsyncIteration"}))
async def test_a_handler_that_raises_anything_frees_its_place(kind: str) -> None:
    """Its connection ends with 1011, and nothing of it remains."""

    closed_events = list[ConnectionClosed]()

    async def handler(websocket: Any) -> None:
        await websocket.accept()
        await websocket.receive_text()
        raise RAISED[kind]()

    async with on_stage(handler, errors=True, hooks=Hooks(on_disconnect=closed_events.append)) as stage:
        peer = await stage.open()
        peer.says("now")
        with anyio.fail_after(5):
            await peer.over()
        assert isinstance(peer.error, Exception)
        assert (stage.hub.admission.count, stage.hub.calls) == (0, set())
    assert [event.code for event in closed_events] == [1011]


async def answers(what: Any) -> Any:
    """Return the value after a checkpoint, or raise it if it is an error."""
    await anyio.lowlevel.checkpoint()
    if isinstance(what, BaseException):
        raise what
    return what


@pytest.fixture
def counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where asyncio does not count the cancellations of a task, before Python 3.11."""
    monkeypatch.setattr("wsstab.loop.usercode.COUNTS_CANCELLATIONS", False)


@pytest.mark.usefixtures("counts_nothing")
async def test_without_counted_cancellations_an_answer_still_arrives() -> None:
    """Python 3.10 does not count them. The value arrives, or the error, or an error with the cause."""
    assert await awaited(answers(7)) == 7
    with pytest.raises(ValueError, match="on purpose"):
        await awaited(answers(ValueError("on purpose")))
    with pytest.raises(Uncaught) as caught:
        await awaited(answers(Odd()))
    assert isinstance(caught.value.__cause__, Odd)


@pytest.mark.usefixtures("counts_nothing")
async def test_without_counted_cancellations_our_own_passes_through() -> None:
    """The user code is cancelled with us, and has cleaned up when we go on."""
    after: list[str] = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            after.append("cleaned up")

    with anyio.move_on_after(0.02) as scope:
        await awaited(wait())
    assert scope.cancelled_caught
    assert after == ["cleaned up"]


@pytest.mark.usefixtures("counts_nothing")
async def test_without_counted_cancellations_only_a_lone_one_is_ours(anyio_backend_name: str) -> None:
    """On trio, no cancellation counts as ours unless we are cancelled."""
    alone = asyncio.CancelledError()
    assert is_cancellation(alone) is (anyio_backend_name == "asyncio")
    assert not is_cancellation(BaseExceptionGroup("on purpose", [alone]))
    assert not is_cancellation(Odd())


def test_without_a_loop_only_closing_a_coroutine_is_a_cancellation() -> None:
    """Code that waits in it must not swallow that."""
    assert is_cancellation(GeneratorExit())
    assert not is_cancellation(asyncio.CancelledError())
    assert not is_cancellation(Odd())


@pytest.mark.parametrize("kind", ENDS)
def test_errors_that_end_the_process_pass_through_an_answer(kind: str) -> None:
    """They are not converted."""

    class Answer:
        def __await__(self) -> Any:
            raise ENDS[kind]()

    with pytest.raises(type(ENDS[kind]())):
        awaited(Answer()).send(None)
