"""What runs on one event loop: chores, and the last abort."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from tests.support.hand import HandLoop
from wsstab import WebSocketConfig
from wsstab.core.frames import Outgoing
from wsstab.loop.lingering import Lingering
from wsstab.loop.services import Services
from wsstab.loop.timekeeper import TICK
from wsstab.loop.turn_log import Entry
from wsstab.wires.base import Wire
from wsstab.wires.traits import TRAITS


class PingingWire(Wire):
    """A wire with pings of its own, and an abort that is counted."""

    traits = TRAITS["uvicorn websockets-sansio"]

    def __init__(self) -> None:
        super().__init__()
        self.aborts = 0

    def abort(self) -> None:
        """Count."""
        self.aborts += 1


class Studio:
    """The services of a loop turned by hand."""

    def __init__(self, **options: Any) -> None:
        self.loop = HandLoop()
        self.config = WebSocketConfig(**options).frozen()
        self.observed: list[tuple[str, float]] = []
        self.lingering = Lingering(lambda place: None)
        self.services = Services(
            self.loop, self.config, lambda name, seconds: self.observed.append((name, seconds)), self.lingering
        )

    def wait(self, seconds: float) -> bool:
        """Let time pass, tick by tick; what the last tick answered."""
        answer = False
        for _ in range(round(seconds / TICK)):
            self.loop.now += TICK
            answer = self.services.timekeeper.tick()
        return answer


def test_a_loop_without_connections_does_not_tick() -> None:
    """Making the services starts no task."""
    at = Studio()
    assert at.loop.tasks == []
    assert at.wait(TICK) is False


def test_the_clock_ticks_while_a_connection_is_open() -> None:
    """Every deadline of the connection is measured by that clock."""
    at = Studio()
    at.services.carried = 1
    assert at.wait(TICK) is True
    at.services.carried = 0
    assert at.wait(TICK) is False


def test_a_chore_runs_at_its_interval() -> None:
    """The first run comes after one interval, not at once."""
    at, done = Studio(), list[float]()
    at.services.every(1.05, lambda: done.append(at.services.timekeeper.now))
    at.wait(1.0)
    assert done == []
    at.wait(2.5)
    assert done == [pytest.approx(101.1), pytest.approx(102.2), pytest.approx(103.3)]


def test_each_chore_has_its_own_interval() -> None:
    """One chore does not delay another."""
    at, done = Studio(), list[str]()
    at.services.every(1.05, lambda: done.append("often"))
    at.services.every(2.55, lambda: done.append("seldom"))
    at.wait(3.5)
    assert done == ["often", "often", "seldom", "often"]


def test_a_chore_that_fails_runs_again_at_its_next_time(caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged, and other chores run."""
    at, done = Studio(), list[str]()

    def fail() -> None:
        done.append("failed")
        raise ValueError("on purpose")

    at.services.every(1.05, fail)
    at.services.every(1.05, lambda: done.append("done"))
    at.wait(2.5)
    assert sorted(done) == ["done", "done", "failed", "failed"]
    assert any(record.exc_info for record in caplog.records)


def test_retired_services_run_no_chores_and_do_not_tick() -> None:
    """They retire with the last connection of their loop."""
    at, done = Studio(), list[str]()
    at.services.every(1.05, lambda: done.append("done"))
    at.wait(1.5)
    at.services.retire()
    assert [task.cancelled for task in at.loop.tasks] == [True]
    assert at.wait(3.0) is False
    assert done == ["done"]


def test_a_chore_may_retire_the_services() -> None:
    """A memory check may evict the last connection: nothing fails, and the chore does not run again."""
    at, done = Studio(), list[str]()

    def evict_the_last() -> None:
        done.append("done")
        at.services.retire()

    at.services.every(1.05, evict_the_last)
    assert at.wait(3.0) is False
    assert done == ["done"]


def test_a_close_that_is_under_way_keeps_retired_services_ticking() -> None:
    """The deadline of the close must still act."""
    at, wire = Studio(), PingingWire()
    at.services.every(60.0, lambda: None)
    at.services.abort_later(wire, 1.05)
    at.services.retire()
    assert [task.cancelled for task in at.loop.tasks] == [False]
    at.wait(1.5)
    assert wire.aborts == 1


def test_abort_later_aborts_a_peer_that_has_not_left_in_time() -> None:
    """The abort comes at its time and not before."""
    at, wire = Studio(), PingingWire()
    at.services.abort_later(wire, 1.05)
    at.wait(1.0)
    assert wire.aborts == 0
    at.wait(0.5)
    assert wire.aborts == 1


def test_abort_later_spares_a_peer_that_leaves_in_time() -> None:
    """The deadline is cancelled, so nothing keeps the clock ticking."""
    at, wire = Studio(), PingingWire()
    at.services.abort_later(wire, 1.05)
    wire.on_lost()
    assert at.wait(3.0) is False
    assert wire.aborts == 0


def test_abort_later_schedules_nothing_for_a_lost_connection() -> None:
    """There is nothing left to abort."""
    at, wire = Studio(), PingingWire()
    wire.lost = True
    at.services.abort_later(wire, 1.05)
    assert (at.loop.tasks, at.wait(3.0), wire.aborts) == ([], False, 0)


def test_the_duration_of_a_broadcast_is_observed_under_its_name() -> None:
    """It lasts from the first entry to the last write."""
    at = Studio()
    at.services.turn_log.append(Entry(Outgoing("1"), set()))
    at.loop.now += 0.25
    at.loop.turn_until_idle()
    ((name, seconds),) = at.observed
    assert name == "broadcast"
    assert seconds == pytest.approx(0.25)


def test_the_writer_s_slices_come_from_the_configuration() -> None:
    """The option is ``max_concurrent_broadcast``."""
    assert Studio(max_concurrent_broadcast=7).services.turn_log._slice_size == 7


def test_a_closing_connection_is_forgotten_by_backpressure_and_read_ahead() -> None:
    """It must neither count as slow nor get a reader."""
    at = Studio()
    carrier, connection = Mock(), Mock(wire=Wire())
    carrier.peer.closing.event = None
    connection.carrier, connection.config = carrier, at.config
    connection.sender.messages = connection.sender.bytes = connection.sender.queue.dropped = 0
    at.services.readahead.away(carrier)
    at.services.backpressure.behind(connection)
    assert len(at.services.backpressure.lagging) == 1
    assert at.wait(TICK) is True
    at.services.forget(connection)
    assert at.services.backpressure.lagging == {}
    assert at.wait(TICK) is False
