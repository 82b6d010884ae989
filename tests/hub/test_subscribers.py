"""Subscribers: which callbacks get an event, and what happens if callbacks fail, hang or are too many."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from wsstab import Hooks, TokenIssued, TokenUsed
from wsstab.events import Event
from wsstab.hub.subscribers import MAX_DEPTH, Subscribers


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Async callbacks run on both backends."""
    return str(request.param)


async def turn(count: int = 5) -> None:
    """Let other tasks run."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


def test_a_callback_gets_the_events_of_its_class() -> None:
    """It gets no others."""
    subscribers, heard = Subscribers(), list[Event]()
    subscribers.add(TokenIssued, heard.append)
    subscribers.emit(TokenIssued("ann"))
    subscribers.emit(TokenUsed("ann"))
    assert heard == [TokenIssued("ann")]


def test_a_callback_of_the_base_class_gets_all_events() -> None:
    """Events of subclasses count."""
    subscribers, heard = Subscribers(), list[Event]()
    subscribers.add(Event, heard.append)
    subscribers.emit(TokenIssued("ann"))
    subscribers.emit(TokenUsed("ann"))
    assert heard == [TokenIssued("ann"), TokenUsed("ann")]


def test_callbacks_of_one_class_are_called_in_the_order_of_registration() -> None:
    """One that is registered twice is called twice."""
    subscribers, heard = Subscribers(), list[str]()
    for name in ("first", "second", "first"):
        subscribers.add(TokenIssued, functools.partial(lambda name, event: heard.append(name), name))
    subscribers.emit(TokenIssued("ann"))
    assert heard == ["first", "second", "first"]


def test_add_returns_the_callback() -> None:
    """It can thus be used as a decorator."""

    def callback(event: Event) -> None:
        """Ignore the event."""

    assert Subscribers().add(Event, callback) is callback


def test_hooks_are_callbacks_that_are_registered_first() -> None:
    """The configuration and ``on()`` share one mechanism."""
    heard: list[str] = []
    subscribers = Subscribers(Hooks(on_token_issued=lambda event: heard.append("hook")))
    subscribers.add(TokenIssued, lambda event: heard.append("callback"))
    subscribers.emit(TokenIssued("ann"))
    assert heard == ["hook", "callback"]


@pytest.mark.parametrize("event_class", [int, "TokenIssued", TokenIssued("ann"), None])
def test_registering_for_anything_but_an_event_class_raises(event_class: Any) -> None:
    """It raises at registration, where the mistake is easy to find."""
    with pytest.raises(TypeError, match="takes a class of wsstab events"):
        Subscribers().add(event_class, print)


def test_registering_an_object_that_is_not_callable_raises() -> None:
    """The error shows the object."""
    callback: Any = "print"
    with pytest.raises(TypeError, match="takes a callable, not 'print'"):
        Subscribers().add(Event, callback)


def test_wants_tells_whether_anybody_would_get_an_event() -> None:
    """An event that nobody wants need not be made. Callbacks of a base class count."""
    subscribers = Subscribers()
    assert not subscribers.wants(TokenIssued)
    subscribers.add(TokenUsed, print)
    assert not subscribers.wants(TokenIssued)
    subscribers.add(Event, print)
    assert subscribers.wants(TokenIssued)


def test_a_callback_that_raises_is_logged_and_the_others_still_run(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the traceback, and the emitting code notices nothing."""
    subscribers, heard = Subscribers(), list[Event]()

    def fail(event: Event) -> None:
        raise ValueError("on purpose")

    subscribers.add(TokenIssued, fail)
    subscribers.add(TokenIssued, heard.append)
    subscribers.emit(TokenIssued("ann"))
    assert heard == [TokenIssued("ann")]
    (record,) = caplog.records
    assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)
    assert "failed for TokenIssued" in record.message


def test_without_an_event_loop_an_async_callback_is_skipped_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing could run it, and no coroutine is left unawaited."""
    subscribers, heard = Subscribers(), list[Event]()

    async def hear(event: Event) -> None:
        heard.append(event)

    subscribers.add(TokenIssued, hear)
    subscribers.emit(TokenIssued("ann"))
    assert heard == []
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "skipped for TokenIssued" in caplog.text


def test_without_an_event_loop_any_awaitable_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """A callback may return an awaitable that is no coroutine."""

    class Answer:
        def __await__(self) -> Iterator[None]:
            raise AssertionError("nobody should await this")

    subscribers = Subscribers()
    subscribers.add(TokenIssued, lambda event: Answer())
    subscribers.emit(TokenIssued("ann"))
    assert "skipped for TokenIssued" in caplog.text


@pytest.mark.anyio
async def test_an_async_callback_runs_in_the_background() -> None:
    """Emitting does not wait for it."""
    subscribers, heard = Subscribers(), list[Event]()

    async def hear(event: Event) -> None:
        heard.append(event)

    subscribers.add(TokenIssued, hear)
    subscribers.emit(TokenIssued("ann"))
    assert heard == []
    await turn()
    assert heard == [TokenIssued("ann")]


@pytest.mark.anyio
async def test_the_awaitable_that_a_plain_callback_returns_is_awaited() -> None:
    """A lambda around an async function returns one."""
    subscribers, heard = Subscribers(), list[Event]()

    async def hear(event: Event) -> None:
        heard.append(event)

    subscribers.add(TokenIssued, lambda event: hear(event))
    subscribers.emit(TokenIssued("ann"))
    await turn()
    assert heard == [TokenIssued("ann")]


@pytest.mark.anyio
async def test_an_async_callback_that_raises_is_logged_with_the_event(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and is no longer pending."""
    subscribers = Subscribers()

    async def fail(event: Event) -> None:
        raise ValueError("on purpose")

    subscribers.add(TokenIssued, fail)
    subscribers.emit(TokenIssued("ann"))
    await turn()
    (record,) = caplog.records
    assert "failed for TokenIssued" in record.message
    assert record.exc_info is not None
    assert subscribers._pending == 0


