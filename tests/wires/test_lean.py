"""The lean queue and event: they do what asyncio's own do, as far as a server uses them, with less memory."""

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
    """The lean versions replace those of asyncio."""
    return "asyncio"


@given(st.lists(st.integers(0, 3)))
def test_items_come_out_in_the_order_they_were_put(steps: list[int]) -> None:
    """A step of 0 gets an item, any other step puts one."""
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


async def test_a_waiting_reader_gets_each_item_once() -> None:
    """Items that arrive together are not lost either."""
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


async def test_a_cancelled_get_loses_no_item() -> None:
    """Not even an item that arrived in the same turn of the loop."""
    queue = LeanQueue[str]()
    waiting = asyncio.ensure_future(queue.get())
    await anyio.lowlevel.checkpoint()
    queue.put_nowait("a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await queue.get() == "a"


async def test_a_second_concurrent_get_is_an_error() -> None:
    """It does not disturb the first one."""
    queue = LeanQueue[str]()
    first = asyncio.ensure_future(queue.get())
    await anyio.lowlevel.checkpoint()
    with pytest.raises(RuntimeError, match="two calls"):
        await queue.get()
    queue.put_nowait("a")
    assert await first == "a"


async def test_an_event_wakes_all_waiters_but_the_cancelled_ones() -> None:
    """It is set initially."""
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
    """A server's protocol object, as far as ``make_lean`` uses it."""

    queue: Any
    writable: Any


def protocol(*items: str) -> Protocol:
    """A protocol object that has received these items."""
    made = Protocol(queue=asyncio.Queue(), writable=asyncio.Event())
    made.writable.set()
    for item in items:
        made.queue.put_nowait(item)
    return made


async def test_make_lean_replaces_queue_and_event_and_keeps_the_items() -> None:
    """The queue has at least the event that opens the connection."""
    changed = protocol("connect", "message")
    make_lean(changed)
    assert isinstance(changed.queue, LeanQueue)
    assert isinstance(changed.writable, LeanEvent)
    assert [await changed.queue.get(), await changed.queue.get()] == ["connect", "message"]


async def test_make_lean_does_not_change_a_protocol_that_a_task_may_wait_on() -> None:
    """A task that waits for the old queue or event would wait for ever."""
    read, blocked = protocol(), protocol("connect")
    blocked.writable.clear()
    for each in (read, blocked):
        make_lean(each)
        assert type(each.queue) is asyncio.Queue
        assert type(each.writable) is asyncio.Event


def test_the_lean_versions_take_under_a_tenth_of_the_memory() -> None:
    """Compared with the deques that asyncio's queue and event contain."""
    queue, event = asyncio.Queue[None](), asyncio.Event()
    deques = [queue._queue, queue._getters, event._waiters]  # type: ignore[attr-defined]
    old = sum(sys.getsizeof(each) for each in deques)
    assert (sys.getsizeof(LeanQueue[None]()) + sys.getsizeof(LeanEvent())) * 10 < old
