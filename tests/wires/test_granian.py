"""The wire to granian, on a double of its protocol object."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.support.stage import until
from wsstab.core.frames import Block, Outgoing
from wsstab.types import Event
from wsstab.wires.granian import GranianWire, recognise

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Each test runs on both."""
    return str(request.param)


class Handed:
    """What granian's ``send()`` gives: it has begun, may be asked, awaited and cancelled."""

    def __init__(self, protocol: Protocol, event: Event) -> None:
        self._protocol = protocol
        self._event = event
        protocol.pending.append(event)
        self.done()

    def done(self) -> bool:
        """Whether it was taken or given up."""
        protocol = self._protocol
        if protocol.free.is_set() and self._event in protocol.pending:
            protocol.pending.remove(self._event)
            protocol.sent.append(self._event)
        return self._event not in protocol.pending

    def cancel(self) -> None:
        """Give it up."""
        if not self.done():
            self._protocol.pending.remove(self._event)
            self._protocol.given_up.append(self._event["type"])

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield from self._protocol.free.wait().__await__()
        except BaseException:
            self.cancel()
            raise
        self.done()


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

    def send(self, event: Event) -> Awaitable[None]:
        """Take an event, now or never."""
        return Handed(self, event)


class AnotherVersion(Protocol):
    """One whose ``send()`` is a coroutine, which begins only when it is awaited."""

    async def send(self, event: Event) -> None:
        """Take an event, now or never."""
        await Handed(self, event)


Protocol.__module__ = AnotherVersion.__module__ = "granian._granian"


@pytest.fixture(params=[Protocol, AnotherVersion])
def kind(request: pytest.FixtureRequest) -> type[Protocol]:
    """What holds on every version."""
    kind: type[Protocol] = request.param
    return kind


def build(kind: type[Protocol] = Protocol) -> tuple[Protocol, GranianWire]:
    """A protocol object and its wire."""
    protocol = kind()
    wire = recognise({}, protocol.receive, protocol.send)
    assert wire is not None
    return protocol, wire


async def stuck(kind: type[Protocol] = Protocol) -> tuple[Protocol, GranianWire]:
    """A wire whose peer takes nothing, with a message on its way."""
    protocol, wire = build(kind)
    protocol.free = anyio.Event()
    wire.write(Block([Outgoing("never")]))
    with anyio.fail_after(5):
        while not protocol.pending:
            await anyio.lowlevel.checkpoint()
    return protocol, wire


async def test_a_send_of_granian_is_recognised(kind: type[Protocol]) -> None:
    """It is plain ASGI with its own row of traits."""
    protocol, wire = build(kind)
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


async def test_who_takes_nothing_is_dropped_at_the_deadline(kind: type[Protocol]) -> None:
    """The send is cancelled first, then a close on its way: that makes granian drop the connection."""
    protocol, wire = await stuck(kind)
    with anyio.move_on_after(0.01) as patience:
        await wire.close(1013, "slow consumer")
    assert patience.cancelled_caught
    assert protocol.given_up == ["websocket.send", "websocket.close"]
    assert (protocol.pending, wire.buffered()) == ([], 0)


async def test_an_abort_ends_a_close_that_waits(kind: type[Protocol]) -> None:
    """As a drain does when its time is over."""
    protocol, wire = await stuck(kind)
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


async def test_an_abort_without_a_close_ends_the_send(kind: type[Protocol]) -> None:
    """A blocked one would make the worker panic when it is told to stop."""
    protocol, wire = await stuck(kind)
    wire.abort()
    with anyio.fail_after(5):
        while protocol.pending:
            await anyio.lowlevel.checkpoint()
    assert protocol.given_up == ["websocket.send"]


async def test_an_abort_is_over_when_no_thread_of_granian_has_a_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was cancelled is known to its threads a little later, and so long nobody may stop the worker."""
    threads: list[Any] = []

    def hand(protocol: Protocol, event: Event) -> Awaitable[None]:
        threads.append(Handed(protocol, event))
        handed: Handed = threads[-1]
        return handed

    monkeypatch.setattr(Protocol, "send", hand)
    _, wire = await stuck()
    assert wire.abort_is_over()
    wire.abort()
    assert not wire.abort_is_over()
    threads.clear()
    assert wire.abort_is_over()


async def test_a_close_ends_though_a_thread_of_granian_never_lets_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of it nobody waits for ever; the stop of the worker waits no longer than the drain may take."""
    monkeypatch.setattr("wsstab.wires.granian.LONGEST_GRIP", 0.02)
    threads: list[Any] = []

    def hand(protocol: Protocol, event: Event) -> Awaitable[None]:
        handed = Handed(protocol, event)
        threads.append(handed)
        return handed

    monkeypatch.setattr(Protocol, "send", hand)
    _, wire = await stuck()
    with anyio.fail_after(5), anyio.move_on_after(0.05):
        await wire.close(1012, "")
    wire.abort()
    assert not wire.abort_is_over()


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


async def test_one_send_is_on_its_way_at_a_time_and_the_order_is_kept(kind: type[Protocol]) -> None:
    """Whatever comes while it waits goes behind it."""
    protocol, wire = await stuck(kind)
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


async def test_a_single_message_needs_no_task_and_leaves_the_wire_writable() -> None:
    """The next one finds it taken."""
    protocol, wire = build()
    for text in ("a", "b", "c"):
        wire.write(Block([Outgoing(text)]))
        assert (wire._writer, wire.writable, wire.buffered()) == (None, True, 0)
    assert [event["text"] for event in protocol.sent] == ["a", "b", "c"]


async def test_a_message_that_is_not_taken_soon_blocks_the_wire() -> None:
    """Though nothing more is said: who stalls must be known to."""
    protocol, wire = await stuck()
    told = []
    wire.on_blocked = lambda: told.append("blocked")
    wire.on_writable = lambda: told.append("writable")
    assert (wire.writable, wire.buffered()) == (True, 5)
    with anyio.fail_after(5):
        while wire.writable:
            await anyio.lowlevel.checkpoint()
    assert (told, wire.buffered()) == (["blocked"], 5)
    protocol.free.set()
    with anyio.fail_after(5):
        while not wire.writable:
            await anyio.lowlevel.checkpoint()
    assert (told, wire.buffered(), len(protocol.sent)) == (["blocked", "writable"], 0, 1)


async def test_a_close_that_waits_ends_with_the_call(kind: type[Protocol]) -> None:
    """Nothing is on its way any more that it could wait for."""
    _, wire = await stuck(kind)

    async def close() -> None:
        with pytest.raises(OSError):
            await wire.close(1000, "")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            wire.detach()


async def test_what_is_given_for_a_peer_that_has_left_is_no_other_version(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be awaited, and no more; nothing is said of it."""
    monkeypatch.setattr("wsstab.wires.base._lacking", set())
    protocol, wire = build()
    wire.write(Block([Outgoing("one")]))

    class Empty:
        def __await__(self) -> Generator[Any, Any, None]:
            yield from ()

    wire._send = lambda event: Empty()
    wire.write(Block([Outgoing("two")]))
    await until(lambda: wire.writable)
    assert [event["text"] for event in protocol.sent] == ["one"]
    assert caplog.text == ""


async def test_a_close_waits_for_a_message_on_its_way() -> None:
    """And goes behind it."""
    protocol, wire = await stuck()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.close, 1000, "")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert [event["type"] for event in protocol.pending] == ["websocket.send"]
        protocol.free.set()
    assert [event["type"] for event in protocol.sent] == ["websocket.send", "websocket.close"]