@pytest.mark.anyio
async def test_the_number_of_pending_callbacks_is_bounded(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound callbacks are skipped and logged; once some have ended, there is room again."""
    monkeypatch.setattr("wsstab.hub.subscribers.MAX_PENDING", 2)
    subscribers, go, heard = Subscribers(), anyio.Event(), list[str]()

    async def hang(event: Event) -> None:
        await go.wait()
        assert isinstance(event, TokenIssued)
        heard.append(event.client_id)

    subscribers.add(TokenIssued, hang)
    for name in ("ann", "bob", "cid"):
        subscribers.emit(TokenIssued(name))
    assert "skipped for TokenIssued: 2 are pending" in caplog.text
    go.set()
    await turn()
    subscribers.emit(TokenIssued("dan"))
    await turn()
    assert sorted(heard) == ["ann", "bob", "dan"]


def test_registering_a_callback_that_takes_no_argument_raises() -> None:
    """It would fail at each event."""

    def nothing() -> None:
        """Take no argument."""

    with pytest.raises(TypeError, match="takes a callable of one argument, the event"):
        Subscribers().add(Event, nothing)


def test_an_event_without_callbacks_is_dropped() -> None:
    """A callback that is added later gets only later events."""
    subscribers, heard = Subscribers(), list[Event]()
    subscribers.emit(TokenIssued("ann"))
    subscribers.add(Event, heard.append)
    subscribers.emit(TokenIssued("bob"))
    assert heard == [TokenIssued("bob")]


def test_callbacks_that_cause_each_other_s_events_are_stopped(caplog: pytest.LogCaptureFixture) -> None:
    """The log says so, and later events are delivered again."""
    subscribers, heard = Subscribers(), list[Event]()

    def again(event: Event) -> None:
        heard.append(event)
        subscribers.emit(TokenUsed("ann") if isinstance(event, TokenIssued) else TokenIssued("ann"))

    subscribers.add(Event, again)
    for _ in range(2):
        heard.clear()
        subscribers.emit(TokenIssued("ann"))
        assert len(heard) == MAX_DEPTH
    assert caplog.text.count("callbacks cause each other's events without end") == 2


def test_log_lines_about_callbacks_respect_the_budget_of_their_kind(caplog: pytest.LogCaptureFixture) -> None:
    """Peers can cause events, and thereby these lines, at will; ``may_tell`` is asked by the name of the kind."""
    kinds: list[str] = []

    def may_tell(kind: str) -> bool:
        kinds.append(kind)
        return False

    async def hear(event: Event) -> None:
        raise AssertionError("there is no loop that could run this")

    def fail(event: Event) -> None:
        raise ValueError("on purpose")

    subscribers = Subscribers(may_tell=may_tell)
    subscribers.add(TokenIssued, hear)
    subscribers.add(TokenUsed, fail)
    subscribers.emit(TokenIssued("ann"))
    subscribers.emit(TokenUsed("ann"))
    assert kinds == ["callback skipped for TokenIssued", "callback failed for TokenUsed"]
    assert caplog.records == []


@pytest.mark.anyio
async def test_idle_waits_for_pending_callbacks_for_a_bounded_time() -> None:
    """Afterwards ``cancel`` ends those that hang."""
    subscribers, go, ended = Subscribers(), anyio.Event(), list[str]()

    async def hang(event: Event) -> None:
        try:
            await go.wait()
            ended.append("done")
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    subscribers.add(TokenIssued, hang)
    subscribers.emit(TokenIssued("ann"))
    await turn()
    await subscribers.idle(0.02)
    assert (subscribers._pending, ended) == (1, [])
    go.set()
    await subscribers.idle(5)
    assert (subscribers._pending, ended) == (0, ["done"])
    go = anyio.Event()
    subscribers.emit(TokenIssued("bob"))
    await turn()
    subscribers.cancel()
    await subscribers.idle(5)
    assert (subscribers._pending, ended) == (0, ["done", "cancelled"])


@pytest.mark.anyio
async def test_a_callback_that_is_cancelled_before_it_starts_never_runs() -> None:
    """Its coroutine is closed, so there is no warning about it."""
    subscribers, heard = Subscribers(), list[Event]()

    async def hear(event: Event) -> None:
        heard.append(event)

    subscribers.add(TokenIssued, hear)
    subscribers.emit(TokenIssued("ann"))
    subscribers.cancel()
    await subscribers.idle(5)
    assert (subscribers._pending, heard) == (0, [])


@pytest.mark.anyio
async def test_a_callback_may_wait_until_the_others_have_ended() -> None:
    """It does not wait for itself, nor does it cancel itself."""
    subscribers, order = Subscribers(), list[str]()

    async def last(event: Event) -> None:
        await subscribers.idle(5)
        subscribers.cancel()
        await anyio.lowlevel.checkpoint()
        order.append("last")

    async def first(event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        order.append("first")

    subscribers.add(TokenIssued, last)
    subscribers.add(TokenIssued, first)
    subscribers.emit(TokenIssued("ann"))
    await subscribers.idle(5)
    assert order == ["first", "last"]
