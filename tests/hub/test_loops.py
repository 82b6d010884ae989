"""`wsstab.hub.loops`: the services of each event loop, which begin with its first peer and end with its last."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from tests.support.stage import until
from wsstab import WebSocketConfig
from wsstab.hub.loops import Loops
from wsstab.loop.lingering import Lingering
from wsstab.loop.services import Services

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both backends."""
    return str(request.param)


def loops(retired: Callable[[Services], None] = lambda services: None) -> Loops:
    """The loops of a manager."""
    return Loops(WebSocketConfig(), lambda name, seconds: None, Lingering(lambda place: None), retired)


async def test_each_event_loop_has_one_set_of_services() -> None:
    """They are made when they are first asked for."""
    of = loops()
    assert (of.only(), list(of)) == (None, [])
    services = of.here()
    assert of.here() is services
    assert of.only() is services
    assert list(of) == [services]


async def test_only_returns_none_if_there_are_several_loops() -> None:
    """A single loop that is not the running one does not count either."""
    of, others = loops(), list[Services]()

    async def elsewhere() -> None:
        others.append(of.here())

    await anyio.to_thread.run_sync(anyio.run, elsewhere)
    assert of.only() is None
    services = of.here()
    assert of.only() is None
    assert set(of) == {services, *others}


async def test_the_services_end_with_the_last_peer_unless_started() -> None:
    """Services that end are handed over, so that their counts are kept."""
    retired = list[Services]()
    of = loops(retired.append)
    services = of.here()
    services.connections = 2
    of.leave(services)
    assert (list(of), retired) == ([services], [])
    of.leave(services)
    assert (list(of), retired) == ([], [services])
    again = of.here()
    again.started, again.connections = True, 1
    of.leave(again)
    assert list(of) == [again]
    of.stop()
    of.stop()
    assert (list(of), retired) == ([], [services, again])


async def test_a_stop_keeps_services_that_still_have_peers() -> None:
    """They end with their last peer."""
    of = loops()
    services = of.here()
    services.started, services.connections = True, 1
    of.stop()
    assert list(of) == [services]
    of.leave(services)
    assert list(of) == []


async def test_all_loops_learn_of_a_drain() -> None:
    """Loops that come later do, too."""
    of = loops()
    services = of.here()
    of.drain(True)
    assert (of.draining, services.draining) == (True, True)
    of.leave(services)
    assert of.here().draining
    of.drain(False)
    assert not of.here().draining


async def test_chores_run_periodically_on_each_new_loop() -> None:
    """They get the services of that loop."""
    of, done = loops(), list[Services]()
    of.every(lambda: 0.01, done.append)
    services = of.here()
    services.connections = services.carried = 1
    await until(lambda: len(done) >= 2)
    assert set(done) == {services}
    services.carried = 0
    of.leave(services)


async def test_the_period_of_a_chore_is_determined_when_a_loop_comes() -> None:
    """Endpoints with limits of their own may be defined after the manager."""
    of, asked = loops(), list[bool]()

    def period() -> float:
        asked.append(True)
        return 60.0

    of.every(period, lambda services: None)
    assert asked == []
    services = of.here()
    assert asked == [True]
    services.connections = 1
    of.leave(services)
