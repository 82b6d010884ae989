"""Lingering: a place becomes free only when its socket is gone."""

from __future__ import annotations

from typing import cast

import anyio
import pytest
from starlette.websockets import WebSocket

from tests.support.hand import HandLoop
from tests.support.stage import Peer, Stage, on_stage, settle, until
from wsstab.loop.lingering import Lingering, Place
from wsstab.loop.tasks import EventLoop
from wsstab.wires.base import Wire

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


def test_a_place_is_free_when_both_call_and_socket_are_over() -> None:
    """The order does not matter, and the place is freed once."""
    free: list[Place] = []
    lingering = Lingering(free.append)
    gone, stays = Wire(), Wire()
    lingering.leave_place(gone, ("a", None))
    assert free == [("a", None)]
    lingering.add(stays, cast(EventLoop, HandLoop()))
    lingering.leave_place(stays, ("b", "ann"))
    assert (free, len(lingering), stays in lingering) == ([("a", None)], 1, True)
    lingering.end(stays)
    lingering.end(stays)
    assert (free, len(lingering)) == ([("a", None), ("b", "ann")], 0)


class Cut(Wire):
    """A wire that notes that it was aborted."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_lingering_wires_are_aborted_on_their_own_loops() -> None:
    """A wire that is already gone is left alone, and a loop that has ended does no harm."""
    lingering, loops = Lingering(list[Place]().append), [HandLoop(), HandLoop(), HandLoop()]
    wires = [Cut(), Cut(), Cut()]
    for wire, loop in zip(wires, loops, strict=True):
        lingering.add(wire, cast(EventLoop, loop))
    lingering.end(wires[1])
    loops[0].closed = True
    lingering.cut()
    assert [wire.aborted for wire in wires] == [False, False, False]
    assert [loop.turn_until_idle() for loop in loops] == [0, 0, 1]
    assert [wire.aborted for wire in wires] == [False, False, True]


async def test_a_peer_that_does_not_leave_keeps_its_place_until_its_abort() -> None:
    """There are never more sockets than the limit allows."""
    async with on_stage(capable=True, max_connections=2) as stage:
        _, peer = await stage.open(), await stage.open()
        peer.lingers = True
        await peer.connection.close()
        await peer.done.wait()
        await settle()
        assert (stage.manager.get_connection_count(), stage.hub.admission.count) == (1, 2)
        assert await refused(stage) == "websocket.http.response.start"
        stage.pass_time(11)
        await until(lambda: peer.wire is not None and peer.wire.aborted)
        assert stage.hub.admission.count == 1


async def deaf(websocket: WebSocket) -> None:
    """Accept, and sleep whatever happens."""
    await websocket.accept()
    await anyio.sleep_forever()


async def test_a_handler_that_keeps_running_keeps_its_place() -> None:
    """Its peer is gone and no longer listed, but a client must not be able to start ever more handlers."""
    async with on_stage(deaf, capable=True, max_connections=2) as stage:
        for _ in range(2):
            peer = await stage.open()
            assert peer.wire is not None
            peer.leaves()
            peer.wire.end()
        stage.pass_time(3)
        await until(lambda: stage.manager.get_connection_count() == 0)
        assert stage.hub.admission.count == 2
        assert await refused(stage) == "websocket.http.response.start"
        for inner in list(stage.hub.calls):
            inner.carrier.cancel()
        await until(lambda: stage.hub.admission.count == 0)


async def refused(stage: Stage) -> str:
    """How one more is answered."""
    peer = stage.call(Peer())
    await until(lambda: peer.done.is_set())
    return str(peer.sent[0]["type"])
