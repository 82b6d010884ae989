"""A server's queue and event without their deques: what asyncio's own do, as far as a server uses it."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstab.wires.lean import LeanEvent, LeanQueue, make_lean

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """They stand in for asyncio's."""
    return "asyncio"


@given(st.lists(st.integers(0, 3)))
def test_what_is_put_comes_out_in_order(steps: list[int]) -> None:
    """Each step but 0 puts an item; 0 gets one."""
    queue, model, number = LeanQueue[int](), list[int](), 0
    for step in steps:
        if step:
            number += 1
            queue.put_nowait(number)
            model.append(number)
        elif model:
            assert queue.get_nowait() == model.pop(0)
        else:
            with pytest.raises(asyncio.QueueEmpty):
                queue.get_nowait()
        assert (queue.qsize(), queue.empty()) == (len(model), not model)


async def test_whoever_waits_gets_what_is_put() -> None:
    """Once."""
    queue, got = LeanQueue[str](), list[str]()

    async def read() -> None:
        for _ in range(3):
            got.append(await queue.get())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.lowlevel.checkpoint()
            queue.put_nowait("a")
            queue.put_nowait("b")
            await anyio.lowlevel.checkpoint()
            queue.put_nowait("c")
    assert got == ["a", "b", "c"]


async def test_a_get_that_is_cancelled_loses_nothing() -> None:
    """Not even when the item came in the same turn."""
    queue = LeanQueue[str]()
    waiting = asyncio.ensure_future(queue.get())
    await anyio.lowlevel.checkpoint()
    queue.put_nowait("a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await queue.get() == "a"


async def test_two_readers_at_a_time_are_an_error() -> None:
    """The first one is not disturbed by it."""
    queue = LeanQueue[str]()
    first = asyncio.ensure_future(queue.get())
    await anyio.lowlevel.checkpoint()
    with pytest.raises(RuntimeError, match="two calls"):
        await queue.get()
    queue.put_nowait("a")
    assert await first == "a"


async def test_an_event_wakes_all_who_wait_and_forgets_who_left() -> None:
    """It is set at first."""
    event = LeanEvent()
    assert event.is_set()
    assert await event.wait()
    event.clear()
    waiting = [asyncio.ensure_future(event.wait()) for _ in range(3)]
    await anyio.lowlevel.checkpoint()
    waiting[1].cancel()
    await anyio.lowlevel.checkpoint()
    assert [each.done() for each in waiting] == [False, True, False]
    event.set()
    assert await waiting[0]
    assert await waiting[2]
    assert event.is_set()


class Protocol(SimpleNamespace):
    """As much of a server's protocol object as has them."""

    queue: Any
    writable: Any


def protocol(*items: str) -> Protocol:
    """One that has read so much."""
    made = Protocol(queue=asyncio.Queue(), writable=asyncio.Event())
    made.writable.set()
    for item in items:
        made.queue.put_nowait(item)
    return made


async def test_a_protocol_object_gets_them_with_all_that_waits() -> None:
    """Which is the beginning of the connection, at least."""
    changed = protocol("connect", "message")
    make_lean(changed)
    assert isinstance(changed.queue, LeanQueue)
    assert isinstance(changed.writable, LeanEvent)
    assert [await changed.queue.get(), await changed.queue.get()] == ["connect", "message"]


async def test_one_that_somebody_may_wait_for_stays_as_it_is() -> None:
    """Whoever waits for the old queue would wait for ever."""
    read, blocked = protocol(), protocol("connect")
    blocked.writable.clear()
    for each in (read, blocked):
        make_lean(each)
        assert type(each.queue) is asyncio.Queue
        assert type(each.writable) is asyncio.Event


def test_they_are_lean() -> None:
    """Under a tenth of what they replace."""
    queue, event = asyncio.Queue[None](), asyncio.Event()
    deques = [queue._queue, queue._getters, event._waiters]  # type: ignore[attr-defined]
    old = sum(sys.getsizeof(each) for each in deques)
    assert (sys.getsizeof(LeanQueue[None]()) + sys.getsizeof(LeanEvent())) * 10 < old
