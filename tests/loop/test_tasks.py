"""How work is spawned: the same promises on asyncio and on trio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import weakref
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio

from wsstab.loop.tasks import EventLoop, Latch, begin, begins_in_creator, current_loop, eager_loop

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


def in_a_thread(backend: str) -> EventLoop:
    """The loop of a run that is over, made in a thread of its own."""
    found: list[EventLoop] = []
    thread = threading.Thread(target=lambda: found.append(anyio.run(look, backend=backend)))
    thread.start()
    thread.join()
    return found[0]


async def turn(count: int = 5) -> None:
    """Let others run."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def look() -> EventLoop:
    """The loop that runs this."""
    return current_loop()


async def test_current_loop_returns_one_object_for_each_loop() -> None:
    """It is the same object in all tasks of one run."""
    loop, found = current_loop(), list[EventLoop]()

    async def look_again() -> None:
        found.append(await look())

    async with anyio.create_task_group() as group:
        group.start_soon(look_again)
    assert found == [loop]


async def test_two_loops_have_two_objects(anyio_backend: str) -> None:
    """A run never gets the loop of another run."""
    assert in_a_thread(anyio_backend) is not current_loop()


async def test_current_loop_raises_outside_of_a_loop() -> None:
    """A thread without a loop gets an error."""
    with pytest.raises(RuntimeError, match="no event loop is running in this thread"):
        await anyio.to_thread.run_sync(current_loop)


async def test_the_clock_of_a_loop_is_the_monotonic_clock() -> None:
    """The rest of the package reads the same clock."""
    before = time.monotonic()
    assert before <= current_loop().time() <= time.monotonic()


async def test_spawned_work_runs_in_the_background() -> None:
    """It gets its arguments, and does not start before the caller goes on."""
    seen, done = list[tuple[int, str]](), anyio.Event()

    async def work(number: int, text: str) -> None:
        seen.append((number, text))
        done.set()

    current_loop().spawn(work, 1, "one")
    assert seen == []
    await done.wait()
    assert seen == [(1, "one")]


async def test_an_error_of_background_work_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The line has the name of the work and the traceback, and nothing else is harmed."""
    done = anyio.Event()

    async def work() -> None:
        try:
            raise ValueError("on purpose")
        finally:
            done.set()

    with caplog.at_level(logging.ERROR, "wsstab"):
        current_loop().spawn(work)
        await done.wait()
        await turn()
    (record,) = caplog.records
    assert "background work failed" in record.message
    assert "work" in record.message
    assert record.exc_info is not None


async def test_background_work_outlives_the_scope_it_was_spawned_in() -> None:
    """Cancelling the caller does not cancel the work that it started."""
    go, done = anyio.Event(), anyio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    with anyio.CancelScope() as scope:
        current_loop().spawn(work)
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    go.set()
    with anyio.fail_after(5):
        await done.wait()


async def test_background_work_needs_no_reference_to_stay_alive() -> None:
    """The loop itself would let it be garbage-collected."""
    collected = list[bool]()

    async def work() -> None:
        try:
            await anyio.Event().wait()
        except GeneratorExit:
            collected.append(True)
            raise

    task = weakref.ref(current_loop().spawn(work))
    await turn()
    gc.collect()
    kept = task()
    assert kept is not None
    assert collected == []
    kept.cancel()
    await turn()


async def test_cancelled_work_stops_at_its_next_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged, and its clean-up runs."""
    started, cleaned = anyio.Event(), anyio.Event()

    async def work() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.set()

    task = current_loop().spawn(work)
    await started.wait()
    task.cancel()
    with anyio.fail_after(5):
        await cleaned.wait()
    task.cancel()
    await turn()
    assert caplog.records == []


async def test_work_that_is_cancelled_before_it_starts_stops_at_once() -> None:
    """Nothing behind its first checkpoint runs."""
    seen = list[str]()

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        seen.append("ran")

    current_loop().spawn(work).cancel()
    await turn()
    assert seen == []


async def test_callbacks_of_a_later_turn_run_in_order() -> None:
    """They do not run at once, and each gets its arguments."""
    seen, done = list[int](), anyio.Event()
    loop = current_loop()
    for number in range(3):
        loop.call_soon(seen.append, number)
    loop.call_soon(done.set)
    assert seen == []
    await done.wait()
    assert seen == [0, 1, 2]


async def test_another_thread_can_hand_over_a_call() -> None:
    """The call runs on the loop, and the thread learns that it will."""
    loop, done, where = current_loop(), anyio.Event(), list[int]()

    def arrive() -> None:
        where.append(threading.get_ident())
        done.set()

    assert await anyio.to_thread.run_sync(lambda: loop.call_from_thread(arrive))
    with anyio.fail_after(5):
        await done.wait()
    assert where == [threading.get_ident()]


async def test_a_loop_that_has_ended_takes_no_calls(anyio_backend: str) -> None:
    """The caller learns that, and nothing runs."""
    loop, seen = in_a_thread(anyio_backend), list[int]()
    assert loop.call_from_thread(seen.append, 1) is False
    assert seen == []


async def test_a_latch_that_is_set_lets_everyone_pass() -> None:
    """Setting it twice changes nothing."""
    latch = Latch()
    assert not latch.is_set
    latch.set()
    latch.set()
    assert latch.is_set
    with anyio.fail_after(1):
        await latch.wait()


