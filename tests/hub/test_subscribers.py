"""Who hears of events, and what becomes of callbacks that fail, hang or are too many."""

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
    """Async callbacks run on both."""
    return str(request.param)


async def turn(count: int = 5) -> None:
    """Let others run."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


def test_a_callback_hears_the_events_of_its_class() -> None:
    """And no others."""
    subscribers, heard = Subscribers(), list[Event]()
    subscribers.add(TokenIssued, heard.append)
    subscribers.emit(TokenIssued("ann"))
    subscribers.emit(TokenUsed("ann"))
    assert heard == [TokenIssued("ann")]


def test_a_callback_on_the_root_hears_everything() -> None:
    """Classes below the one that was named count."""
    subscribers, heard = Subscribers(), list[Event]()
    subscribers.add(Event, heard.append)
    subscribers.emit(TokenIssued("ann"))
    subscribers.emit(TokenUsed("ann"))
    assert heard == [TokenIssued("ann"), TokenUsed("ann")]


def test_callbacks_of_one_class_are_called_in_the_order_of_registration() -> None:
    """Also the same one twice."""
    subscribers, heard = Subscribers(), list[str]()
    for name in ("first", "second", "first"):
        subscribers.add(TokenIssued, functools.partial(lambda name, event: heard.append(name), name))
    subscribers.emit(TokenIssued("ann"))
    assert heard == ["first", "second", "first"]


def test_adding_gives_the_callback_back() -> None:
    """So that it can be used as a decorator."""

    def callback(event: Event) -> None:
        """Hear nothing."""

    assert Subscribers().add(Event, callback) is callback


def test_hooks_are_the_same_mechanism() -> None:
    """Those of the configuration are registered first."""
    heard: list[str] = []
    subscribers = Subscribers(Hooks(on_token_issued=lambda event: heard.append("hook")))
    subscribers.add(TokenIssued, lambda event: heard.append("callback"))
    subscribers.emit(TokenIssued("ann"))
    assert heard == ["hook", "callback"]


@pytest.mark.parametrize("event_class", [int, "TokenIssued", TokenIssued("ann"), None])
def test_what_is_no_class_of_events_is_refused(event_class: Any) -> None:
    """At registration, when it can still be seen who was wrong."""
    with pytest.raises(TypeError, match="takes a class of wsstab events"):
        Subscribers().add(event_class, print)


def test_what_cannot_be_called_is_refused() -> None:
    """The message shows it."""
    callback: Any = "print"
    with pytest.raises(TypeError, match="takes a callable, not 'print'"):
        Subscribers().add(Event, callback)


def test_an_event_that_nobody_hears_need_not_be_made() -> None:
    """Whoever listens to a class above it hears it."""
    subscribers = Subscribers()
    assert not subscribers.wants(TokenIssued)
    subscribers.add(TokenUsed, print)
    assert not subscribers.wants(TokenIssued)
    subscribers.add(Event, print)
    assert subscribers.wants(TokenIssued)


def test_a_callback_that_raises_is_logged_and_the_others_hear_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback; whoever emitted notices nothing."""
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


def test_without_a_loop_an_async_callback_is_skipped_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing that could run it, and no coroutine is left behind."""
    subscribers, heard = Subscribers(), list[Event]()

    async def hear(event: Event) -> None:
        heard.append(event)

    subscribers.add(TokenIssued, hear)
    subscribers.emit(TokenIssued("ann"))
    assert heard == []
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "skipped for TokenIssued" in caplog.text


def test_without_a_loop_an_awaitable_of_any_kind_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """Not only coroutines can be awaited."""

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
async def test_a_plain_callback_that_gives_an_awaitable_is_awaited() -> None:
    """As a lambda around an async function does."""
    subscribers, heard = Subscribers(), list[Event]()

    async def hear(event: Event) -> None:
        heard.append(event)

    subscribers.add(TokenIssued, lambda event: hear(event))
    subscribers.emit(TokenIssued("ann"))
    await turn()
    assert heard == [TokenIssued("ann")]


@pytest.mark.anyio
async def test_an_async_callback_that_raises_is_logged_with_the_event(caplog: pytest.LogCaptureFixture) -> None:
    """Once, and it is under way no more."""
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
async def test_callbacks_that_hang_do_not_eat_the_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound they are skipped with a line in the log; once some have ended, there is room again."""
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


def test_a_callback_that_takes_no_event_is_refused() -> None:
    """It would fail at each event."""

    def nothing() -> None:
        """Take no argument."""

    with pytest.raises(TypeError, match="takes a callable of one argument, the event"):
        Subscribers().add(Event, nothing)


def test_without_callbacks_an_event_goes_nowhere() -> None:
    """And harms nobody; one that comes later hears only what comes later."""
    subscribers, heard = Subscribers(), list[Event]()
    subscribers.emit(TokenIssued("ann"))
    subscribers.add(Event, heard.append)
    subscribers.emit(TokenIssued("bob"))
    assert heard == [TokenIssued("bob")]


def test_callbacks_that_cause_each_other_s_events_come_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    """With a line in the log; later events are told again."""
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


def test_lines_that_strangers_cause_are_told_as_often_as_may_be(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind is asked for by its name."""
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
async def test_idle_waits_for_what_is_under_way_but_only_so_long() -> None:
    """A callback that hangs is cancelled, one that is about to end is waited for."""
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
async def test_a_callback_that_is_cancelled_before_it_has_begun_never_runs() -> None:
    """And its coroutine is left to nobody."""
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
    """It does not wait for itself, nor cancel itself."""
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
