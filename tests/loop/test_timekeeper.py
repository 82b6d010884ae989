"""The timekeeper: on a loop turned by hand, and its own task on asyncio and trio."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from tests.support.hand import HandLoop
from wsstab.loop.tasks import current_loop
from wsstab.loop.timekeeper import BUDGET, LONGEST_STEP, TICK, Timekeeper


def build() -> tuple[HandLoop, Timekeeper]:
    """A timekeeper that began at second 100."""
    loop = HandLoop(100.0)
    return loop, Timekeeper(loop)


def tick(loop: HandLoop, timekeeper: Timekeeper, times: int = 1, step: float = TICK) -> bool:
    """Let time pass and tick, so many times; what the last tick answered."""
    answer = False
    for _ in range(times):
        loop.now += step
        answer = timekeeper.tick()
    return answer


def running(loop: HandLoop) -> int:
    """How many ticking tasks were spawned and not cancelled."""
    return sum(not task.cancelled for task in loop.tasks)


def test_a_visit_comes_at_its_time_or_up_to_a_tick_later() -> None:
    """It comes once, with the time of the timekeeper's own clock."""
    loop, timekeeper = build()
    visits: list[float] = []
    timekeeper.schedule(visits.append, 100.25)
    tick(loop, timekeeper, 2)
    assert visits == []
    tick(loop, timekeeper, 3)
    assert visits == [pytest.approx(100.3)]
    assert timekeeper.now == pytest.approx(100.5)


def test_a_cancelled_visit_does_not_come() -> None:
    """Cancelling a visit that has been made does nothing."""
    loop, timekeeper = build()
    visits: list[float] = []
    kept = timekeeper.schedule(visits.append, 100.1)
    timekeeper.cancel(timekeeper.schedule(visits.append, 100.1))
    tick(loop, timekeeper, 3)
    assert len(visits) == 1
    timekeeper.cancel(kept)
    assert tick(loop, timekeeper) is False


def test_a_stall_of_the_loop_times_out_no_peer() -> None:
    """However late a tick comes, it counts for little more than one tick."""
    loop, timekeeper = build()
    visits: list[float] = []
    timekeeper.schedule(visits.append, 105.0)
    assert tick(loop, timekeeper, step=3600.0) is True
    assert timekeeper.now == pytest.approx(100.0 + LONGEST_STEP)
    tick(loop, timekeeper, 47)
    assert visits == []
    tick(loop, timekeeper, 2)
    assert len(visits) == 1


def test_time_stands_still_while_the_clock_goes_backwards() -> None:
    """It goes on when the clock does."""
    loop, timekeeper = build()
    tick(loop, timekeeper, step=-50.0)
    assert timekeeper.now == 100.0
    tick(loop, timekeeper)
    assert timekeeper.now == pytest.approx(100.1)


def test_one_task_ticks_for_all_deadlines() -> None:
    """There is no task before the first deadline."""
    loop, timekeeper = build()
    assert loop.tasks == []
    timekeeper.schedule(lambda now: None, 101.0)
    timekeeper.schedule(lambda now: None, 102.0)
    timekeeper.wake()
    assert running(loop) == 1


def test_a_tick_returns_whether_more_ticks_are_needed() -> None:
    """A deadline ahead needs them, a visited one does not."""
    loop, timekeeper = build()
    assert tick(loop, timekeeper) is False
    timekeeper.schedule(lambda now: None, 100.3)
    assert tick(loop, timekeeper) is True
    assert tick(loop, timekeeper, 2) is False


def test_a_visit_may_schedule_the_next() -> None:
    """Every connection does so."""
    loop, timekeeper = build()
    visits: list[float] = []

    def visit(now: float) -> None:
        visits.append(now)
        timekeeper.schedule(visit, now + 0.45)

    timekeeper.schedule(visit, 100.45)
    assert tick(loop, timekeeper, 21) is True
    assert len(visits) == 4


def test_the_visits_of_one_turn_have_a_budget() -> None:
    """The remaining visits wait for the next turns of the loop."""
    loop, timekeeper = build()
    visits: list[int] = []

    def costly(number: int) -> Callable[[float], None]:
        def visit(now: float) -> None:
            visits.append(number)
            loop.now += BUDGET * 0.6

        return visit

    for number in range(5):
        timekeeper.schedule(costly(number), 100.1)
    assert tick(loop, timekeeper, step=0.11) is True
    assert visits == [0, 1]
    assert loop.turn() == 1
    assert visits == [0, 1, 2, 3]
    loop.turn_until_idle()
    assert visits == [0, 1, 2, 3, 4]


