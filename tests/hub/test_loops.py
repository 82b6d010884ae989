"""`wsstab.hub.loops`: the services of each event loop, which come with its first peer and go with its last."""

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
    """Each test runs on both."""
    return str(request.param)


def loops(retired: Callable[[Services], None] = lambda services: None) -> Loops:
    """Those of a manager."""
    return Loops(WebSocketConfig(), lambda name, seconds: None, Lingering(lambda place: None), retired)


async def test_a_loop_has_one_set_of_services() -> None:
    """Made when they are first asked for."""
    of = loops()
    assert (of.only(), list(of)) == (None, [])
    services = of.here()
    assert of.here() is services
    assert of.only() is services
    assert list(of) == [services]


async def test_with_several_loops_none_is_the_only_one() -> None:
    """Nor is one that does not run here."""
    of, others = loops(), list[Services]()

    async def elsewhere() -> None:
        others.append(of.here())

    await anyio.to_thread.run_sync(anyio.run, elsewhere)
    assert of.only() is None
    services = of.here()
    assert of.only() is None
    assert set(of) == {services, *others}


async def test_the_last_peer_takes_the_services_with_it() -> None:
    """Unless they were started; what they counted is kept."""
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


async def test_a_stop_leaves_those_that_have_peers() -> None:
    """They go with the last of them."""
    of = loops()
    services = of.here()
    services.started, services.connections = True, 1
    of.stop()
    assert list(of) == [services]
    of.leave(services)
    assert list(of) == []


async def test_all_loops_hear_of_a_drain() -> None:
    """Those that come later too."""
    of = loops()
    services = of.here()
    of.drain(True)
    assert (of.draining, services.draining) == (True, True)
    of.leave(services)
    assert of.here().draining
    of.drain(False)
    assert not of.here().draining


async def test_chores_are_done_on_each_loop_that_comes() -> None:
    """With its services."""
    of, done = loops(), list[Services]()
    of.every(lambda: 0.01, done.append)
    services = of.here()
    services.connections = services.carried = 1
    await until(lambda: len(done) >= 2)
    assert set(done) == {services}
    services.carried = 0
    of.leave(services)


async def test_a_period_is_asked_for_when_a_loop_comes() -> None:
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
