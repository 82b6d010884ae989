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
    """Each test runs on asyncio and on trio."""
    return str(request.param)


class Handed:
    """The future that granian's ``send()`` returns: it has begun, and can be checked, awaited and cancelled."""

    def __init__(self, protocol: Protocol, event: Event) -> None:
        self._protocol = protocol
        self._event = event
        protocol.pending.append(event)
        self.done()

    def done(self) -> bool:
        """Whether the event was taken or the send was cancelled."""
        protocol = self._protocol
        if protocol.free.is_set() and self._event in protocol.pending:
            protocol.pending.remove(self._event)
            protocol.sent.append(self._event)
        return self._event not in protocol.pending

    def cancel(self) -> None:
        """Cancel the send."""
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
    """A double of granian's object, which takes every event or none.

    Attributes:
        sent: events that it has taken.
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
        """Return an event."""
        return {"type": "websocket.connect"}

    def send(self, event: Event) -> Awaitable[None]:
        """Take an event, now or when ``free`` is set."""
        return Handed(self, event)


class AnotherVersion(Protocol):
    """A version whose ``send()`` is a coroutine, which begins only when it is awaited."""

    async def send(self, event: Event) -> None:
        """Take an event, now or when ``free`` is set."""
        await Handed(self, event)


Protocol.__module__ = AnotherVersion.__module__ = "granian._granian"


@pytest.fixture(params=[Protocol, AnotherVersion])
def kind(request: pytest.FixtureRequest) -> type[Protocol]:
    """Both versions: the tests that use this hold on either."""
    kind: type[Protocol] = request.param
    return kind


def build(kind: type[Protocol] = Protocol) -> tuple[Protocol, GranianWire]:
    """A protocol object and its wire."""
    protocol = kind()
    wire = recognise({}, protocol.receive, protocol.send)
    assert wire is not None
    return protocol, wire


async def stuck(kind: type[Protocol] = Protocol) -> tuple[Protocol, GranianWire]:
    """A wire whose peer takes nothing, with a message in flight."""
    protocol, wire = build(kind)
    protocol.free = anyio.Event()
    wire.write(Block([Outgoing("never")]))
    with anyio.fail_after(5):
        while not protocol.pending:
            await anyio.lowlevel.checkpoint()
    return protocol, wire


async def test_a_send_of_granian_is_recognised(kind: type[Protocol]) -> None:
    """Its wire is plain ASGI with a row of traits of its own."""
    protocol, wire = build(kind)
    assert wire.traits.server == "granian"
    assert (await wire.receive())["type"] == "websocket.connect"
    await wire.send(Outgoing("a"))
    await wire.close(4000, "done")
    assert [event["type"] for event in protocol.sent] == ["websocket.send", "websocket.close"]


async def test_another_send_is_not_recognised() -> None:
    """It is a function, not a method of granian's object."""

    async def send(event: Event) -> None:
        """The send of an unknown server."""

    assert recognise({}, Protocol().receive, send) is None


async def test_limit_message_size_returns_granians_own_limit_if_smaller() -> None:
    """That limit is 16 MiB, and cannot be changed."""
    _, wire = build()
    assert wire.limit_message_size(1 << 20) is None
    assert wire.limit_message_size(1 << 30) == 1 << 24


async def test_a_stalled_peer_is_dropped_at_the_deadline_of_its_close(kind: type[Protocol]) -> None:
    """The pending send is cancelled, then a pending close: this makes granian drop the connection."""
    protocol, wire = await stuck(kind)
    with anyio.move_on_after(0.01) as patience:
        await wire.close(1013, "slow consumer")
    assert patience.cancelled_caught
    assert protocol.given_up == ["websocket.send", "websocket.close"]
    assert (protocol.pending, wire.buffered()) == ([], 0)


async def test_an_abort_ends_a_waiting_close(kind: type[Protocol]) -> None:
    """A drain does this when its time is over."""
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


async def test_an_abort_cancels_a_pending_send(kind: type[Protocol]) -> None:
    """A pending send would make the worker panic when it is told to stop."""
    protocol, wire = await stuck(kind)
    wire.abort()
    with anyio.fail_after(5):
        while protocol.pending:
            await anyio.lowlevel.checkpoint()
    assert protocol.given_up == ["websocket.send"]


async def test_an_abort_is_over_when_no_granian_thread_holds_a_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads learn of the cancellation a little later; until then the worker must not be stopped."""
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


async def test_a_close_ends_even_if_a_granian_thread_never_lets_go_of_a_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for the threads has a limit; the abort just does not count as over."""
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


async def test_a_detached_wire_does_not_refer_to_granians_object() -> None:
    """granian ends the TCP connection when the last reference is gone."""
    protocol, wire = build()
    wire.detach()
    held: list[Any] = [wire.receive, wire._send]
    assert not any(getattr(each, "__self__", None) is protocol for each in held)
    with pytest.raises(OSError, match="over"):
        await wire.receive()
    with pytest.raises(OSError, match="over"):
        await wire.accept({"type": "websocket.accept"})


async def test_one_send_is_pending_at_a_time_and_the_order_is_kept(kind: type[Protocol]) -> None:
    """Messages that are written meanwhile go behind it."""
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
    """The next write finds that the message was taken."""
    protocol, wire = build()
    for text in ("a", "b", "c"):
        wire.write(Block([Outgoing(text)]))
        assert (wire._writer, wire.writable, wire.buffered()) == (None, True, 0)
    assert [event["text"] for event in protocol.sent] == ["a", "b", "c"]


async def test_a_message_that_is_not_taken_soon_blocks_the_wire() -> None:
    """A stalled peer is noticed even if nothing more is written."""
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


async def test_a_waiting_close_ends_when_the_wire_is_detached(kind: type[Protocol]) -> None:
    """The send that it waits for is cancelled."""
    _, wire = await stuck(kind)

    async def close() -> None:
        with pytest.raises(OSError):
            await wire.close(1000, "")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            await anyio.wait_all_tasks_blocked()
            wire.detach()


async def test_the_result_of_a_send_to_a_departed_peer_is_not_reported_as_unknown(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can only be awaited, unlike a future, but that does not mean another version of granian."""
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


async def test_a_close_waits_for_a_pending_message() -> None:
    """It goes out behind the message."""
    protocol, wire = await stuck()
    async with anyio.create_task_group() as group:
        group.start_soon(wire.close, 1000, "")
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert [event["type"] for event in protocol.pending] == ["websocket.send"]
        protocol.free.set()
    assert [event["type"] for event in protocol.sent] == ["websocket.send", "websocket.close"]