async def test_a_latch_that_is_set_while_a_waiter_enrols_does_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may set it before the waiter is on the list."""
    latch, loop = Latch(), current_loop()

    def overtaken() -> EventLoop:
        latch.set()
        return loop

    monkeypatch.setattr("wsstab.loop.tasks.current_loop", overtaken)
    with anyio.fail_after(1):
        await latch.wait()


async def test_a_latch_wakes_all_waiters() -> None:
    """Each wakes once, and none before the latch is set."""
    latch, woken = Latch(), list[int]()

    async def wait(number: int) -> None:
        await latch.wait()
        woken.append(number)

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(wait, number)
        await turn()
        assert woken == []
        latch.set()
    assert sorted(woken) == [0, 1, 2]


async def test_a_latch_wakes_waiters_on_other_loops(anyio_backend: str) -> None:
    """Each waiter wakes on its own loop, whoever sets the latch."""
    latch, waiting = Latch(), threading.Event()

    async def wait() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(latch.wait)
            await turn()
            waiting.set()

    thread = threading.Thread(target=lambda: anyio.run(wait, backend=anyio_backend))
    thread.start()
    await anyio.to_thread.run_sync(waiting.wait)
    latch.set()
    await anyio.to_thread.run_sync(lambda: thread.join(5))
    assert not thread.is_alive()


async def test_a_latch_can_be_set_when_a_waiter_s_loop_has_ended(anyio_backend: str) -> None:
    """The others wake, also those behind it."""
    latch = Latch()
    ended, _ = await anyio.to_thread.run_sync(run_and_forget, anyio_backend)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(latch.wait)
            while latch._waiting is None:
                await anyio.lowlevel.checkpoint()
            latch._waiting.insert(0, (ended, anyio.Event()))
            latch.set()
    assert latch.is_set


def run_and_forget(backend: str) -> tuple[EventLoop, weakref.ref[object]]:
    """What is left of a loop that nobody holds any more."""
    if backend == "trio":
        return anyio.run(look_at_trio, backend="trio")
    loop = asyncio.new_event_loop()
    kept = loop.run_until_complete(look())
    loop.close()
    return kept, weakref.ref(loop)


async def look_at_trio() -> tuple[EventLoop, weakref.ref[object]]:
    """trio has no loop to hold, but a token."""
    return current_loop(), weakref.ref(trio.lowlevel.current_trio_token())


async def test_a_garbage_collected_loop_takes_no_calls(anyio_backend: str) -> None:
    """The table of loops keeps none alive, and the object that is left of one is harmless."""
    kept, gone = await anyio.to_thread.run_sync(run_and_forget, anyio_backend)
    gc.collect()
    assert gone() is None
    assert kept.call_from_thread(print, "never") is False
    kept.call_soon(print, "never")


async def test_work_starts_in_the_order_it_was_spawned() -> None:
    """trio by itself starts the tasks of one batch in any order."""
    seen, done = list[int](), anyio.Event()

    async def work(number: int) -> None:
        seen.append(number)
        if len(seen) == 20:
            done.set()

    for number in range(20):
        current_loop().spawn(work, number)
    with anyio.fail_after(5):
        await done.wait()
    assert seen == list(range(20))


def test_current_loop_raises_the_same_error_without_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """trio is not a dependency."""
    monkeypatch.setitem(sys.modules, "trio", None)
    with pytest.raises(RuntimeError, match="no event loop is running in this thread"):
        current_loop()


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def note_who(found: list[str]) -> None:
    """Note who this is, and become somebody else."""
    found.append(WHO.get())
    WHO.set("changed")


async def test_work_for_many_connections_does_not_inherit_a_context() -> None:
    """It must not see context variables of the handler that happens to start it."""
    found: list[str] = []
    WHO.set("ann")
    current_loop().spawn(note_who, found)
    await turn()
    assert found == ["nobody"]


async def test_work_for_one_connection_runs_in_a_copy_of_the_given_context() -> None:
    """Each piece of work has its own copy, and no change comes back."""
    found: list[str] = []
    WHO.set("ann")
    context = contextvars.copy_context()
    WHO.set("bob")
    for _ in range(2):
        current_loop().spawn(note_who, found, context=context)
    await turn()
    assert (found, context[WHO], WHO.get()) == (["ann", "ann"], "ann", "bob")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_factory_does_not_start_work_before_spawn_returns() -> None:
    """An eager one would: the work would miss the attribute in which its creator keeps the task."""
    ran: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager)
    try:
        task = current_loop().spawn(note_who, ran)
        assert (task is not None, ran) == (True, [])
        await turn()
    finally:
        loop.set_task_factory(None)
    assert ran == ["nobody"]


def eager(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Future[Any]:
    """What ``asyncio.eager_task_factory`` of Python 3.12 does to a task that does not suspend."""
    done = loop.create_future()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    done.set_result(None)
    return done


def test_begin_runs_a_coroutine_at_once_and_continues_in_the_background() -> None:
    """It runs in a copy of the caller's context and is kept while it runs; from Python 3.12 on."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    seen = list[str]()

    async def work(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        seen.append(name.get())
        name.set("somebody else")

    async def main() -> None:
        loop = eager_loop()
        assert (loop is None) == (sys.version_info < (3, 12))
        if loop is None:
            return
        name.set("ann")
        assert begin(work(0), loop) is None
        assert seen == ["ann"]
        assert name.get() == "ann"
        assert begin(work(2), loop) is not None
        gc.collect()
        while len(seen) < 2:
            await asyncio.sleep(0)
        assert seen == ["ann", "ann"]
        pending = begin(work(100), loop)
        assert pending is not None
        pending.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(seen) == 2

    asyncio.run(main())


async def test_a_task_may_begin_in_its_creator_only_with_a_task_factory(anyio_backend_name: str) -> None:
    """trio has no task factory."""
    assert not begins_in_creator()
    if anyio_backend_name == "trio":
        return
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coroutine, **more: asyncio.Task(coroutine, loop=loop, **more))
    try:
        assert begins_in_creator()
    finally:
        loop.set_task_factory(None)
