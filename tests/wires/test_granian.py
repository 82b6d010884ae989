"""The wire to granian, on a double of its protocol object."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from wsstab.payload import Outgoing
from wsstab.types import Event
from wsstab.wires.base import Block
from wsstab.wires.granian import GranianWire, recognise

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


class Protocol:
    """Granian's object, which takes everything or nothing.

    Attributes:
        sent: events that it took.
        pending: events that it has not taken yet.
        given_up: events whose send was cancelled.
    """

    def __init__(self) -> None:
        self.sent: list[Event] = []
        self.pending: list[Event] = []
        self.given_up: list[str] = []
        self.free = anyio.Event()
        self.free.set()

    async def receive(self) -> Event:
        """Some event."""
        return {"type": "websocket.connect"}

    async def send(self, event: Event) -> None:
        """Take an event, now or never."""
        self.pending.append(event)
        try:
            await self.free.wait()
            self.sent.append(event)
        except BaseException:
            self.given_up.append(event["type"])
            raise
        finally:
            self.pending.remove(event)


Protocol.__module__ = "granian._granian"


def build() -> tuple[Protocol, GranianWire]:
    """A protocol object and its wire."""
    protocol = Protocol()
    wire = recognise({}, protocol.receive, protocol.send)
    assert wire is not None
    return protocol, wire


async def stuck() -> tuple[Protocol, GranianWire]:
    """A wire whose peer takes nothing, with a message on its way."""
    protocol, wire = build()
    protocol.free = anyio.Event()
    wire.write(Block([Outgoing("never")]))
    with anyio.fail_after(5):
        while not protocol.pending:
            await anyio.lowlevel.checkpoint()
    return protocol, wire


async def test_a_send_of_granian_is_recognised() -> None:
    """It is plain ASGI with its own row of traits."""
    protocol, wire = build()
    assert wire.traits.server == "granian"
    assert (await wire.receive())["type"] == "websocket.connect"
    await wire.send(Outgoing("a"))
    await wire.close(4000, "done")
    assert [event["type"] for event in protocol.sent] == ["websocket.send", "websocket.close"]


async def test_another_send_is_not() -> None:
    """Neither a function nor a method of something else."""

    async def send(event: Event) -> None:
        """Somebody's."""

    assert recognise({}, Protocol().receive, send) is None


async def test_a_limit_over_granian_s_own_is_told() -> None:
    """Which is 16 MiB, and cannot be changed."""
    _, wire = build()
    assert wire.limit_message_size(1 << 20) is None
    assert wire.limit_message_size(1 << 30) == 1 << 24


async def test_who_takes_nothing_is_dropped_at_the_deadline() -> None:
    """The send is cancelled first, then a close on its way: that makes granian drop the connection."""
    protocol, wire = await stuck()
    with anyio.move_on_after(0.01) as patience:
        await wire.close(1013, "slow consumer")
    assert patience.cancelled_caught
    assert protocol.given_up == ["websocket.send", "websocket.close"]
    assert (protocol.pending, wire.buffered()) == ([], 0)


async def test_an_abort_ends_a_close_that_waits() -> None:
    """As a drain does when its time is over."""
    protocol, wire = await stuck()
    failures: list[OSError] = []

    async def close() -> None:
        try:
            await wire.close(1012, "service restart")
        except OSError as failure:
            failures.append(failure)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            await anyio.sleep(0.01)
            wire.abort()
    assert len(failures) == 1
    assert (protocol.given_up[0], protocol.pending) == ("websocket.send", [])


async def test_an_abort_without_a_close_ends_the_send() -> None:
    """A blocked one would make the worker panic when it is told to stop."""
    protocol, wire = await stuck()
    wire.abort()
    with anyio.fail_after(5):
        while protocol.pending:
            await anyio.lowlevel.checkpoint()
    assert protocol.given_up == ["websocket.send"]


async def test_after_the_call_nothing_refers_to_granian_s_object() -> None:
    """It ends the TCP connection when the last reference is gone."""
    protocol, wire = build()
    wire.detach()
    held: list[Any] = [wire.receive, wire._send]
    assert not any(getattr(each, "__self__", None) is protocol for each in held)
    with pytest.raises(OSError, match="over"):
        await wire.receive()
    with pytest.raises(OSError, match="over"):
        await wire.accept({"type": "websocket.accept"})


async def test_one_send_is_on_its_way_at_a_time_and_the_order_is_kept() -> None:
    """Whatever comes while it waits goes behind it."""
    protocol, wire = await stuck()
    wire.write(Block([Outgoing("b"), Outgoing("c")]))
    wire.write(Block([Outgoing("d")]))
    for _ in range(5):
        await anyio.lowlevel.checkpoint()
    assert (len(protocol.pending), wire.writable, wire.buffered()) == (1, False, 8)
    protocol.free.set()
    with anyio.fail_after(5):
        while not wire.writable:
            await anyio.lowlevel.checkpoint()
    assert [event["text"] for event in protocol.sent] == ["never", "b", "c", "d"]
    assert wire.buffered() == 0