def test_visits_left_over_from_a_turn_need_more_ticks() -> None:
    """This holds also if nothing else is scheduled."""
    loop, timekeeper = build()
    for _ in range(2):
        timekeeper.schedule(lambda now: setattr(loop, "now", loop.now + 1.0), 100.1)
    assert tick(loop, timekeeper, step=0.11) is True
    timekeeper.rest()
    assert running(loop) == 1
    loop.turn_until_idle()
    timekeeper.rest()
    assert running(loop) == 0


def test_a_visit_that_raises_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """The other visits are made, the clock goes on, and the failure is logged."""
    loop, timekeeper = build()
    visits: list[float] = []

    def fail(now: float) -> None:
        raise ValueError("on purpose")

    timekeeper.schedule(fail, 100.1)
    timekeeper.schedule(visits.append, 100.1)
    timekeeper.schedule(visits.append, 100.4)
    assert tick(loop, timekeeper, step=0.11) is True
    assert len(visits) == 1
    assert any(record.exc_info for record in caplog.records)


def test_each_watcher_is_called_at_every_tick() -> None:
    """A watcher that needs ticks does not hide those behind it."""
    loop, timekeeper = build()
    looks: list[tuple[str, float]] = []
    answers = {"first": True, "second": False}

    def watcher(name: str) -> Callable[[float], bool]:
        def look(now: float) -> bool:
            looks.append((name, now))
            return answers[name]

        return look

    for name in answers:
        timekeeper.watch(watcher(name))
    assert tick(loop, timekeeper) is True
    answers["first"] = False
    assert tick(loop, timekeeper) is False
    assert [name for name, _ in looks] == ["first", "second"] * 2
    assert [now for _, now in looks] == [pytest.approx(at) for at in (100.1, 100.1, 100.2, 100.2)]


def test_rest_stops_the_ticks_only_when_no_deadline_is_left() -> None:
    """A deadline keeps them going, a cancelled one does not."""
    loop, timekeeper = build()
    deadline = timekeeper.schedule(lambda now: None, 101.0)
    timekeeper.rest()
    assert running(loop) == 1
    timekeeper.cancel(deadline)
    timekeeper.rest()
    timekeeper.rest()
    assert running(loop) == 0


def test_after_a_rest_the_clock_has_all_the_time_that_passed() -> None:
    """Nobody was waiting, so there is no lag to forgive."""
    loop, timekeeper = build()
    timekeeper.wake()
    timekeeper.rest()
    loop.now = 500.0
    timekeeper.schedule(lambda now: None, 501.0)
    assert timekeeper.now == 500.0
    assert running(loop) == 1


def test_reading_the_clock_brings_it_up_to_date_only_while_nothing_ticks() -> None:
    """While a task ticks, everything between two ticks happens at the same time."""
    loop, timekeeper = build()
    loop.now = 150.0
    assert timekeeper.read() == timekeeper.now == 150.0
    loop.now = 140.0
    assert timekeeper.read() == 150.0
    timekeeper.wake()
    loop.now = 200.0
    assert timekeeper.read() == timekeeper.now == 150.0


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """What waits for real does so on both."""
    return str(request.param)


@pytest.mark.anyio
async def test_on_a_real_loop_the_task_ends_when_nothing_is_left() -> None:
    """It makes the visit, ends by itself, and can be woken again."""
    timekeeper = Timekeeper(current_loop())
    for _ in range(2):
        visited = anyio.Event()
        timekeeper.schedule(lambda now, visited=visited: visited.set(), timekeeper.now)  # type: ignore[misc]
        with anyio.fail_after(5):
            await visited.wait()
            while timekeeper._task is not None:
                await anyio.sleep(0.01)


@pytest.mark.anyio
async def test_a_task_that_ends_does_not_stop_its_successor() -> None:
    """After rest and wake in one turn, the first task cleans up when the second has started."""
    timekeeper = Timekeeper(current_loop())
    visited = anyio.Event()
    timekeeper.wake()
    await anyio.sleep(0.01)
    timekeeper.rest()
    timekeeper.schedule(lambda now: visited.set(), timekeeper.now + 2.5 * TICK)
    second = timekeeper._task
    await anyio.sleep(0.01)
    assert timekeeper._task is second is not None
    with anyio.fail_after(5):
        await visited.wait()
